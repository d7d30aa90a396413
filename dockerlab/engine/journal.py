"""The engine's log: one file that never grows past its bound."""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path

BOUND_BYTES = 1 << 20
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class Journal(logging.Handler):
    """Writes to a file and drops its older half whenever it has grown past the bound.

    The file stays the same one, so that what the interpreter itself prints (it was started with its standard error
    there, in append mode) goes on landing in it.

    Parameters
    ----------
    path : Path
        The file.
    bound_bytes : int
        How large it may grow.
    """

    def __init__(self, path: Path, bound_bytes: int = BOUND_BYTES) -> None:
        super().__init__()
        self._bound_bytes = bound_bytes
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self.setFormatter(logging.Formatter(_FORMAT))

    def emit(self, record: logging.LogRecord) -> None:
        """Write one entry."""
        with contextlib.suppress(OSError):  # a full disk must not keep the engine from working
            os.write(self._file, f"{self.format(record)}\n".encode(errors="replace"))
            size_bytes = os.fstat(self._file).st_size
            if size_bytes > self._bound_bytes:
                kept = os.pread(self._file, self._bound_bytes // 2, size_bytes - self._bound_bytes // 2)
                os.ftruncate(self._file, 0)
                os.write(self._file, kept.partition(b"\n")[2])

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(OSError):
            os.close(self._file)
        super().close()


def end_of(path: Path, limit_bytes: int = 2000) -> str:
    """Give the last lines of a log; empty when there is none."""
    try:
        with path.open("rb") as file:
            size_bytes = file.seek(0, os.SEEK_END)
            file.seek(max(0, size_bytes - limit_bytes))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return text if size_bytes <= limit_bytes else text.partition("\n")[2]

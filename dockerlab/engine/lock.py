"""The lock that the server holds for its whole life: who has it is the engine of that data folder."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

_PATIENCE_S = 2.0  # somebody who only looks holds it for a moment
_PAUSE_S = 0.02


class Lock:
    """A lock on a file, with the holder's process number in it.

    A record lock: unlike flock it is not handed down to a child, so a container that outlives the engine cannot keep
    it. It is gone with the process, kill -9 included.

    Parameters
    ----------
    path : Path
        The file; made when it is not there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = -1

    def take(self) -> bool:
        """Take it; False when another process holds it."""
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + _PATIENCE_S
        while not _try_lock(self._file):
            if time.monotonic() > deadline:
                os.close(self._file)
                self._file = -1
                return False
            time.sleep(_PAUSE_S)
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)
        return True

    def release(self) -> None:
        """Give it back."""
        if self._file >= 0:
            os.ftruncate(self._file, 0)
            os.close(self._file)
            self._file = -1


def holder(path: Path) -> int | None:
    """Give the number of the process that holds the lock; None when nobody does. Not for the holder itself."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if _try_lock(file):
            return None
        with contextlib.suppress(ValueError):
            return int(os.pread(file, 32, 0))
        return None  # it has just been taken and its number is not written yet
    finally:
        os.close(file)


def _try_lock(file: int) -> bool:
    import fcntl  # noqa: PLC0415  not on Windows, where this module is only imported

    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True

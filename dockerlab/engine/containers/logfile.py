"""The rows of a log on disk: two files, of which the older one goes when the newer one is full."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

FILE_BYTES = 32 << 20
_BLOCK_BYTES = 1 << 16
_AT_ONCE_BYTES = 1 << 20  # more than the longest row
_CUT = b'{"cut":true}\n'  # the first row of every file but the first one


class LogFile:
    """Rows that end with a newline. A place in it counts from the first row ever written, also when that is gone.

    Parameters
    ----------
    path : Path
        Of the newer file; the older one is beside it.
    limit_bytes : int
        For each of the two.
    """

    def __init__(self, path: Path, limit_bytes: int = FILE_BYTES) -> None:
        self._path = path
        self._older = path.with_suffix(".old")
        self._limit_bytes = limit_bytes
        self._lock = threading.Lock()  # readers are threads, and must not see half an exchange
        self._descriptor = -1
        self._size = 0
        self._gone = 0  # bytes of files that were dropped since the engine began
        self._older_size = self._older.stat().st_size if self._older.exists() else 0

    def append(self, rows: bytes) -> None:
        """Write rows; blocks for microseconds.

        Raises
        ------
        OSError
            There is no room.
        """
        self._open()
        if self._size and self._size + len(rows) > self._limit_bytes:
            with self._lock:
                self.close()
                self._path.replace(self._older)
                self._gone, self._older_size = self._gone + self._older_size, self._size
                self._open()
            rows = _CUT + rows
        self._size += os.write(self._descriptor, rows)

    def close(self) -> None:
        """Close the file; it is opened again when there is something to write."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def read(self, place: int) -> tuple[bytes, int]:
        """Give whole rows from a place on, a megabyte at most, and the place behind them. Blocks."""
        with self._files() as files:
            for start, file in files:
                file.seek(max(0, place - start))
                block = file.read(_AT_ONCE_BYTES) if place - start < os.fstat(file.fileno()).st_size else b""
                end = block.rfind(b"\n") + 1
                if end:
                    return block[:end], max(place, start) + end
        return b"", place

    def backwards(self) -> Iterator[tuple[int, bytes]]:
        """Give place and content of each row, the last first. Blocks."""
        with self._files() as files:
            for start, file in reversed(files):
                for place, row in _backwards(file):
                    yield start + place, row

    def end(self) -> int:
        """Give the place behind the last row. Blocks."""
        with self._files() as files:
            return max((start + os.fstat(file.fileno()).st_size for start, file in files), default=0)

    def is_cut(self) -> bool:
        """Tell whether the first rows are gone. Blocks."""
        with self._files() as files:
            return len(files) > 1 and files[0][1].read(len(_CUT)) == _CUT

    def _open(self) -> None:
        if self._descriptor < 0:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._descriptor = os.open(self._path, flags, 0o600)
            self._size = os.fstat(self._descriptor).st_size

    @contextmanager
    def _files(self) -> Iterator[list[tuple[int, BinaryIO]]]:
        """Open what there is, the older one first, each with the place where it begins."""
        with contextlib.ExitStack() as stack:
            files: list[tuple[int, BinaryIO]] = []
            with self._lock:
                for start, path in ((self._gone, self._older), (self._gone + self._older_size, self._path)):
                    with contextlib.suppress(FileNotFoundError):
                        files.append((start, stack.enter_context(path.open("rb"))))
            yield files


def _backwards(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    rest = b""
    end = file.seek(0, os.SEEK_END)
    while end > 0:
        start = max(0, end - _BLOCK_BYTES)
        file.seek(start)
        block = file.read(end - start) + rest
        rows = block.split(b"\n")
        place = start + len(block)
        for index in range(len(rows) - 1, 0 if start else -1, -1):
            place -= len(rows[index])
            if rows[index]:
                yield place, rows[index]
            place -= 1  # the newline before it
        rest = rows[0] if start else b""
        end = start

"""Files of the store: mapped, written, removed below a descriptor."""

from __future__ import annotations

import contextlib
import errno
import itertools
import mmap
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from dockerlab.engine.refusals import failed

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextlib.contextmanager
def mapped(path: Path) -> Iterator[memoryview]:
    """Give the bytes of a file without reading them into memory."""
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            yield memoryview(b"")
            return
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    view = memoryview(data)
    try:
        yield view
    finally:
        with contextlib.suppress(BufferError):  # an error on its way up may hold a slice: it goes when that does
            view.release()
            data.close()


def remove_tree(name: str, folder: int) -> None:
    """Remove a folder with what is in it, however deep (rmtree of Python 3.10 does not take a descriptor)."""
    top = os.open(name, _FOLDER_FLAGS, dir_fd=folder)
    try:
        mark = secrets.token_hex(8)
        numbers = itertools.count()
        waiting = _clear(top)
        while waiting:
            inner = waiting.pop()
            descriptor = os.open(inner, _FOLDER_FLAGS, dir_fd=top)
            try:
                for one in _clear(descriptor):  # up they go, so that neither paths nor open folders add up
                    moved = f"{mark}-{next(numbers)}"
                    os.rename(one, moved, src_dir_fd=descriptor, dst_dir_fd=top)
                    waiting.append(moved)
            finally:
                os.close(descriptor)
            os.rmdir(inner, dir_fd=top)
    finally:
        os.close(top)
    os.rmdir(name, dir_fd=folder)


def _clear(folder: int) -> list[str]:
    """Remove the files of a folder; gives the folders in it."""
    with os.scandir(folder) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_folder in found:
        if not is_folder:
            os.unlink(name, dir_fd=folder)
    return [name for name, is_folder in found if is_folder]


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """Say that the disk is full in the words by which clients know it."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise failed("write to the image store: no space left on device") from error
        raise


def write_all(descriptor: int, data: bytes) -> None:
    """Write everything, also where the kernel takes a part at a time."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]

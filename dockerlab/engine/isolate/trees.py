"""Trees of files: copied, laid over one another. All functions block."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from pathlib import Path

from dockerlab.engine.files import remove
from dockerlab.engine.isolate.stack import OPAQUE, WHITEOUT, is_opaque, is_whiteout

_NO_COPY_IN_THE_KERNEL = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM)


def copy(source: Path, target: Path) -> None:
    """Copy a tree with modes, times and links; blocks are shared where the file system can."""
    target.mkdir()
    _copy_below(str(source), str(target), {})


def _copy_below(source: str, target: str, seen: dict[int, str]) -> None:
    with os.scandir(source) as entries:
        for entry in entries:
            found, copy = entry.stat(follow_symlinks=False), f"{target}/{entry.name}"
            if stat.S_ISDIR(found.st_mode):
                os.mkdir(copy)
                _copy_below(entry.path, copy, seen)
            elif stat.S_ISLNK(found.st_mode):
                try:  # a link never changes, and one more name for it costs less than one more link
                    os.link(entry.path, copy, follow_symlinks=False)
                except OSError:
                    os.symlink(os.readlink(entry.path), copy)
            elif found.st_nlink > 1 and found.st_ino in seen:
                os.link(seen[found.st_ino], copy)
            elif stat.S_ISREG(found.st_mode):
                seen[found.st_ino] = copy
                _copy_file(entry.path, copy, found)
            elif stat.S_ISFIFO(found.st_mode):
                os.mkfifo(copy, found.st_mode)
    shutil.copystat(source, target)


def _copy_file(source: str, target: str, found: os.stat_result) -> None:
    read = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        write = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            left = found.st_size
            while left > 0:
                left -= _copy_some(read, write, left) or left
            os.fchmod(write, stat.S_IMODE(found.st_mode))
            os.utime(write, ns=(found.st_atime_ns, found.st_mtime_ns))
        finally:
            os.close(write)
    finally:
        os.close(read)


def _copy_some(read: int, write: int, left: int) -> int:
    try:
        return os.copy_file_range(read, write, left)
    except OSError as error:
        if error.errno not in _NO_COPY_IN_THE_KERNEL:
            raise
        return os.sendfile(write, read, None, left)


def apply(layer: Path, root: Path) -> None:
    """Lay one layer over a folder: its files replace, its whiteouts delete."""
    for parent, folders, names in os.walk(layer):
        relative = os.path.relpath(parent, layer)
        below = root / relative
        if OPAQUE in names or is_opaque(Path(parent)):
            for child in below.iterdir():
                remove(child)
        for name in list(folders):
            target = below / name
            if os.path.islink(f"{parent}/{name}"):
                folders.remove(name)
                names.append(name)
            elif not target.is_dir() or target.is_symlink():
                remove(target)
                target.mkdir()
        for name in names:
            if name.startswith(WHITEOUT):
                if name != OPAQUE:
                    remove(below / name[len(WHITEOUT) :])
                continue
            source, target = Path(parent, name), below / name
            remove(target)
            found = os.lstat(source)
            if is_whiteout(found):
                continue
            try:
                os.link(source, target, follow_symlinks=False)
            except OSError:
                shutil.copy2(source, target, follow_symlinks=False)
        shutil.copystat(parent, below)

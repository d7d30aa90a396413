"""Files of a container, reached from outside without ever leaving its root.

Every path is walked one name at a time with descriptors, and links are read rather than followed: whatever a container
has put in the way, or puts there meanwhile, nothing of this machine is read or written. All functions block.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import stat as modes
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import BinaryIO

from dockerlab.engine.images.compression import chunks
from dockerlab.engine.images.tarball import FIFO, FILE, FOLDER, LINK, SYMLINK, Header, headers
from dockerlab.engine.refusals import RefusalError, bad

MOST_FOLDERS = 256
"""How deep a path may be: each folder on the way costs a descriptor."""

MOST_ENTRIES, MOST_BYTES = 200_000, 8 << 30
"""The limits of an archive that is unpacked into a container."""

_MAX_LINKS, _PATH_MAX = 40, 4096
_CHUNK = 1 << 20
_O_PATH_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def locate(root: int, path: str, *, follow: bool = True, make: bool = False) -> Iterator[tuple[int, str]]:
    """Find where a path leads.

    Parameters
    ----------
    root : int
        Descriptor of the container's root.
    path : str
        Path inside; a relative one counts from the root.
    follow : bool
        Whether to follow a link that is the last name of the path.
    make : bool
        Whether to make folders on the way that are not there.

    Yields
    ------
    tuple of (int, str)
        Descriptor of the folder, and the name in it; ``"."`` for the root itself. The name need not exist.

    Raises
    ------
    OSError
        ENOENT, ENOTDIR, ELOOP as the kernel would.
    """
    waiting = _parts(path)
    folders = [os.dup(root)]
    links = 0
    name = "."
    try:
        while waiting:
            part = waiting.pop()
            if part == "..":
                if len(folders) > 1:
                    os.close(folders.pop())
                name = "."
                continue
            target = _link(folders[-1], part) if waiting or follow else None
            if target is not None:
                links += 1
                if links > _MAX_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                if target.startswith("/"):
                    while len(folders) > 1:
                        os.close(folders.pop())
                waiting += _parts(target)
                name = "."
                continue
            if not waiting:
                name = part
                break
            if len(folders) > MOST_FOLDERS:
                raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), path)
            folders.append(_enter(folders[-1], part, make=make))
        yield folders[-1], name
    finally:
        for folder in folders:
            os.close(folder)


def _parts(path: str) -> list[str]:
    """Give the names of a path, last first."""
    if len(path) > _PATH_MAX:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), path[:80])
    return [part for part in path.split("/") if part not in ("", ".")][::-1]


def open_file(root: int, path: str, flags: int, mode: int = 0o644) -> int:
    """Open a file of a container like ``os.open``; the caller closes the descriptor."""
    with locate(root, path) as (folder, name):
        return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=folder)


def stat(root: int, path: str, *, follow: bool = True) -> os.stat_result:
    """Give what is known about a path of a container."""
    with locate(root, path, follow=follow) as (folder, name):
        return os.stat(name, dir_fd=folder, follow_symlinks=False)


def readlink(root: int, path: str) -> str:
    """Give where a link of a container points."""
    with locate(root, path, follow=False) as (folder, name):
        return os.readlink(name, dir_fd=folder)


def read_bytes(root: int, path: str, limit: int = _CHUNK) -> bytes:
    """Read a regular file of a container, at most ``limit`` bytes of it."""
    descriptor = open_file(root, path, os.O_RDONLY | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        if not modes.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        return file.read(limit)


def mkdirs(root: int, path: str, mode: int = 0o755) -> None:
    """Make a folder and those above it; nothing happens when it is there."""
    with locate(root, path, make=True) as (folder, name):
        if name == ".":
            return
        try:
            os.mkdir(name, mode, dir_fd=folder)
        except FileExistsError:
            if not modes.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path) from None


def pack(root: int, path: str, target: BinaryIO, *, whole: bool = False) -> None:
    """Write a file or folder of a container as a tar archive, named by its last name, as ``docker cp`` wants it.

    Parameters
    ----------
    whole : bool
        Name everything from the root on and leave out what is mounted, as ``docker export`` wants it.
    """
    with (
        tarfile.open(fileobj=target, mode="w|", format=tarfile.PAX_FORMAT) as archive,
        locate(root, path, follow=False) as (folder, name),
    ):
        base = "" if whole else PurePosixPath("/" + path).name or "."
        device = os.stat(root).st_dev if whole else -1
        _Packer(archive, device).add(folder, name, base)


def unpack(root: int, path: str, source: BinaryIO) -> None:
    """Unpack a tar archive, compressed or not, into a folder of a container.

    Raises
    ------
    RefusalError
        The archive is broken, too big, or wants to be outside of that folder (400); there is no room (500).
    """
    with tempfile.TemporaryFile() as spool:
        size = 0
        try:
            for chunk in chunks(source):
                size += len(chunk)
                if size > MOST_BYTES:
                    raise bad(f"the archive holds more than {MOST_BYTES >> 30} GiB")
                spool.write(chunk)
            spool.flush()
            if not size:
                return
            with mmap.mmap(spool.fileno(), size, access=mmap.ACCESS_READ) as content, memoryview(content) as data:
                for count, entry in enumerate(headers(data), 1):
                    if count > MOST_ENTRIES:
                        raise bad(f"the archive has more than {MOST_ENTRIES} entries")
                    _unpack_one(root, path, data, entry)
        except (OSError, ValueError) as error:
            raise trouble(error, path) if isinstance(error, OSError) else bad(str(error)) from error


def trouble(error: OSError, path: str) -> RefusalError:
    """Turn trouble with a file of a container into an answer."""
    what = f"{error.strerror or error}: {error.filename or path}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return RefusalError(500, f"{path}: no space left on device")
    return RefusalError(404 if error.errno == errno.ENOENT else 400, what)


def open_anyway(name: str, flags: int, folder: int | None = None) -> int:
    """Open a file or folder of our own also where its modes forbid even its owner to read it; they stay as they are."""
    try:
        return os.open(name, flags, dir_fd=folder)
    except PermissionError:
        path = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        try:
            mode, place = modes.S_IMODE(os.fstat(path).st_mode), f"/proc/self/fd/{path}"
            os.chmod(place, mode | 0o700)
            try:
                return os.open(place, flags & ~os.O_NOFOLLOW)
            finally:
                os.chmod(place, mode)
        finally:
            os.close(path)


def _link(folder: int, name: str) -> str | None:
    """Give where a name points, None when it is not a link."""
    try:
        return os.readlink(name, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOENT):
            return None
        raise


def _enter(folder: int, name: str, *, make: bool) -> int:
    try:
        return os.open(name, _O_PATH_FOLDER, dir_fd=folder)
    except FileNotFoundError:
        if not make:
            raise
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o755, dir_fd=folder)
    return os.open(name, _O_PATH_FOLDER, dir_fd=folder)


class _Packer:
    """Adds a tree to an archive, looking at each name once and never following a link."""

    def __init__(self, archive: tarfile.TarFile, device: int) -> None:
        self._archive = archive
        self._device = device
        self._seen: dict[tuple[int, int], str] = {}

    def add(self, folder: int, name: str, arcname: str) -> None:
        """Add one name and what is below it."""
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        entry = describe(found, arcname)
        if modes.S_ISLNK(found.st_mode):
            entry.type, entry.linkname = tarfile.SYMTYPE, os.readlink(name, dir_fd=folder)
            self._archive.addfile(entry)
        elif modes.S_ISREG(found.st_mode):
            self._add_file(folder, name, entry, found)
        elif modes.S_ISDIR(found.st_mode):
            self._add_folder(folder, name, entry, found)
        elif modes.S_ISFIFO(found.st_mode):
            entry.type = tarfile.FIFOTYPE
            self._archive.addfile(entry)

    def _add_file(self, folder: int, name: str, entry: tarfile.TarInfo, found: os.stat_result) -> None:
        key = (found.st_dev, found.st_ino)
        if found.st_nlink > 1:
            if key in self._seen:
                entry.type, entry.linkname = tarfile.LNKTYPE, self._seen[key]
                self._archive.addfile(entry)
                return
            self._seen[key] = entry.name
        descriptor = open_anyway(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, folder)
        with os.fdopen(descriptor, "rb") as file:
            entry.size = os.fstat(descriptor).st_size
            self._archive.addfile(entry, _Exactly(file, entry.size))

    def _add_folder(self, folder: int, name: str, entry: tarfile.TarInfo, found: os.stat_result) -> None:
        entry.type = tarfile.DIRTYPE
        if entry.name:
            self._archive.addfile(entry)
        if self._device not in (-1, found.st_dev):
            return
        if entry.name.count("/") > MOST_FOLDERS:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), entry.name[:80])
        below = open_anyway(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, folder)
        try:
            for child in sorted(os.listdir(below)):
                with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                    self.add(below, child, f"{entry.name}/{child}" if entry.name else child)
        finally:
            os.close(below)


class _Exactly:
    """A file that gives exactly so many bytes, also when it shrinks while it is read."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._left = size

    def read(self, size: int = -1) -> bytes:
        wanted = self._left if size < 0 else min(size, self._left)
        content = self._file.read(wanted)
        content += b"\0" * (wanted - len(content))
        self._left -= wanted
        return content


def describe(found: os.stat_result, name: str) -> tarfile.TarInfo:
    """Make the header of a file for an archive; all files of a container belong to its root."""
    entry = tarfile.TarInfo(name)
    entry.mode = modes.S_IMODE(found.st_mode)
    entry.mtime = int(found.st_mtime)
    return entry


def _unpack_one(root: int, base: str, data: memoryview, entry: Header) -> None:
    parts = [part for part in entry.name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise bad(f"the archive wants to leave its folder: {entry.name}")
    if not parts:
        return
    with locate(root, "/".join([base, *parts]), follow=False, make=True) as (folder, name):
        if entry.kind == FOLDER:
            _make_folder(folder, name, entry.mode)
            return
        _clear(folder, name)
        if entry.kind == FILE:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(name, flags, 0o600, dir_fd=folder), "wb") as file:
                for begin in range(entry.offset, entry.offset + entry.size, _CHUNK):
                    file.write(data[begin : min(begin + _CHUNK, entry.offset + entry.size)])
                file.flush()
                os.fchmod(file.fileno(), entry.mode & 0o7777)
        elif entry.kind == SYMLINK:
            os.symlink(entry.target, name, dir_fd=folder)
        elif entry.kind == LINK:
            _hard_link(root, base, entry.target, folder, name)
        elif entry.kind == FIFO:
            os.mkfifo(name, entry.mode & 0o777, dir_fd=folder)
        else:
            raise bad(f"devices cannot be unpacked here: {entry.name}")
        with contextlib.suppress(OSError, OverflowError, ValueError):
            os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=folder, follow_symlinks=False)


def _hard_link(root: int, base: str, target: str, folder: int, name: str) -> None:
    parts = [part for part in target.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise bad(f"the archive wants to leave its folder: {target}")
    with locate(root, "/".join([base, *parts]), follow=False) as (other_folder, other):
        os.link(other, name, src_dir_fd=other_folder, dst_dir_fd=folder, follow_symlinks=False)


def _make_folder(folder: int, name: str, mode: int) -> None:
    if name == ".":
        return
    try:
        os.mkdir(name, 0o755, dir_fd=folder)
    except FileExistsError:
        if not modes.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            os.unlink(name, dir_fd=folder)
            os.mkdir(name, 0o755, dir_fd=folder)
    descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        os.fchmod(descriptor, mode & 0o7777 | 0o700)
    finally:
        os.close(descriptor)


def _clear(folder: int, name: str) -> None:
    """Make room for a file; a folder in its place stays and is an error."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)

"""What a container changed: read from the upper folder of its overlay, or by comparing its copy. All of it blocks."""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from dockerlab.engine.isolate.inside import describe, open_anyway
from dockerlab.engine.isolate.stack import OPAQUE, WHITEOUT, is_opaque, is_whiteout

MODIFIED, ADDED, DELETED = 0, 1, 2
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class Entry:
    """A path that differs: how, and whether it is a folder that hides all that lower layers have there."""

    path: str
    kind: int
    opaque: bool = False


@contextmanager
def _listed(folder: Path) -> Iterator[Iterator[os.DirEntry[str]]]:
    """List a folder also where its modes forbid that; the entries are good within the block."""
    mode = os.lstat(folder).st_mode
    if mode & 0o500 == 0o500:
        with os.scandir(folder) as entries:
            yield entries
        return
    os.chmod(folder, stat.S_IMODE(mode) | 0o500)
    try:
        with os.scandir(folder) as entries:
            yield entries
    finally:
        os.chmod(folder, stat.S_IMODE(mode))


def of_overlay(upper: Path, lower: Sequence[Path]) -> Iterator[Entry]:
    """Walk through the upper folder of an overlay; ``lower`` is what it lies over, topmost first."""

    def walk(relative: str, hidden: bool) -> Iterator[Entry]:
        with _listed(upper / relative) as entries:
            for entry in entries:
                path = f"{relative}/{entry.name}" if relative else entry.name
                found = entry.stat(follow_symlinks=False)
                was_there = not hidden and _lies_below(lower, path)
                if is_whiteout(found):
                    if was_there:
                        yield Entry(path, DELETED)
                    continue
                is_folder = stat.S_ISDIR(found.st_mode)
                opaque = is_folder and is_opaque(Path(entry.path))
                yield Entry(path, MODIFIED if was_there else ADDED, opaque and was_there)
                if is_folder:
                    yield from walk(path, hidden or opaque or not was_there)

    yield from walk("", False)


def _lies_below(layers: Sequence[Path], path: str) -> bool:
    """Tell whether a path exists in layers (topmost first)."""
    parts = path.split("/")
    for layer in layers:
        try:
            return not is_whiteout(os.lstat(layer / path))
        except (FileNotFoundError, NotADirectoryError):
            for depth in range(1, len(parts)):
                folder = layer.joinpath(*parts[:depth])
                if not os.path.lexists(folder):
                    break
                if is_opaque(folder) or not stat.S_ISDIR(os.lstat(folder).st_mode):
                    return False
    return False


def of_copy(root: Path, before: Path) -> Iterator[Entry]:
    """Compare a copy with what it was a copy of."""

    def walk(relative: str) -> Iterator[Entry]:
        old_names = set(os.listdir(before / relative))
        with _listed(root / relative) as entries:
            for entry in entries:
                path = f"{relative}/{entry.name}" if relative else entry.name
                found = entry.stat(follow_symlinks=False)
                is_folder = stat.S_ISDIR(found.st_mode)
                if entry.name not in old_names:
                    yield Entry(path, ADDED)
                    if is_folder:
                        yield from (Entry(below, ADDED) for below in _all_below(root, path))
                    continue
                old_names.discard(entry.name)
                old = os.lstat(before / path)
                if is_folder and stat.S_ISDIR(old.st_mode):
                    below = list(walk(path))
                    # The time of a folder alone says nothing: entries of it that came and went change it too
                    if below or old.st_mode != found.st_mode:
                        yield Entry(path, MODIFIED)
                    yield from below
                elif is_folder or not _same(before / path, old, root / path, found):
                    if is_folder or stat.S_ISDIR(old.st_mode):
                        yield Entry(path, MODIFIED, is_folder)
                        if is_folder:
                            yield from (Entry(below, ADDED) for below in _all_below(root, path))
                    else:
                        yield Entry(path, MODIFIED)
        for name in old_names:
            yield Entry(f"{relative}/{name}" if relative else name, DELETED)

    yield from walk("")


def _all_below(root: Path, relative: str) -> Iterator[str]:
    for parent, folders, names in os.walk(root / relative):
        for name in (*folders, *names):
            yield os.path.relpath(os.path.join(parent, name), root)


def _same(old_file: Path, old: os.stat_result, new_file: Path, new: os.stat_result) -> bool:
    """Tell whether a file is as it was."""
    if stat.S_IFMT(old.st_mode) == stat.S_IFMT(new.st_mode) == stat.S_IFLNK:
        return os.readlink(old_file) == os.readlink(new_file)
    if (old.st_mode, old.st_size) != (new.st_mode, new.st_size):
        return False
    # Written to, as the time says, is modified, as with Docker: also when the content came out the same
    return old.st_mtime_ns == new.st_mtime_ns or not stat.S_ISREG(new.st_mode)


def _add(archive: tarfile.TarFile, file: Path, path: str, seen: dict[tuple[int, int], str]) -> None:
    """Add one file of a layer to its archive."""
    found = os.lstat(file)
    entry = describe(found, path)
    if stat.S_ISLNK(found.st_mode):
        entry.type, entry.linkname = tarfile.SYMTYPE, os.readlink(file)
    elif stat.S_ISDIR(found.st_mode):
        entry.type = tarfile.DIRTYPE
    elif stat.S_ISFIFO(found.st_mode):
        entry.type = tarfile.FIFOTYPE
    elif stat.S_ISREG(found.st_mode):
        key = (found.st_dev, found.st_ino)
        if found.st_nlink > 1 and key in seen:
            entry.type, entry.linkname = tarfile.LNKTYPE, seen[key]
        else:
            seen[key] = path
            entry.size = found.st_size
            with os.fdopen(open_anyway(str(file), _READ), "rb") as content:
                archive.addfile(entry, content)
            return
    else:
        return  # sockets live as long as their program
    archive.addfile(entry)


def write_layer(top: Path, entries: Iterable[Entry], target: BinaryIO) -> None:
    """Write changes as the tar archive of a layer, in the order of their paths; all files belong to root."""
    seen: dict[tuple[int, int], str] = {}
    with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for entry in sorted(entries, key=lambda one: one.path):
            if entry.kind == DELETED:
                parent, _, name = entry.path.rpartition("/")
                archive.addfile(tarfile.TarInfo(f"{parent}/{WHITEOUT}{name}" if parent else WHITEOUT + name))
                continue
            _add(archive, top / entry.path, entry.path, seen)
            if entry.opaque:
                archive.addfile(tarfile.TarInfo(f"{entry.path}/{OPAQUE}"))

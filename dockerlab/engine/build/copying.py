"""COPY and ADD: from what is to be copied to the tar archive of a layer. All functions block."""

from __future__ import annotations

import posixpath
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from dockerlab.engine.build.sources import Source
from dockerlab.engine.images.layers import mapped
from dockerlab.engine.images.paths import DEPTH_LIMIT
from dockerlab.engine.images.record import Limits
from dockerlab.engine.images.tarball import FILE, FOLDER, LINK, headers
from dockerlab.engine.images.tree import Entry, Tree
from dockerlab.engine.refusals import bad

_HOPS = 40
_WHITEOUT = ".wh."


@dataclass(frozen=True)
class Item:
    """One entry of the layer that is made.

    Attributes
    ----------
    kind : bytes
        Of tarfile's types.
    mode, uid, gid : int
    mtime_s : int
    size : int
        Bytes of content.
    target : str
        Where a link points.
    file : Path or None
        Has the content.
    offset : int
        Where in `file` it begins.
    """

    kind: bytes
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    mtime_s: int = 0
    size: int = 0
    target: str = ""
    file: Path | None = None
    offset: int = 0


_KINDS = {"file": tarfile.REGTYPE, "folder": tarfile.DIRTYPE, "link": tarfile.SYMTYPE, "fifo": tarfile.FIFOTYPE}


class Copy:
    """One COPY or ADD on its way to a layer.

    Parameters
    ----------
    base : Tree
        What the image has already.
    owner : (int, int) or None
        From ``--chown``.
    mode : int or None
        From ``--chmod``.
    now_s : float
        Time of folders that have none.
    limits : Limits, optional
        What a layer may have.
    """

    def __init__(
        self,
        base: Tree,
        *,
        owner: tuple[int, int] | None,
        mode: int | None,
        now_s: float,
        limits: Limits | None = None,
    ) -> None:
        self._base = base
        self._owner = owner or (0, 0)
        self._mode = mode
        self._now_s = int(now_s)
        self._limits = limits or Limits()
        self._items: dict[str, Item] = {}

    def add(self, sources: Sequence[Source], destination: str, *, archives: dict[str, Path] | None = None) -> None:
        """Copy to a path.

        Parameters
        ----------
        sources : sequence of Source
        destination : str
            Absolute; ends in a slash where it must be a folder.
        archives : dict of str to Path
            Those sources, by their path, that are archives to be unpacked: the plain tar.

        Raises
        ------
        RefusalError
            400, in Docker's words: something is in the way.
        """
        for source in sources:
            place = self._resolve(destination)
            archive = (archives or {}).get(source.entry.path)
            if source.entry.kind == "folder":
                self._copy_folder(source, place)
            elif archive is not None:
                self._unpack(archive, place)
            else:
                there = self._at(place)
                if destination.endswith("/") or (there is not None and there.kind == tarfile.DIRTYPE):
                    self._folders(place, self._owner)
                    place = posixpath.join(place, source.name)
                else:
                    self._folders(posixpath.dirname(place), self._owner)
                self._copy_file(source.entry, place)

    def make_folder(self, path: str) -> None:
        """Make a folder for WORKDIR, and what is missing above it."""
        self._folders(self._resolve(path), (0, 0))

    @property
    def empty(self) -> bool:
        """Whether the layer would change nothing."""
        return not self._items

    def write(self, target: BinaryIO) -> None:
        """Write the tar archive of the layer: parents before children, hard links last."""
        with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for path, item in sorted(
                self._items.items(), key=lambda one: (one[1].kind == tarfile.LNKTYPE, one[0].split("/"))
            ):
                info = tarfile.TarInfo(path.lstrip("/") or "./")
                info.type, info.mode, info.uid, info.gid = item.kind, item.mode, item.uid, item.gid
                info.mtime, info.linkname, info.size = item.mtime_s, item.target, item.size
                if item.file is None:
                    archive.addfile(info)
                    continue
                with item.file.open("rb") as content:
                    content.seek(item.offset)
                    archive.addfile(info, content)

    def _copy_folder(self, source: Source, place: str) -> None:
        there = self._at(place)
        if there is not None and there.kind != tarfile.DIRTYPE:
            raise bad(f"failed to copy files: failed to copy directory: mkdir {place}: not a directory")
        self._folders(posixpath.dirname(place), (0, 0))
        self._folders(place, self._owner)
        prefix = len(source.entry.path.rstrip("/")) + 1
        for entry in source.tree.walk(source.entry.path):
            if entry.path != source.entry.path:
                self._copy_file(entry, posixpath.join(place, entry.path[prefix:]), merge=there is not None)

    def _copy_file(self, entry: Entry, place: str, *, merge: bool = True) -> None:
        kind = _KINDS.get(entry.kind)
        if kind is None or posixpath.basename(place).startswith(_WHITEOUT):
            return
        item = self._item(entry, kind)
        if self._mode is not None and kind != tarfile.SYMTYPE:
            item = replace(item, mode=self._mode)
        self._put(place, item, merge=merge)

    def _item(self, entry: Entry, kind: bytes) -> Item:
        uid, gid = self._owner
        content = entry.source if kind == tarfile.REGTYPE else None
        return Item(kind, entry.mode & 0o1777, uid, gid, entry.mtime_ns // 10**9, entry.size, entry.target, content)

    def _unpack(self, archive: Path, place: str) -> None:
        """Unpack an archive with the owners, modes and times that it has."""
        self._folders(place, (0, 0))
        with mapped(archive) as data:
            for header in headers(data):
                parts = [part for part in header.name.split("/") if part not in ("", ".")]
                if ".." in parts:
                    raise bad(f"ADD failed: {header.name!r} leads out of the archive")
                self._bound("/".join((place, *parts)))
                if not parts or parts[-1].startswith(_WHITEOUT):
                    continue
                parent = self._resolve("/".join((place, *parts[:-1])))
                self._folders(parent, (0, 0))
                target = header.target
                if header.kind == LINK:
                    inside = [part for part in target.split("/") if part not in ("", ".")]
                    if ".." in inside or not inside:
                        raise bad(f"ADD failed: {header.name!r} is a hard link out of the archive")
                    where = self._resolve("/".join((place, *inside[:-1])))
                    target = posixpath.join(where, inside[-1]).lstrip("/")
                kind = tarfile.REGTYPE if header.kind == FILE else header.kind.encode()
                content = archive if header.kind == FILE else None
                item = Item(
                    kind,
                    header.mode,
                    header.uid,
                    header.gid,
                    header.mtime_ns // 10**9,
                    header.size,
                    target,
                    content,
                    header.offset,
                )
                place_ = posixpath.join(parent, parts[-1])
                self._put(place_, item, replaces=header.kind != FOLDER)

    def _put(self, place: str, item: Item, *, merge: bool = True, replaces: bool = False) -> None:
        """Set what is at a path; a folder cannot be replaced by something else."""
        self._bound(place)
        if item.kind != tarfile.DIRTYPE and (merge or place in self._items):
            there = self._at(place)
            if there is not None and there.kind == tarfile.DIRTYPE:
                if not replaces or any(path.startswith(f"{place}/") for path in self._items):
                    raise bad(f'failed to copy files: cannot overwrite directory "{place}" with non-directory')
                self._items.pop(place, None)
        self._items[place] = item

    def _folders(self, path: str, owner: tuple[int, int]) -> None:
        """Have a folder and everything above it in the layer: as it is, or new."""
        self._bound(path)
        missing = []
        while path not in self._items or self._items[path].kind != tarfile.DIRTYPE:
            missing.append(path)
            if path in ("/", ""):
                break
            path = posixpath.dirname(path)
        for one in reversed(missing):
            self._folder(one, owner)

    def _folder(self, path: str, owner: tuple[int, int]) -> None:
        there = self._at(path)
        if there is None:
            self._items[path] = Item(tarfile.DIRTYPE, 0o755, *owner, self._now_s)
        elif there.kind != tarfile.DIRTYPE:
            raise bad(f"failed to copy files: failed to create new directory: mkdir {path}: not a directory")
        elif path != "/":
            self._items[path] = there

    def _bound(self, path: str) -> None:
        """Refuse a path, and a number of them, that no layer may have; before much work is put into it."""
        if len(path) > self._limits.path_bytes or path.count("/") > DEPTH_LIMIT:
            raise bad(f"failed to copy files: the path {path[:100]}... is too long or too deep")
        if len(self._items) > self._limits.entries:
            raise bad(f"failed to copy files: too many files and folders: at most {self._limits.entries} are taken")

    def _at(self, path: str) -> Item | None:
        """Give what is at a path that has no links in it: of this layer, or below."""
        if path in ("", "/"):
            return Item(tarfile.DIRTYPE)
        if path in self._items:
            return self._items[path]
        entry = self._base.lookup(path, follow=False)
        if entry is None or entry.path != path:
            return None
        kind = _KINDS.get(entry.kind, tarfile.CHRTYPE)
        return Item(kind, entry.mode, entry.uid, entry.gid, entry.mtime_ns // 10**9, 0, entry.target)

    def _resolve(self, path: str) -> str:
        """Give the real path, links followed; what is not there stays as it is written."""
        waiting = [part for part in reversed(path.split("/")) if part not in ("", ".")]
        at, hops = "/", 0
        while waiting:
            part = waiting.pop()
            if part == "..":
                at = posixpath.dirname(at)
                continue
            step = posixpath.join(at, part)
            there = self._at(step)
            if there is None or there.kind != tarfile.SYMTYPE:
                at = step
                continue
            hops += 1
            if hops > _HOPS:
                raise bad(f"failed to copy files: {path}: too many levels of symbolic links")
            at = "/" if there.target.startswith("/") else at
            waiting += [one for one in reversed(there.target.split("/")) if one not in ("", ".")]
        return at


def is_archive(path: Path) -> bool:
    """Tell whether a plain file begins like a tar archive."""
    with path.open("rb") as file:
        block = file.read(512)
    if len(block) < 512 or not any(block):
        return False
    try:
        expected = int(block[148:156].split(b"\0", 1)[0].strip() or b"0", 8)
    except ValueError:
        return False
    return sum(block) - sum(block[148:156]) + 256 == expected

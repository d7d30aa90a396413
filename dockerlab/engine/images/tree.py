"""The files of an image as one tree, read from the folders of its layers."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from dockerlab.engine.images.layers import OPAQUE, OWNERS, WHITEOUT
from dockerlab.engine.refusals import bad, missing

Kind = Literal["file", "folder", "link", "fifo", "other"]
_HOPS = 40  # as many links as the kernel follows


@dataclass(frozen=True)
class Entry:
    """One file, folder or link.

    Attributes
    ----------
    path : str
        Absolute, in the image, with no link in it but perhaps the last part.
    kind : str
        ``file``, ``folder``, ``link``, ``fifo`` or ``other``.
    mode, uid, gid : int
        As the layer's archive has them.
    size : int
        Bytes of a file, else 0.
    mtime_ns : int
        Time of the last change.
    target : str
        Where a link points.
    source : Path
        Where it is on this machine: in the highest layer that has it. Not to be written to; its mode and owner there
        are not the true ones.
    """

    path: str
    kind: Kind
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    target: str
    source: Path


class Tree:
    """A view of layers, one over the other, with their whiteouts applied. Reads only; blocks.

    Parameters
    ----------
    layers : sequence of Path
        Folders made by :func:`~dockerlab.engine.images.layers.unpack`, lowest first.
    """

    def __init__(self, layers: Sequence[Path]) -> None:
        self._layers = tuple(reversed(layers))

    def lookup(self, path: str, *, follow: bool = True) -> Entry | None:
        """Find what is at a path.

        Parameters
        ----------
        path : str
            Relative ones count from the root. ``..`` in the root is the root.
        follow : bool
            Whether to follow a link that is the last part; those before are always followed, inside the image.

        Returns
        -------
        Entry or None
            None where nothing is, or where links lead in a circle.
        """
        found = self._walk(path, follow)
        return found[0] if found else None

    def read(self, path: str, limit: int = 1 << 20) -> bytes:
        """Read a file.

        Raises
        ------
        RefusalError
            404: it is not there. 400: it is not a file, or longer than `limit` bytes.
        """
        entry = self.lookup(path)
        if entry is None:
            raise missing("file", path)
        if entry.kind != "file":
            raise bad(f"{path} is not a file")
        with entry.source.open("rb") as file:
            content = file.read(limit + 1)
        if len(content) > limit:
            raise bad(f"{path} is longer than {limit} bytes")
        return content

    def names(self, path: str = "/") -> list[str]:
        """Give the sorted names in a folder; 404 where there is none."""
        found = self._walk(path, True)
        if found is None or found[0].kind != "folder":
            raise missing("folder", path)
        return self._names(found[1])

    def walk(self, path: str = "/") -> Iterator[Entry]:
        """Give everything below a path, itself first, parents before children, names in order."""
        found = self._walk(path, False)
        if found is not None:
            yield from self._below(*found)

    def _below(self, entry: Entry, folders: tuple[tuple[int, Path], ...]) -> Iterator[Entry]:
        yield entry
        if entry.kind == "folder":
            for name in self._names(folders):
                child = self._child(entry.path, name, folders)
                if child is not None:
                    yield from self._below(*child)

    def _walk(self, path: str, follow: bool) -> tuple[Entry, tuple[tuple[int, Path], ...]] | None:
        """Go down a path: its entry, and the folders that make it up where it is a folder."""
        root_folders = tuple(enumerate(self._layers))
        if not root_folders:
            return None
        at = [(self._entry("/", *root_folders[0]), root_folders)]
        waiting = [part for part in reversed(path.split("/")) if part not in ("", ".")]
        hops = 0
        while waiting:
            part = waiting.pop()
            entry, folders = at[-1]
            if entry.kind != "folder" or "\0" in part:
                return None
            if part == "..":
                if len(at) > 1:
                    at.pop()
                continue
            child = self._child(entry.path, part, folders)
            if child is None:
                return None
            if child[0].kind == "link" and (waiting or follow):
                hops += 1
                if hops > _HOPS:
                    return None
                if child[0].target.startswith("/"):
                    del at[1:]
                waiting.extend(one for one in reversed(child[0].target.split("/")) if one not in ("", "."))
                continue
            at.append(child)
        return at[-1]

    def _child(
        self, parent: str, name: str, folders: tuple[tuple[int, Path], ...]
    ) -> tuple[Entry, tuple[tuple[int, Path], ...]] | None:
        """Find a name in a folder that several layers make up, highest first."""
        if name.startswith(WHITEOUT) or len(os.fsencode(name)) > 255:
            return None
        path = f"{parent.rstrip('/')}/{name}"
        first: Entry | None = None
        below: list[tuple[int, Path]] = []
        for index, folder in folders:
            place = folder / name
            try:
                found = os.lstat(place)
            except FileNotFoundError:
                found = None
            if found is not None:
                is_folder = stat.S_ISDIR(found.st_mode)
                if first is None:
                    first = self._entry(path, index, place)
                    if not is_folder:
                        return first, ()
                elif not is_folder:
                    break
                below.append((index, place))
                if os.path.lexists(place / OPAQUE):
                    break
            if os.path.lexists(folder / (WHITEOUT + name)):
                break
        return None if first is None else (first, tuple(below))

    def _names(self, folders: tuple[tuple[int, Path], ...]) -> list[str]:
        """Give the names in a folder that several layers make up."""
        seen: set[str] = set()
        gone: set[str] = set()
        for _, folder in folders:
            here = os.listdir(folder)
            seen.update(name for name in here if name not in gone and not name.startswith(WHITEOUT))
            gone.update(name.removeprefix(WHITEOUT) for name in here if name.startswith(WHITEOUT))
        return sorted(seen)

    def _entry(self, path: str, index: int, place: Path) -> Entry:
        found = os.lstat(place)
        kind: Kind = "other"
        if stat.S_ISREG(found.st_mode):
            kind = "file"
        elif stat.S_ISDIR(found.st_mode):
            kind = "folder"
        elif stat.S_ISLNK(found.st_mode):
            kind = "link"
        elif stat.S_ISFIFO(found.st_mode):
            kind = "fifo"
        mode, uid, gid = owners(self._layers[index]).get(path.strip("/"), (stat.S_IMODE(found.st_mode), 0, 0))
        return Entry(
            path=path,
            kind=kind,
            mode=mode,
            uid=uid,
            gid=gid,
            size=found.st_size if kind == "file" else 0,
            mtime_ns=found.st_mtime_ns,
            target=os.readlink(place) if kind == "link" else "",
            source=place,
        )


@lru_cache(maxsize=256)  # a layer never changes
def owners(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Give the true mode, uid and gid of those paths of a layer's folder that are not as they are on the disk.

    Every other path has the mode that it has on the disk, and belongs to root. Paths are relative, ``""`` is the root.
    """
    try:
        content = json.loads((folder.parent / OWNERS).read_bytes())
    except FileNotFoundError:
        return {}
    return {path: (one[0], one[1], one[2]) for path, one in content.items()}

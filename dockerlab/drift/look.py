"""Reading what containers have changed, by the Engine API; they need no program for it and may be stopped."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from posixpath import dirname
from typing import Literal, TypeVar

import docker
import docker.errors

from dockerlab.commands import unlisted
from dockerlab.connect import engine_errors
from dockerlab.drift.compare import Drift, compare
from dockerlab.drift.model import IGNORED, MISSING, Change, Item, Kind, Server, folders_above, is_ignored

WORKERS = 8
"""Calls side by side."""

_KINDS: Mapping[int, Literal["added", "changed", "deleted"]] = {0: "changed", 1: "added", 2: "deleted"}
_PIECE_BYTES = 1 << 18
# Bits of Go's os.FileMode, which stands in the engine's answers: kinds (device, pipe, socket), and modes.
_GO_KINDS: tuple[tuple[int, Kind], ...] = (
    (1 << 31, "folder"),
    (1 << 27, "link"),
    (1 << 26 | 1 << 25 | 1 << 24 | 1 << 21, "other"),
)
_GO_BITS = ((1 << 23, 0o4000), (1 << 22, 0o2000), (1 << 20, 0o1000))
# Archives at the same time: the embedded engine keeps a thread of its few for each until it has been read.
_ARCHIVES = threading.BoundedSemaphore(2)
_T = TypeVar("_T")
_U = TypeVar("_U")


def look(
    client: docker.DockerClient,
    container_ids: Sequence[str],
    *,
    names: Mapping[str, str] | None = None,
    ignore: Sequence[str] = IGNORED,
) -> Drift:
    """Read what each container has changed and compare them, with the first one and with their images.

    Files are hashed as they come and kept nowhere. Mounts (volumes, memory) are not looked at: they are not part of a
    container's own files.

    Parameters
    ----------
    client : docker.DockerClient
    container_ids : sequence of str
        Ids or names. The first one that is there is what the others are compared with.
    names : mapping of str to str, optional
        What to call each; the container's own name where left out.
    ignore : sequence of str
        Patterns, see :data:`dockerlab.drift.IGNORED`.

    Returns
    -------
    Drift
        Containers that vanished meanwhile stand in ``gone``.

    Raises
    ------
    EngineError
        Where the engine does not answer.
    """
    known = names or {}

    def read(identity: str) -> _Look:
        one = _Look(client.api, identity, name=known.get(identity, ""), ignore=ignore)
        one.read_all()
        return one

    with unlisted():
        looks = side_by_side(read, container_ids)
        paths = {path for one in looks for path in one.listed}
        images: dict[str, dict[str, Item]] = defaultdict(dict)
        wanted = []
        for path in sorted(paths):
            # A server that has left a file alone shows what its image has there.
            owners = {one.image_id: one for one in reversed(looks) if not one.gone and path not in one.listed}
            wanted += [(one, path) for one in owners.values()]
        for (one, path), item in zip(wanted, side_by_side(lambda pair: pair[0].at(pair[1]), wanted), strict=True):
            if not one.gone:
                images[one.image_id][path] = item
    there = [Server(one.name, one.image_id, one.changes) for one in looks if not one.gone]
    return compare(there, images=images, gone=[one.name for one in looks if one.gone], ignore=ignore)


def drifted(
    client: docker.DockerClient, container_id: str, *, ignore: Sequence[str] = IGNORED, hashes: bool = False
) -> tuple[Change, ...]:
    """Give what one container has changed against its image: quick, with little more than one call of the engine.

    Changed folders are left out; what was changed in them is listed.

    Parameters
    ----------
    client : docker.DockerClient
    container_id : str
        Id or name.
    ignore : sequence of str
        Patterns, see :data:`dockerlab.drift.IGNORED`.
    hashes : bool
        Read the files, too: each change then has its item.

    Returns
    -------
    tuple of Change
        Empty where the container is as it was made, and also where it is gone.

    Raises
    ------
    EngineError
        Where the engine does not answer.
    """
    with unlisted():
        found = _Look(client.api, container_id, ignore=ignore)
        if hashes:
            found.read_all()
        else:
            found.list_only()
        return tuple(
            change
            for change in found.changes
            if change.how != "changed" or (change.item or found.stat(change.path)).kind != "folder"
        )


class _Look:
    """One container while it is looked at."""

    def __init__(self, api: docker.APIClient, identity: str, *, name: str = "", ignore: Sequence[str]) -> None:
        self._api = api
        self._identity = identity
        self._ignore = ignore
        self.name = name or identity
        self.image_id = ""
        self.gone = False
        self.changes: tuple[Change, ...] = ()
        self.listed: frozenset[str] = frozenset()
        self._kinds: dict[str, Literal["added", "changed", "deleted"]] = {}
        self._full: frozenset[str] = frozenset()
        with engine_errors():
            try:
                about = api.inspect_container(identity)
                rows = api.diff(identity) or []
            except docker.errors.APIError:
                self._look_alive()
                if not self.gone:
                    raise
                return
        self.name = name or str(about["Name"]).lstrip("/")
        self.image_id = str(about["Image"])
        kinds = {str(row["Path"]): _KINDS[int(row["Kind"])] for row in rows}
        self._full = folders_above(kinds)
        kept = [path for path in sorted(kinds) if not is_ignored(path, ignore)]
        # A folder is left out, too, where all that is listed in it is.
        holding = folders_above(path for path in kept if path not in self._full)
        self._kinds = {path: kinds[path] for path in kept if path in holding or path not in self._full}

    def list_only(self) -> None:
        """Take what the engine listed; what has something below it is a folder, and left out."""
        listed = [Change(path, how) for path, how in self._kinds.items() if how != "changed" or path not in self._full]
        self.changes = tuple(listed)

    def read_all(self) -> None:
        """Read everything that the engine listed."""
        items: dict[str, Item] = {}
        for path, how in self._kinds.items():
            if how == "added" and path not in items:
                items.update(self._read(path))  # a folder comes with all that lies in it
            elif how == "changed":
                items[path] = self.stat(path) if path in self._full else self.at(path)
        self.changes = tuple(
            Change(path, how, items.get(path, MISSING))
            for path, how in self._kinds.items()
            # Added, and gone again since: as if it had never been. Sockets, too, which no archive can hold.
            if how != "added" or path in items
        )
        self.listed = frozenset(change.path for change in self.changes)

    def at(self, path: str) -> Item:
        """Read what is at one path; of a folder only itself."""
        found = self.stat(path)
        return self._read(path).get(path, MISSING) if found.kind in ("file", "link") else found

    def stat(self, path: str) -> Item:
        """Ask what is at a path, without its content and without where it points."""
        with engine_errors():
            answer = self._api.head(
                f"{self._api.base_url}/v{self._api.api_version}/containers/{self._identity}/archive",
                params={"path": path},
                timeout=self._api.timeout,
            )
        if answer.status_code == 404:
            self._look_alive()
            return MISSING
        told = answer.headers.get("X-Docker-Container-Path-Stat")
        if answer.status_code != 200 or not told:
            return Item("unread")
        about = json.loads(base64.b64decode(told))
        mode = int(about["mode"])
        kind: Kind = next((kind for bits, kind in _GO_KINDS if mode & bits), "file")
        if kind == "link":
            return Item(kind)
        return Item(kind, _permissions(mode), int(about["size"]) if kind == "file" else 0)

    def _read(self, path: str) -> dict[str, Item]:
        """Read a path and all below it from the engine's archive, piece by piece."""
        with engine_errors(), _ARCHIVES:
            try:
                pieces, _ = self._api.get_archive(self._identity, path, chunk_size=_PIECE_BYTES)
                stream = _Pieces(pieces)
                with tarfile.open(fileobj=stream, mode="r|") as archive:
                    found = self._hashed(archive, dirname(path).rstrip("/"))
                stream.drain()
            except docker.errors.NotFound:
                self._look_alive()
                return {}
            except (docker.errors.APIError, tarfile.TarError, OSError):
                # The engine could not read it, or it changed meanwhile and the archive ended early.
                self._look_alive()
                return {path: Item("unread")}
        return found

    def _hashed(self, archive: tarfile.TarFile, above: str) -> dict[str, Item]:
        found: dict[str, Item] = {}
        for member in archive:
            path = f"{above}/{member.name.rstrip('/')}"
            mode = member.mode & 0o7777
            if member.islnk():
                found[path] = found.get(f"{above}/{member.linkname}", Item("unread", mode))
            elif member.issym():
                found[path] = Item("link", target=member.linkname)
            elif member.isdir():
                found[path] = Item("folder", mode)
            elif (content := archive.extractfile(member)) is None:
                found[path] = Item("other", mode)
            else:
                digest = hashlib.sha256()
                while piece := content.read(_PIECE_BYTES):
                    digest.update(piece)
                found[path] = Item("file", mode, member.size, digest.hexdigest())
        return found

    def _look_alive(self) -> None:
        """After something went wrong: see whether it is the container that is missing, or the engine."""
        with engine_errors():
            try:
                about = self._api.inspect_container(self._identity)
            except docker.errors.NotFound:
                self.gone = True
            else:
                # One that is being removed is still known for a moment, but its files are not.
                self.gone = about["State"].get("Status") in ("removing", "dead")


class _Pieces(io.RawIOBase):
    """The pieces of an answer as a file to read from."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def read(self, size: int = -1, /) -> bytes:
        """Give at most `size` bytes; nothing at the end."""
        self._rest = self._rest or next(self._pieces, b"")
        taken, self._rest = (self._rest[:size], self._rest[size:]) if size >= 0 else (self._rest, b"")
        return taken

    def drain(self) -> None:
        """Read what follows the archive: only then can the connection be used again."""
        for _ in self._pieces:
            pass


def _permissions(mode: int) -> int:
    """Turn Go's os.FileMode into the bits that everybody knows."""
    found = mode & 0o777
    for go_bit, bit in _GO_BITS:
        found |= bit if mode & go_bit else 0
    return found


def side_by_side(work: Callable[[_T], _U], items: Sequence[_T]) -> list[_U]:
    """Do the same with each, several at the same time; the results come in the order of the items."""
    context = copy_context()  # threads do not know by themselves what is unlisted
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="dockerlab-drift") as pool:
        return list(pool.map(lambda item: context.copy().run(work, item), items))

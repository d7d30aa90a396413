"""``docker cp`` and ``docker export``: files of a container as tar archives."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import posixpath
import stat
import tarfile
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, BinaryIO, cast

from aiohttp import web

from dockerlab.engine.api.app import STATE, flag
from dockerlab.engine.api.piped import send_piped
from dockerlab.engine.api.upload import upload
from dockerlab.engine.containers import Container
from dockerlab.engine.isolate import inside
from dockerlab.engine.refusals import RefusalError, bad

_FOLDER_ENDS = ("/", "/.")
# Type bits of Go's os.FileMode
_GO_TYPES = {stat.S_IFDIR: 1 << 31, stat.S_IFLNK: 1 << 27, stat.S_IFIFO: 1 << 25, stat.S_IFSOCK: 1 << 24}


def routes() -> list[web.RouteDef]:
    """Give the routes of this module."""
    return [
        web.get("/containers/{name}/archive", _get, allow_head=False),
        web.head("/containers/{name}/archive", _head),
        web.put("/containers/{name}/archive", _put),
        web.get("/containers/{name}/export", _export, allow_head=False),
    ]


def _container(request: web.Request) -> Container:
    found: Container = request.app[STATE].containers.get(request.match_info["name"])
    return found


def _path(request: web.Request) -> str:
    path = request.query.get("path", "")
    if not path:
        raise bad("bad parameter: path cannot be empty")
    if "\0" in path:
        raise bad("bad parameter: path has a zero byte in it")
    return path if path.startswith("/") else f"/{path}"


@dataclass(frozen=True)
class _Place:
    """Where a path of a container leads: the descriptor of a folder, a path below it, and what was asked for."""

    root: int
    path: str
    asked: str
    read_only: str = ""  # why nothing may be written there


@asynccontextmanager
async def _place(request: web.Request) -> AsyncIterator[_Place]:
    """Open what holds a path: the container's root, or a mount of it where the root does not show mounts."""
    path, container, isolator = _path(request), _container(request), request.app[STATE].isolator
    point = None if container.process and isolator.name != "proot" else _mount_of(container, path)
    if point is None:
        reason = "container rootfs is marked read-only" if container.record.host.get("ReadonlyRootfs") else ""
        async with isolator.root(container.id) as root:
            yield _Place(root, path, path, reason)
        return
    below = posixpath.normpath(path)[len(point["Destination"]) :]
    source = os.path.realpath(point["Source"])
    if not Path(source).is_dir():
        source, below = os.path.split(source)
    try:
        folder = os.open(source, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        raise _missing(path, request.match_info["name"]) from None
    try:
        reason = "" if point["RW"] else "mounted volume is marked read-only"
        yield _Place(folder, f"/{below.lstrip('/')}", path, reason)
    finally:
        os.close(folder)


def _mount_of(container: Container, path: str) -> dict[str, Any] | None:
    place = posixpath.normpath(path)
    holding = [
        point
        for point in container.record.mounts
        if point["Type"] != "tmpfs" and f"{place}/".startswith(f"{point['Destination']}/")
    ]
    return max(holding, key=lambda point: len(point["Destination"]), default=None)


def _missing(path: str, name: str) -> RefusalError:
    return RefusalError(404, f"Could not find the file {path} in container {name}")


def go_mode(mode: int) -> int:
    """Turn a mode into the number that Go's os.FileMode is."""
    found = stat.S_IMODE(mode) & 0o777 | _GO_TYPES.get(stat.S_IFMT(mode), 0)
    for bit, go_bit in ((stat.S_ISUID, 1 << 23), (stat.S_ISGID, 1 << 22), (stat.S_ISVTX, 1 << 20)):
        found |= go_bit if mode & bit else 0
    return found


def _described(place: _Place) -> str:
    """Give the header that says what is at a path. Blocks."""
    root, path = place.root, place.path
    folder = place.asked.endswith(_FOLDER_ENDS)
    found = inside.stat(root, path, follow=folder)
    if folder and not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(place.asked)
    target = inside.readlink(root, path) if stat.S_ISLNK(found.st_mode) else ""
    if target and not target.startswith("/"):
        target = posixpath.normpath(posixpath.join(posixpath.dirname(place.asked), target))
    row: dict[str, Any] = {
        "name": posixpath.basename(posixpath.normpath(place.asked)) or "/",
        "size": found.st_size,
        "mode": go_mode(found.st_mode),
        "mtime": datetime.fromtimestamp(int(found.st_mtime), timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "linkTarget": target,
    }
    return base64.b64encode(json.dumps(row).encode()).decode()


async def _told(request: web.Request, place: _Place) -> str:
    try:
        return await asyncio.to_thread(_described, place)
    except OSError:
        raise _missing(place.asked, request.match_info["name"]) from None


async def _head(request: web.Request) -> web.Response:
    async with _place(request) as place:
        told = await _told(request, place)
    return web.Response(headers={"X-Docker-Container-Path-Stat": told})


async def _get(request: web.Request) -> web.StreamResponse:
    async with _place(request) as place:
        headers = {
            "Content-Type": "application/x-tar",
            "X-Docker-Container-Path-Stat": await _told(request, place),
        }
        return await _send(request, headers, lambda target: _pack(place, target))


async def _export(request: web.Request) -> web.StreamResponse:
    container = _container(request)
    async with request.app[STATE].isolator.root(container.id) as root:
        headers = {"Content-Type": "application/octet-stream"}
        sent = await _send(request, headers, lambda target: inside.pack(root, "/", target, whole=True))
    request.app[STATE].containers.tell(container, "export")
    return sent


def _pack(place: _Place, target: BinaryIO) -> None:
    """Pack a path under the last name of what was asked for, as Docker does. Blocks."""
    name = "." if place.asked.endswith("/.") else posixpath.basename(posixpath.normpath(place.asked)) or "."
    if place.path != "/" and not place.asked.endswith(_FOLDER_ENDS):
        _pack_as(place.root, place.path, posixpath.basename(place.path), name, target)
        return
    folder = inside.open_file(place.root, place.path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _pack_as(folder, "/", ".", name, target)
    finally:
        os.close(folder)


def _pack_as(root: int, path: str, base: str, name: str, target: BinaryIO) -> None:
    if base == name:
        inside.pack(root, path, target)
        return
    with tempfile.TemporaryFile() as file:
        inside.pack(root, path, cast("BinaryIO", file))
        file.seek(0)
        with (
            tarfile.open(fileobj=file) as packed,
            tarfile.open(fileobj=target, mode="w|", format=tarfile.PAX_FORMAT) as named,
        ):
            for member in packed:
                member.name = posixpath.join(name, *member.name.split("/")[1:])
                if member.islnk():
                    member.linkname = posixpath.join(name, *member.linkname.split("/")[1:])
                named.addfile(member, packed.extractfile(member) if member.isreg() else None)


async def _send(request: web.Request, headers: dict[str, str], write: Callable[[BinaryIO], None]) -> web.StreamResponse:
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    await send_piped(response, write)
    await response.write_eof()
    return response


async def _put(request: web.Request) -> web.Response:
    state = request.app[STATE]
    flag(request, "noOverwriteDirNonDir")
    async with _place(request) as place:
        if place.read_only:
            raise RefusalError(403, place.read_only)
        try:
            found = await asyncio.to_thread(inside.stat, place.root, place.path)
        except OSError:
            raise _missing(place.asked, request.match_info["name"]) from None
        if not stat.S_ISDIR(found.st_mode):
            raise bad("extraction point is not a directory")
        async with upload(request, state.places.data / "tmp") as file:
            await asyncio.to_thread(_unpack, place.root, place.path, str(file))
    state.containers.tell(_container(request), "extract-to-dir")
    return web.Response(status=200)


def _unpack(root: int, path: str, file: str) -> None:
    with open(file, "rb") as source:
        inside.unpack(root, path, source)

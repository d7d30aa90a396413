"""GET /system/df: what takes room."""

from __future__ import annotations

import asyncio
import contextlib
import stat
from typing import Any

from aiohttp import web

from dockerlab.engine.api.app import STATE, State
from dockerlab.engine.api.images import image_users, summary
from dockerlab.engine.containers.views import row_of
from dockerlab.engine.containers.volumes import Volume, size_of
from dockerlab.engine.images import ImageRecord
from dockerlab.engine.isolate import inside
from dockerlab.engine.refusals import RefusalError, bad

_TYPES = ("build-cache", "container", "image", "volume")


def routes() -> list[web.RouteDef]:
    """Give the routes of this module."""
    return [web.get("/system/df", _df)]


async def _df(request: web.Request) -> web.Response:
    state = request.app[STATE]
    types = request.query.getall("type", [])
    for name in types:
        if name not in _TYPES:
            raise bad(f"unknown object type: {name}")
    wanted = types or _TYPES
    records, layers_bytes = await asyncio.to_thread(_images, state)
    answer: dict[str, Any] = {"BuilderSize": 0}
    if "image" in wanted:
        users = image_users(state)
        rows = [
            {**summary(record), "Containers": len(users.get(record.id, ([], []))[0]), "SharedSize": shared}
            for record, shared in records
        ]
        answer.update(LayersSize=layers_bytes, Images=rows)
    if "container" in wanted:
        answer["Containers"] = await _containers(state, [record for record, _ in records])
    if "volume" in wanted:
        volumes = state.volumes.list()
        answer["Volumes"] = await asyncio.to_thread(_volumes, state, volumes)
    if "build-cache" in wanted:
        answer["BuildCache"] = []  # it is the images that were built
    return web.json_response(answer)


def _images(state: State) -> tuple[list[tuple[ImageRecord, int]], int]:
    """Give the images, each with the bytes of the layers that it shares, and the bytes of all layers. Blocks."""
    records = state.images.list()
    counts: dict[str, int] = {}
    for record in records:
        for diff_id in record.diff_ids:
            counts[diff_id] = counts.get(diff_id, 0) + 1
    sizes = {diff_id: state.images.layer(diff_id).size_bytes for diff_id in counts}
    shared = [sum(sizes[one] for one in record.diff_ids if counts[one] > 1) for record in records]
    return list(zip(records, shared, strict=True)), sum(sizes.values())


async def _containers(state: State, images: list[ImageRecord]) -> list[dict[str, Any]]:
    names = {record.id: (*record.tags, record.id)[0] for record in images}
    totals = {record.id: record.size_bytes for record in images}
    rows = []
    for container in state.containers.list():
        record = container.record
        written_bytes = await _written_bytes(state, container.id)
        size = (written_bytes, written_bytes + totals.get(record.image_id, 0))
        rows.append(row_of(container, state.networks, names.get(record.image_id, record.image_id), size))
    return rows


async def _written_bytes(state: State, container: str) -> int:
    """Add up the files that a container wrote."""
    try:
        changes = await state.isolator.changes(container)
        async with state.isolator.root(container) as root:
            return await asyncio.to_thread(_sum, root, [change.path for change in changes if change.kind != 2])
    except (RefusalError, OSError):  # it is being removed
        return 0


def _sum(root: int, paths: list[str]) -> int:
    total = 0
    for path in paths:
        with contextlib.suppress(OSError, RefusalError):
            found = inside.stat(root, path, follow=False)
            total += found.st_size if stat.S_ISREG(found.st_mode) else 0
    return total


def _volumes(state: State, volumes: list[Volume]) -> list[dict[str, Any]]:
    return [
        {
            **volume.shown(),
            "UsageData": {"RefCount": len(state.containers.using_volume(volume.name)), "Size": size_of(volume.path)},
        }
        for volume in volumes
    ]

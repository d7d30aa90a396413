"""Containers: /containers but for streams, exec and archives."""

from __future__ import annotations

import asyncio
import stat
from typing import Any

from aiohttp import web

from dockerlab.engine.api.app import STATE, State, body, filters, flag, number
from dockerlab.engine.containers import Container, clock, fields, hostconfig, listing, views
from dockerlab.engine.containers.top import top
from dockerlab.engine.containers.volumes import has_labels, size_of
from dockerlab.engine.isolate import inside
from dockerlab.engine.refusals import RefusalError, bad, unsupported

_LIMITS = ("Memory", "MemorySwap", "NanoCpus", "CpuShares", "CpuQuota", "CpuPeriod", "PidsLimit", "CpusetCpus")


def routes() -> list[web.RouteDef]:
    """Give the routes of this module."""
    return [
        web.get("/containers/json", _list, allow_head=False),
        web.post("/containers/create", _create),
        web.post("/containers/prune", _prune),
        web.get("/containers/{name}/json", _inspect, allow_head=False),
        web.get("/containers/{name}/top", _top, allow_head=False),
        web.get("/containers/{name}/changes", _changes, allow_head=False),
        web.post("/containers/{name}/start", _start),
        web.post("/containers/{name}/stop", _stop),
        web.post("/containers/{name}/restart", _restart),
        web.post("/containers/{name}/kill", _kill),
        web.post("/containers/{name}/pause", _pause),
        web.post("/containers/{name}/unpause", _unpause),
        web.post("/containers/{name}/rename", _rename),
        web.post("/containers/{name}/resize", _resize),
        web.post("/containers/{name}/update", _update),
        web.delete("/containers/{name}", _remove),
    ]


def _container(request: web.Request) -> Container:
    found: Container = request.app[STATE].containers.get(request.match_info["name"])
    return found


async def _list(request: web.Request) -> web.Response:
    state = request.app[STATE]
    wanted = filters(request, listing.FILTERS)
    limit = number(request, "limit", 0, minimum=-1) or 0
    every = flag(request, "all")
    ancestors = await asyncio.to_thread(_ancestors, state, wanted.get("ancestor", []))
    found = listing.select(state.containers, wanted, every=every, limit=max(0, limit), ancestors=ancestors)
    with_size = flag(request, "size")
    images = await asyncio.to_thread(_image_names, state, {one.record.config["Image"] for one in found})
    rows = []
    for one in found:
        name = one.record.config["Image"]
        shown = name if images.get(name) == one.record.image_id else one.record.image_id
        size = await _size(state, one) if with_size else None
        rows.append(views.row_of(one, state.containers.networks, shown, size))
    return web.json_response(rows)


def _ancestors(state: State, values: list[str]) -> dict[str, set[str]]:
    """Find for each name the image and all that were built on it. Blocks."""
    found: dict[str, set[str]] = {}
    for value in values:
        try:
            ids = {state.images.get(value).id}
        except RefusalError:
            found[value] = set()
            continue
        waiting = list(ids)
        while waiting:
            new = set(state.images.children(waiting.pop())) - ids
            ids |= new
            waiting += new
        found[value] = ids
    return found


def _image_names(state: State, names: set[str]) -> dict[str, str]:
    """Give which image each name means by now: a name that went to another image is not shown. Blocks."""
    found = {}
    for name in names:
        try:
            found[name] = state.images.get(name).id
        except RefusalError:
            continue
    return found


async def _size(state: State, container: Container) -> tuple[int, int]:
    """Give the bytes that a container wrote, and those with its image."""

    async def written() -> int:
        changes = await state.isolator.changes(container.id)
        async with state.isolator.root(container.id) as root:
            return await asyncio.to_thread(_bytes_of, root, [one.path for one in changes if one.kind != 2])

    def image() -> int:
        try:
            return int(state.images.get(container.record.image_id).size_bytes)
        except RefusalError:
            return 0

    try:
        own = await written()
    except (RefusalError, OSError):
        own = 0
    return own, own + await asyncio.to_thread(image)


def _bytes_of(root: int, paths: list[str]) -> int:
    total = 0
    for path in paths:
        try:
            found = inside.stat(root, path, follow=False)
        except OSError:
            continue
        total += found.st_size if stat.S_ISREG(found.st_mode) else 0
    return total


async def _create(request: web.Request) -> web.Response:
    content = await body(request)
    query = request.query
    made, warnings = await request.app[STATE].containers.create(
        content, query.get("name", ""), query.get("platform", "")
    )
    return web.json_response({"Id": made.id, "Warnings": warnings}, status=201)


async def _inspect(request: web.Request) -> web.Response:
    state = request.app[STATE]
    container = _container(request)
    size = await _size(state, container) if flag(request, "size") else None
    driver = state.isolator.report.storage_driver
    return web.json_response(views.inspect(container, state.containers.networks, driver, size))


async def _top(request: web.Request) -> web.Response:
    process = _container(request).check_running()
    return web.json_response(await top(process.pids(), request.query.get("ps_args", "")))


async def _changes(request: web.Request) -> web.Response:
    container = _container(request)
    found = await request.app[STATE].isolator.changes(container.id)
    rows = [{"Path": one.path, "Kind": one.kind} for one in found]
    return web.json_response(rows or None)


async def _start(request: web.Request) -> web.Response:
    container = _container(request)
    started = await request.app[STATE].containers.start(container)
    return web.Response(status=204 if started else 304)


def _patience(request: web.Request) -> float | None:
    return number(request, "t", None, minimum=-1)


async def _stop(request: web.Request) -> web.Response:
    container = _container(request)
    stopped = await request.app[STATE].containers.stop(container, _patience(request), request.query.get("signal", ""))
    return web.Response(status=204 if stopped else 304)


async def _restart(request: web.Request) -> web.Response:
    container = _container(request)
    await request.app[STATE].containers.restart(container, _patience(request), request.query.get("signal", ""))
    return web.Response(status=204)


async def _kill(request: web.Request) -> web.Response:
    await request.app[STATE].containers.kill(_container(request), request.query.get("signal", "") or "KILL")
    return web.Response(status=204)


async def _pause(request: web.Request) -> web.Response:
    request.app[STATE].containers.pause(_container(request))
    return web.Response(status=204)


async def _unpause(request: web.Request) -> web.Response:
    request.app[STATE].containers.unpause(_container(request))
    return web.Response(status=204)


async def _rename(request: web.Request) -> web.Response:
    request.app[STATE].containers.rename(_container(request), request.query.get("name", ""))
    return web.Response(status=204)


async def _resize(request: web.Request) -> web.Response:
    container = _container(request)
    height, width = number(request, "h", 0, maximum=32767), number(request, "w", 0, maximum=32767)
    container.check_running()
    if container.console:
        container.console.resize(height or 0, width or 0)
    return web.Response(status=200)


async def _update(request: web.Request) -> web.Response:
    container = _container(request)
    content = await body(request)
    if any(content.get(name) for name in _LIMITS):
        raise unsupported("the embedded engine of dockerlab enforces no limits, so none can be changed")
    if content.get("RestartPolicy"):
        auto = bool(container.record.host.get("AutoRemove"))
        policy = hostconfig.restart_policy(fields.table(content, "RestartPolicy"), auto)
        container.record.host["RestartPolicy"] = policy
        container.save()
        request.app[STATE].containers.tell(container, "update")
    return web.json_response({"Warnings": None})


async def _remove(request: web.Request) -> web.Response:
    container = _container(request)
    if flag(request, "link"):
        raise bad("Conflict, cannot remove the default link name of the container")
    force, volumes = flag(request, "force"), flag(request, "v")
    await request.app[STATE].containers.remove(container, force=force, volumes=volumes)
    return web.Response(status=204)


async def _prune(request: web.Request) -> web.Response:
    state = request.app[STATE]
    wanted = filters(request, ("label", "label!", "until"))
    until_ns = min((clock.until(value) for value in wanted.get("until", ())), default=0)
    removed, freed = [], 0
    for one in state.containers.list():
        record: Any = one.record
        if record.running or record.status in ("restarting", "removing"):
            continue
        if not has_labels(record.labels, wanted.get("label", ())) or (until_ns and record.created_ns > until_ns):
            continue
        if wanted.get("label!") and has_labels(record.labels, wanted["label!"]):
            continue
        size = (await _size(state, one))[0]
        try:
            await state.containers.remove(one)
        except RefusalError:
            continue
        freed += size + await asyncio.to_thread(size_of, one.folder)
        removed.append(one.id)
    return web.json_response({"ContainersDeleted": removed or None, "SpaceReclaimed": freed})

"""Volumes: /volumes."""

from __future__ import annotations

import asyncio

from aiohttp import web

from dockerlab.engine.api.app import STATE, body, filters, flag
from dockerlab.engine.containers import fields
from dockerlab.engine.refusals import unsupported


def routes() -> list[web.RouteDef]:
    """Give the routes of this module."""
    return [
        web.get("/volumes", _list, allow_head=False),
        web.post("/volumes/create", _create),
        web.post("/volumes/prune", _prune),
        web.get("/volumes/{name}", _inspect, allow_head=False),
        web.delete("/volumes/{name}", _remove),
    ]


async def _list(request: web.Request) -> web.Response:
    wanted = filters(request, ("dangling", "driver", "label", "name"))
    found = request.app[STATE].volumes.list(wanted)
    return web.json_response({"Volumes": [one.shown() for one in found], "Warnings": None})


async def _create(request: web.Request) -> web.Response:
    state = request.app[STATE]
    content = await body(request)
    if fields.table(content, "DriverOpts"):
        raise unsupported("the embedded engine of dockerlab has no options of the local volume driver")
    name, driver = fields.text(content, "Name"), fields.text(content, "Driver")
    before = {one.name for one in state.volumes.list()}
    made = state.volumes.create(name, fields.labels(content), driver=driver)
    if made.name not in before:
        state.events.emit("volume", "create", made.name, {"driver": "local"})
    return web.json_response(made.shown(), status=201)


async def _inspect(request: web.Request) -> web.Response:
    return web.json_response(request.app[STATE].volumes.get(request.match_info["name"]).shown())


async def _remove(request: web.Request) -> web.Response:
    state, name = request.app[STATE], request.match_info["name"]
    await asyncio.to_thread(state.volumes.remove, name, force=flag(request, "force"))
    state.events.emit("volume", "destroy", name, {"driver": "local"})
    return web.Response(status=204)


async def _prune(request: web.Request) -> web.Response:
    state = request.app[STATE]
    wanted = filters(request, ("all", "label", "label!"))
    removed, freed = await asyncio.to_thread(state.volumes.prune, wanted)
    for name in removed:
        state.events.emit("volume", "destroy", name, {"driver": "local"})
    return web.json_response({"VolumesDeleted": removed or None, "SpaceReclaimed": freed})

"""``docker exec``: /containers/{id}/exec and /exec."""

from __future__ import annotations

from aiohttp import web

from dockerlab.engine.api.app import STATE, body, number
from dockerlab.engine.api.hijack import detach_keys as check_keys
from dockerlab.engine.api.hijack import serve
from dockerlab.engine.containers import fields
from dockerlab.engine.containers.execs import Exec
from dockerlab.engine.refusals import RefusalError


def routes() -> list[web.RouteDef]:
    """Give the routes of this module."""
    return [
        web.post("/containers/{name}/exec", _create),
        web.post("/exec/{id}/start", _start),
        web.post("/exec/{id}/resize", _resize),
        web.get("/exec/{id}/json", _inspect, allow_head=False),
    ]


async def _create(request: web.Request) -> web.Response:
    containers = request.app[STATE].containers
    name = request.match_info["name"]
    made = containers.execs.create(containers.get(name), await body(request), name)
    return web.json_response({"Id": made.id}, status=201)


def _exec(request: web.Request) -> Exec:
    found: Exec = request.app[STATE].containers.execs.get(request.match_info["id"])
    return found


async def _start(request: web.Request) -> web.StreamResponse:
    execs = request.app[STATE].containers.execs
    one = _exec(request)
    content = await body(request)
    detach = fields.yes(content, "Detach")
    keys = one.detach_keys or fields.text(content, "DetachKeys")
    check_keys(keys)
    execs.claim(one)
    if detach:
        await execs.start(one)
        return web.Response(status=200)
    size = content.get("ConsoleSize")
    if isinstance(size, list) and len(size) == 2 and all(isinstance(n, int) and 0 < n < 2**15 for n in size):
        one.console.resize(*size)
    listener = one.console.listen(stdout=one.stdout, stderr=one.stderr)

    async def begin() -> None:
        try:
            await execs.start(one)
        except RefusalError as error:  # as Docker: the stream has begun, so the reason is in it
            listener.put("stderr", f"{error.message}\r\n".encode(), always=True)

    return await serve(request, one.console, listener, stdin=one.stdin, close_stdin=True, keys=keys, begin=begin)


async def _resize(request: web.Request) -> web.Response:
    one = _exec(request)
    height, width = number(request, "h", 0, maximum=32767), number(request, "w", 0, maximum=32767)
    if not one.started or one.ended_s:  # one that is about to start gets its size then
        raise RefusalError(409, f"exec process {one.id} is not running")
    one.console.resize(height or 0, width or 0)
    return web.Response(status=200)


async def _inspect(request: web.Request) -> web.Response:
    return web.json_response(_exec(request).shown())

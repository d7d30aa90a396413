"""Answers of a container that go on: logs, stats, wait, attach."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from aiohttp import web

from dockerlab.engine.api.app import STATE, flag
from dockerlab.engine.api.hijack import FRAMES, RAW, frame, serve
from dockerlab.engine.containers import Container, clock, stats
from dockerlab.engine.containers.console import Console
from dockerlab.engine.containers.logs import Choice, Line, shown
from dockerlab.engine.refusals import bad, conflict, unsupported

_SAMPLE_S = 1.0


def routes() -> list[web.RouteDef]:
    """Give the routes of this module."""
    return [
        web.get("/containers/{name}/logs", _logs, allow_head=False),
        web.get("/containers/{name}/stats", _stats, allow_head=False),
        web.get("/containers/{name}/attach/ws", _no_websocket, allow_head=False),
        web.post("/containers/{name}/wait", _wait),
        web.post("/containers/{name}/attach", _attach),
    ]


def _container(request: web.Request) -> Container:
    found: Container = request.app[STATE].containers.get(request.match_info["name"])
    return found


def _choice(request: web.Request) -> Choice:
    tail = request.query.get("tail", "").strip()
    count = int(tail) if tail.isascii() and tail.isdigit() and len(tail) < 10 else -1  # as Docker: anything else is all
    return Choice(
        stdout=flag(request, "stdout"),
        stderr=flag(request, "stderr"),
        since_ns=clock.read(request.query.get("since", ""), "since"),
        until_ns=clock.read(request.query.get("until", ""), "until"),
        tail=count,
        timestamps=flag(request, "timestamps"),
    )


def _written(container: Container, lines: list[Line], choice: Choice) -> bytes:
    if container.tty:
        return b"".join(shown(line, choice) for line in lines)
    return b"".join(frame(line.stream, shown(line, choice)) for line in lines)


async def _logs(request: web.Request) -> web.StreamResponse:
    container = _container(request)
    choice = _choice(request)
    if not (choice.stdout or choice.stderr):
        raise bad("Bad parameters: you must choose at least one stream")
    response = web.StreamResponse(headers={"Content-Type": RAW if container.tty else FRAMES})
    await response.prepare(request)
    follow = container.may_print if flag(request, "follow") else None
    async for lines in container.log.read(choice, follow=follow):
        await response.write(_written(container, lines, choice))
    await response.write_eof()
    return response


async def _stats(request: web.Request) -> web.StreamResponse:
    container = _container(request)
    stream, one_shot = flag(request, "stream", True), flag(request, "one-shot")
    if not stream:
        first = None if one_shot else await _sample(container, None)
        if first and container.process:
            await asyncio.sleep(_SAMPLE_S)
        return web.json_response(await _sample(container, first))
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    before: dict[str, Any] | None = None
    removal = container.removal()
    try:
        while not removal.done():
            before = await _sample(container, before)
            await response.write(json.dumps(before).encode() + b"\n")
            await asyncio.wait([removal], timeout=_SAMPLE_S)
    finally:
        removal.cancel()
    await response.write_eof()
    return response


async def _sample(container: Container, before: dict[str, Any] | None) -> dict[str, Any]:
    process = container.process
    if process is None:
        return stats.nothing(container.name, container.id)
    before = before if before and before.get("networks") else None
    return await asyncio.to_thread(stats.sample, container.name, container.id, process.pids(), before)


async def _wait(request: web.Request) -> web.StreamResponse:
    container = _container(request)
    condition = request.query.get("condition") or "not-running"
    if condition not in ("not-running", "next-exit", "removed"):
        raise bad(f'invalid condition: "{condition}"')
    if condition == "removed":
        future = container.removal()
    elif condition == "next-exit" or container.record.running:
        future = container.next_exit()
    else:
        return web.json_response({"Error": None, "StatusCode": container.record.exit_code})
    # The head goes out at once: `docker run` starts the container only when it has it
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    try:
        code = await future
    finally:
        future.cancel()
    await response.write(json.dumps({"Error": None, "StatusCode": code}).encode() + b"\n")
    await response.write_eof()
    return response


async def _attach(request: web.Request) -> web.StreamResponse:
    containers = request.app[STATE].containers
    container = _container(request)
    stream, logs = flag(request, "stream"), flag(request, "logs")
    stdin, stdout, stderr = (flag(request, name) for name in ("stdin", "stdout", "stderr"))
    if container.record.status == "paused":
        raise conflict(f"Container {container.id} is paused. Unpause the container before attach")
    if container.record.status == "restarting":
        raise conflict(f"Container {container.id} is restarting, wait until the container is running")
    before = b""
    if stream and container.record.status in ("created", "running"):
        console = container.open_console()
        listener = console.listen(stdout=stdout, stderr=stderr)
    else:
        console = Console(tty=container.tty, stdin=False)
        console.close()
        listener = console.listen()
    if logs:
        choice = Choice(stdout=stdout, stderr=stderr)
        async for lines in container.log.read(choice):
            before += _written(container, lines, choice)
    containers.tell(container, "attach")
    return await serve(
        request,
        console,
        listener,
        stdin=stdin and stream and bool(container.record.config.get("OpenStdin")),
        close_stdin=bool(container.record.config.get("StdinOnce")),
        keys=request.query.get("detachKeys", ""),
        before=before,
    )


async def _no_websocket(request: web.Request) -> web.StreamResponse:

    _container(request)
    raise unsupported("the embedded engine of dockerlab attaches by HTTP only, not by WebSocket")

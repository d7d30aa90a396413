"""Archives on their way out: packed in a thread of their own, sent as they come, never in memory as a whole."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable
from typing import BinaryIO

from aiohttp import web

from dockerlab.engine.isolate.ready import readable

_CHUNK_BYTES = 1 << 18


async def send_piped(response: web.StreamResponse, write: Callable[[BinaryIO], None]) -> None:
    """Send what `write` writes, and raise what it raises.

    A client that reads slowly makes the thread wait. The event loop's few threads must not wait like that: with as many
    such clients as there are threads, everything else would stand still.

    Parameters
    ----------
    response : aiohttp.web.StreamResponse
        Prepared already.
    write : callable
        Called in a thread with a file to write to; gets a BrokenPipeError when the client is gone.
    """
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[BaseException | None] = loop.create_future()

    def pack() -> None:
        problem: BaseException | None = None
        try:
            with open(writing, "wb", buffering=_CHUNK_BYTES) as file:
                write(file)
        except BaseException as error:  # noqa: BLE001 - it is raised where it can be heard
            problem = error
        with contextlib.suppress(RuntimeError):  # the engine has ended meanwhile
            loop.call_soon_threadsafe(ended.set_result, problem)

    threading.Thread(target=pack, name="pack", daemon=True).start()
    try:
        while True:
            try:
                chunk = os.read(reading, _CHUNK_BYTES)
            except BlockingIOError:
                await readable(reading)
                continue
            if not chunk:
                break
            await response.write(chunk)
    finally:
        os.close(reading)
        problem = await ended
    if problem is not None:
        raise problem

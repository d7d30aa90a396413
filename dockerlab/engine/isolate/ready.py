"""Waiting for a descriptor without a thread."""

from __future__ import annotations

import asyncio


async def readable(descriptor: int, limit_s: float | None = None) -> None:
    """Wait until a descriptor can be read, or its other end is closed.

    Raises
    ------
    asyncio.TimeoutError
        It took longer than ``limit_s``.
    """
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_reader(descriptor, settle, ready)
    try:
        await asyncio.wait_for(ready, limit_s)
    finally:
        loop.remove_reader(descriptor)


def settle(future: asyncio.Future[None]) -> None:
    """Let whoever waits for a future go on; a second time changes nothing."""
    if not future.done():
        future.set_result(None)

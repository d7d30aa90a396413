"""Work that blocks, done beside the event loop and never left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def blocking(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function in a thread; when this is cancelled, its end comes first, as it uses files that go then."""
    return await finished(asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs)))


async def finished(task: asyncio.Future[T]) -> T:
    """Wait for what must not be broken off, however often this is cancelled; then be cancelled."""
    cancelled = False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            cancelled = True
        except Exception:  # noqa: BLE001, S110 - it is raised below
            pass
    if cancelled:
        if not task.cancelled():
            task.exception()  # read, or asyncio complains that nobody did
        raise asyncio.CancelledError
    return task.result()

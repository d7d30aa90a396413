"""Notice that nobody has wanted anything for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware


class Idle:
    """Calls a function after a time without requests.

    Parameters
    ----------
    after_s : float
        How long; 0 is never.
    busy : callable
        Tells whether there is something to stay for all the same, such as a container that runs.
    end : callable
        What to call.
    """

    def __init__(self, after_s: float, busy: Callable[[], bool], end: Callable[[], object]) -> None:
        self._after_s = after_s
        self._busy = busy
        self._end = end
        self._requests = 0
        self._timer: asyncio.TimerHandle | None = None

    def watch(self) -> None:
        """Begin to count the time."""
        if self._after_s > 0 and not self._requests:
            self._timer = asyncio.get_running_loop().call_later(self._after_s, self._look)

    def _look(self) -> None:
        if self._busy():
            self.watch()
        else:
            self._end()

    def middleware(self) -> Middleware:
        """Give what each request goes through."""

        @web.middleware
        async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
            self._requests += 1
            if self._timer:
                self._timer.cancel()
                self._timer = None
            try:
                return await handler(request)
            finally:
                self._requests -= 1
                self.watch()

        return count

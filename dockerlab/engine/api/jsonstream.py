"""An answer that grows: JSON messages, one a line, as pulls, pushes and builds send them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from aiohttp import web

from dockerlab.engine.refusals import RefusalError

_Result = TypeVar("_Result")


class JsonStream:
    """Messages to the client; the answer starts with the first.

    Parameters
    ----------
    request : aiohttp.web.Request
        What is answered.
    """

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self.response: web.StreamResponse | None = None

    async def start(self) -> web.StreamResponse:
        """Send the header, unless that is done."""
        if self.response is None:
            self.response = web.StreamResponse(headers={"Content-Type": "application/json"})
            await self.response.prepare(self._request)
        return self.response

    async def send(self, message: Mapping[str, Any]) -> None:
        """Send one message."""
        response = await self.start()
        await response.write(json.dumps(message, separators=(",", ":")).encode() + b"\r\n")

    async def follow(
        self, work: Callable[[Callable[[dict[str, Any]], None]], Awaitable[_Result]], *, hold: int = 0
    ) -> _Result | None:
        """Do work that reports by calling a function, and send what it reports.

        Parameters
        ----------
        work : callable
            Gets the function to report with, which may be called in the event loop only. It is cancelled when the
            client has gone.
        hold : int
            How many messages wait for another one, so that work that fails at once is answered with a status.

        Returns
        -------
        object or None
            What the work gave; None when it failed after the answer had started: the client has been told by then.

        Raises
        ------
        RefusalError
            The work failed and the answer has not started.
        """
        waiting: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()

        async def run() -> _Result:
            try:
                return await work(waiting.put_nowait)
            finally:
                waiting.put_nowait(None)

        task = asyncio.ensure_future(run())
        held: list[dict[str, Any]] = []
        try:
            while (message := await waiting.get()) is not None:
                held.append(message)
                while len(held) > hold or (held and self.response is not None):
                    await self.send(held.pop(0))
            result = await task
            for message in held:
                await self.send(message)
            return result
        except RefusalError as error:
            if self.response is None:
                raise
            await self.fail(error.message)
            return None
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task

    async def fail(self, message: str) -> None:
        """Send what went wrong, in the way that clients look for."""
        await self.send({"errorDetail": {"message": message}, "error": message})

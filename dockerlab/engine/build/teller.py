"""What the client of a build is told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from dockerlab.engine.refusals import RefusalError

Message = dict[str, Any]
Emit = Callable[[Message], Awaitable[None]]


class StepError(RefusalError):
    """A RUN that failed; has its exit code."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(400, message)
        self.code = code


class Teller:
    """What the client is told; a quiet one hears only of the result, or of everything when it failed."""

    def __init__(self, emit: Emit, *, quiet: bool) -> None:
        self._emit = emit
        self._kept: list[Message] | None = [] if quiet else None

    async def send(self, message: Message) -> None:
        """Send a message."""
        if self._kept is None:
            await self._emit(message)
        else:
            self._kept.append(message)

    async def say(self, text: str) -> None:
        """Send a text, as it is to be printed."""
        await self.send({"stream": text})

    async def result(self, image_id: str) -> None:
        """Give the id to one who wants to hear nothing else."""
        if self._kept is not None:
            await self._emit({"stream": f"{image_id}\n"})

    async def fail(self, error: RefusalError) -> None:
        """Say why the build failed."""
        for message in self._kept or ():
            await self._emit(message)
        detail: Message = {"code": error.code} if isinstance(error, StepError) else {}
        await self._emit({"errorDetail": {**detail, "message": error.message}, "error": error.message})


def short(image_id: str) -> str:
    """Give an id as it is shown."""
    return image_id.removeprefix("sha256:")[:12]

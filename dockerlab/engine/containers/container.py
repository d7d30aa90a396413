"""A container as the running engine holds it: its record, and its process where it has one."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING

from dockerlab.engine.containers.console import Console
from dockerlab.engine.containers.logs import Log
from dockerlab.engine.containers.record import Record
from dockerlab.engine.isolate.spec import Process
from dockerlab.engine.refusals import RefusalError, conflict

if TYPE_CHECKING:
    from dockerlab.engine.containers.execs import Exec


class Container:
    """One container. Belongs to the event loop.

    Parameters
    ----------
    record : Record
    folder : Path
        Where its files are.
    """

    def __init__(self, record: Record, folder: Path) -> None:
        self.record = record
        self.folder = folder
        self.log = Log(folder / "log.jsonl")
        self.process: Process | None = None
        self.console: Console | None = None
        self.execs: dict[str, Exec] = {}
        self.busy = asyncio.Lock()
        self.tasks: set[asyncio.Task[None]] = set()
        self.health_task: asyncio.Task[None] | None = None
        self.restart_timer: asyncio.Task[None] | None = None
        self.over = asyncio.Event()  # set while there is no process
        self.over.set()
        self._exits: list[asyncio.Future[int]] = []
        self._removals: list[asyncio.Future[int]] = []

    @property
    def id(self) -> str:
        """Its id."""
        return self.record.id

    @property
    def name(self) -> str:
        """Its name, without a slash."""
        return self.record.name

    @property
    def tty(self) -> bool:
        """Whether it has a terminal."""
        return bool(self.record.config.get("Tty"))

    def save(self) -> None:
        """Keep its record."""
        try:
            self.record.save(self.folder)
        except OSError as error:
            raise RefusalError(500, f"{self.folder}: {(error.strerror or '').lower()}") from error

    def open_console(self) -> Console:
        """Give the console of the process that runs, or will run next."""
        if self.console is None:
            stdin = bool(self.record.config.get("OpenStdin"))
            self.console = Console(tty=self.tty, stdin=stdin, output=self.log.write)
        return self.console

    def check_running(self) -> Process:
        """Give its process; 409 in Docker's words where it has none."""
        if self.process is None or not self.record.running:
            raise conflict(f"Container {self.id} is not running")
        return self.process

    def next_exit(self) -> asyncio.Future[int]:
        """Give what will hold the exit code at the next exit."""
        return _new(self._exits)

    def removal(self) -> asyncio.Future[int]:
        """Give what will hold the exit code once it is removed."""
        return _new(self._removals)

    def exited(self) -> None:
        """Tell those who wait for an exit."""
        self.over.set()
        _tell(self._exits, self.record.exit_code)

    def removed(self) -> None:
        """Tell those who wait for anything."""
        _tell(self._exits, self.record.exit_code)
        _tell(self._removals, self.record.exit_code)
        self.log.wake()

    def may_print(self) -> bool:
        """Whether its log may still grow."""
        return self.record.running or self.record.status == "restarting"

    def up_s(self) -> float:
        """Give for how long it has been running."""
        return max(0.0, (time.time_ns() - self.record.started_ns) / 1e9)


def _new(waiting: list[asyncio.Future[int]]) -> asyncio.Future[int]:
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    waiting.append(future)
    future.add_done_callback(lambda done: waiting.remove(done) if done in waiting else None)
    return future


def _tell(waiting: list[asyncio.Future[int]], code: int) -> None:
    for future in tuple(waiting):
        if not future.done():
            future.set_result(code)

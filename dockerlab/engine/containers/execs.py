"""More processes in a container: ``docker exec``."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Coroutine, Mapping
from typing import Any

from dockerlab.engine.containers import fields, launch
from dockerlab.engine.containers.console import Console
from dockerlab.engine.containers.container import Container
from dockerlab.engine.isolate.spec import Process
from dockerlab.engine.refusals import RefusalError, bad, conflict, missing

_KEPT = 256  # of those that have ended
_NOT_STARTED = 126  # Docker's code for whatever the reason is


class Exec:
    """One process more, before, while and after it runs."""

    def __init__(self, container: Container, body: Mapping[str, Any]) -> None:
        self.id = secrets.token_hex(32)
        self.container = container
        self.argv = fields.words(body, "Cmd") or []
        if not self.argv:
            raise bad("No exec command specified")
        self.tty = fields.yes(body, "Tty")
        self.stdin, self.stdout, self.stderr = (
            fields.yes(body, f"Attach{name}") for name in ("Stdin", "Stdout", "Stderr")
        )
        self.env = fields.texts(body, "Env") or []
        self.user, self.workdir = fields.text(body, "User"), fields.text(body, "WorkingDir")
        if self.workdir and not self.workdir.startswith("/"):
            raise bad(f"the working directory '{self.workdir}' is invalid, it needs to be an absolute path")
        if any(one.startswith("=") or not one for one in self.env):
            raise bad("invalid environment variable: it has no name")
        self.privileged = fields.yes(body, "Privileged")
        self.detach_keys = fields.text(body, "DetachKeys")
        self.console = Console(tty=self.tty, stdin=self.stdin)
        self.process: Process | None = None
        self.started = False
        self.running = False
        self.exit_code: int | None = None
        self.pid = 0
        self.ended_s = 0.0

    def shown(self) -> dict[str, Any]:
        """Give what Docker shows of it."""
        command: dict[str, Any] = {
            "tty": self.tty,
            "entrypoint": self.argv[0],
            "arguments": self.argv[1:],
            "privileged": self.privileged,
        }
        if self.user:
            command["user"] = self.user
        return {
            "ID": self.id,
            "Running": self.running,
            "ExitCode": self.exit_code,
            "ProcessConfig": command,
            "OpenStdin": self.stdin,
            "OpenStderr": self.stderr,
            "OpenStdout": self.stdout,
            "CanRemove": False,
            "ContainerID": self.container.id,
            "DetachKeys": self.detach_keys,
            "Pid": self.pid,
        }


class Execs:
    """All of them, by id."""

    def __init__(self, isolator: Any, events: Any) -> None:
        self._isolator = isolator
        self._events = events
        self._execs: dict[str, Exec] = {}

    def get(self, identity: str) -> Exec:
        """Find one; 404 where there is none."""
        if identity not in self._execs:
            raise missing("exec instance", identity)
        return self._execs[identity]

    def create(self, container: Container, body: Mapping[str, Any], asked: str) -> Exec:
        """Make one, not started."""
        container.check_running()
        if container.record.status == "paused":
            raise conflict(f"Container {asked} is paused, unpause the container before exec")
        made = Exec(container, body)
        self._execs[made.id] = made
        container.execs[made.id] = made
        self._tell(made, f"exec_create: {' '.join(made.argv)}")
        return made

    def claim(self, one: Exec) -> None:
        """Take one for a start; 409 where it was started before, or its container does not run."""
        if one.started:
            raise conflict(f"Error: Exec command {one.id} has already run")
        one.started = True
        try:
            one.container.check_running()
            if one.container.record.status == "paused":
                raise conflict(f"Container {one.container.id} is paused, unpause the container before exec")
        except RefusalError:
            self._end(one, _NOT_STARTED)
            raise

    async def start(self, one: Exec) -> None:
        """Start one that was claimed; goes on when whoever asked for it leaves.

        Raises
        ------
        RefusalError
            400: there is no such program or folder.
        """
        await asyncio.shield(_keep(one.container, self._start(one)))

    async def _start(self, one: Exec) -> None:
        container = one.container
        try:
            command = await launch.command_of(
                self._isolator,
                container,
                one.argv,
                env=one.env,
                workdir=one.workdir,
                user=one.user,
                tty=one.tty,
                privileged=one.privileged,
            )
            one.process = await self._isolator.execute(container.id, command, one.console.open())
        except BaseException as error:
            self._end(one, _NOT_STARTED)
            if isinstance(error, OSError):
                raise RefusalError(500, f"{(error.strerror or str(error)).lower()}") from error
            raise
        one.console.started()
        one.running, one.pid = True, one.process.pid
        self._tell(one, f"exec_start: {' '.join(one.argv)}")
        _keep(container, self._watch(one, one.process))

    def forget(self, container: Container) -> None:
        """Forget those of a container that is removed."""
        for key in [key for key, one in self._execs.items() if one.container is container]:
            del self._execs[key]

    async def _watch(self, one: Exec, process: Process) -> None:
        code = await process.wait()
        await one.console.drain(0.5)  # what it left in the background may hold its streams for ever
        self._end(one, code)
        self._tell(one, "exec_die", exitCode=str(code))

    def _end(self, one: Exec, code: int) -> None:
        """Take in that one has ended, and only then tell those who read its output."""
        one.exit_code, one.running, one.ended_s = code, False, time.monotonic()
        one.container.execs.pop(one.id, None)
        one.console.close()
        ended = [key for key, other in self._execs.items() if other.ended_s]
        for key in ended[: max(0, len(ended) - _KEPT)]:
            del self._execs[key]

    def _tell(self, one: Exec, action: str, **more: str) -> None:
        record = one.container.record
        about = {**record.labels, "execID": one.id, "image": record.config["Image"], "name": record.name, **more}
        self._events.emit("container", action, record.id, about)


def _keep(container: Container, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    task = asyncio.ensure_future(work)
    container.tasks.add(task)
    task.add_done_callback(container.tasks.discard)
    return task

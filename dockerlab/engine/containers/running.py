"""How containers are started and ended."""

from __future__ import annotations

import abc
import asyncio
import contextlib
import logging
import signal
import time
from typing import Any

from dockerlab.engine.containers import health, launch, restarts, signals
from dockerlab.engine.containers.container import Container
from dockerlab.engine.containers.register import Register
from dockerlab.engine.containers.wiring import Wiring
from dockerlab.engine.isolate.spec import Process
from dockerlab.engine.refusals import RefusalError, conflict

log = logging.getLogger(__name__)
_STOP_S = 10
_KILL_S = 10.0


class Runner(Register, abc.ABC):
    """Starts, watches and ends containers, and starts them again. Belongs to the event loop.

    Parameters
    ----------
    isolator : Isolator
    wiring : Wiring
    events : Events
    """

    def __init__(self, isolator: Any, wiring: Wiring, events: Any) -> None:
        super().__init__()
        self._isolator = isolator
        self.wiring = wiring
        self._events = events
        self._closing = False

    async def start(self, container: Container) -> bool:
        """Start a container; give whether it did not run already."""
        async with container.busy:
            record = container.record
            if record.status == "paused":
                raise conflict("cannot start a paused container, try unpause instead")
            if record.running:
                return False
            if record.status in ("removing", "dead"):
                raise conflict("container is marked for removal and cannot be started")
            if self._closing:
                raise RefusalError(503, "the engine ends")
            self._cancel_restart(container)
            record.stopped_by_hand = False
            record.restarts = 0
            try:
                await self._start(container)
            except RefusalError:
                if record.host.get("AutoRemove"):  # `docker run --rm` waits for that
                    _keep(container, self._auto_remove(container))
                raise
            return True

    async def _start(self, container: Container) -> None:
        record = container.record
        console = container.open_console()
        try:
            addresses = self.wiring.join(container)
            user = record.config.get("User") or ""
            command = await launch.command_of(self._isolator, container, record.argv, user=user, tty=container.tty)
            spec = launch.spec_of(container, command, addresses, internal=self.wiring.is_internal(container))
            process = await self._isolator.start(spec, console.open())
        except BaseException as error:
            container.console = None
            console.close()
            self.wiring.leave(container)
            text = error.message if isinstance(error, RefusalError) else str(error)
            record.error, record.exit_code = text, _start_code(text)
            record.status = "created" if not record.started_ns else "exited"
            container.save()
            if isinstance(error, OSError):
                raise RefusalError(500, f"{(error.strerror or str(error)).lower()}") from error
            raise
        container.process = process
        container.over.clear()
        record.status, record.error, record.exit_code = "running", "", 0
        record.started_ns, record.finished_ns = time.time_ns(), 0
        record.health = health.begin(record.config)
        container.save()
        console.started()
        self.tell(container, "start")
        _keep(container, self._watch(container, process))
        if record.health is not None:
            container.health_task = _keep(
                container, health.watch(self._isolator, container, lambda status: self._healthy(container, status))
            )

    def _healthy(self, container: Container, status: str) -> None:
        container.save()
        self.tell(container, f"health_status: {status}")

    async def _watch(self, container: Container, process: Process) -> None:
        """Wait for the end of the main process, and do what then has to be done."""
        record = container.record
        code = await process.wait()
        process.kill()  # what it left behind
        for one in tuple(container.execs.values()):
            if one.process:
                one.process.kill()
        ran_s = container.up_s()
        if container.health_task:
            container.health_task.cancel()
            container.health_task = None
        if container.console:
            await container.console.drain()
        console, container.console = container.console, None
        with contextlib.suppress(RefusalError):
            container.log.finish()
        container.process = None
        removing = record.status == "removing"
        if not removing:
            record.status = "exited"
        record.exit_code, record.finished_ns = code, time.time_ns()
        if record.health is not None:
            record.health["Status"] = "unhealthy"
        self.tell(container, "die", exitCode=str(code))
        self.wiring.leave(container)
        again = not (removing or self._closing) and restarts.wanted(record)
        if again:
            record.status = "restarting"
            delay_s = restarts.delay(record, ran_s)
            container.restart_timer = _keep(container, self._restart_later(container, delay_s))
        with contextlib.suppress(RefusalError):
            container.save()
        if console:
            console.close()
        container.exited()
        container.log.wake()
        if record.host.get("AutoRemove") and not (again or removing or self._closing):
            _keep(container, self._auto_remove(container))

    async def _restart_later(self, container: Container, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        async with container.busy:
            if container.record.status != "restarting":
                return
            container.restart_timer = None
            container.record.restarts += 1
            try:
                await self._start(container)
            except RefusalError as error:
                log.warning("container %s cannot be started again: %s", container.name, error)

    @abc.abstractmethod
    async def _remove(self, container: Container, *, volumes: bool) -> None: ...

    async def _auto_remove(self, container: Container) -> None:
        with contextlib.suppress(RefusalError):
            await self._remove(container, volumes=True)

    def _cancel_restart(self, container: Container) -> None:
        if container.restart_timer:
            container.restart_timer.cancel()
            container.restart_timer = None
            container.record.status = "exited"

    async def stop(self, container: Container, timeout_s: float | None = None, signal_name: str = "") -> bool:
        """Stop a container: its signal, then time, then the kill; give whether it ran. Negative waits for ever."""
        record = container.record
        number = signals.number_of(signal_name or record.config.get("StopSignal") or "TERM")
        record.stopped_by_hand = True
        if record.status == "restarting":
            self._cancel_restart(container)
            container.save()
            return True
        process = container.process
        if not record.running or process is None:
            return False
        if timeout_s is None:
            timeout_s = record.config.get("StopTimeout", _STOP_S)
        if record.status == "paused":
            self.unpause(container)
        if timeout_s != 0:
            self.tell(container, "kill", signal=str(number))
            process.signal(number)
            await _until(container.over, None if timeout_s < 0 else timeout_s)
        if not container.over.is_set():
            self.tell(container, "kill", signal="9")
            if not await self._end(container):
                raise RefusalError(
                    500, f"cannot stop container: {container.id}: tried to kill container, but it did not end"
                )
        self.tell(container, "stop")
        return True

    async def _end(self, container: Container) -> bool:
        """Kill everything in a container; give whether that had an end."""
        if container.process:
            signals.send_all(container.process, signal.SIGCONT)  # a tracer that stands still would not see the end
            container.process.kill()
        return await _until(container.over, _KILL_S)

    async def restart(self, container: Container, timeout_s: float | None = None, signal_name: str = "") -> None:
        """Stop and start; no auto-remove in between."""
        auto, container.record.host["AutoRemove"] = container.record.host.get("AutoRemove"), False
        try:
            await self.stop(container, timeout_s, signal_name)
            await self.start(container)
        finally:
            container.record.host["AutoRemove"] = auto
        self.tell(container, "restart")

    async def kill(self, container: Container, name: str = "KILL") -> None:
        """Send a signal; SIGKILL to everything in the container, and waits for the end."""
        number = signals.number_of(name or "KILL")
        process = container.process
        if process is None or not container.record.running:
            raise conflict(f"Cannot kill container: {container.id}: Container {container.id} is not running")
        if number in (signal.SIGKILL, signals.number_of(container.record.config.get("StopSignal") or "TERM")):
            container.record.stopped_by_hand = True
        self.tell(container, "kill", signal=str(number))
        if number == signal.SIGKILL:
            await self._end(container)
        else:
            process.signal(number)

    def pause(self, container: Container) -> None:
        """Stop all processes where they are."""
        if container.record.status == "paused":
            raise conflict(f"Container {container.id} is already paused")
        process = container.check_running()
        signals.send_all(process, signal.SIGSTOP)
        container.record.status = "paused"
        container.save()
        self.tell(container, "pause")

    def unpause(self, container: Container) -> None:
        """Let them go on."""
        if container.record.status != "paused":
            raise conflict(f"Container {container.id} is not paused")
        signals.send_all(container.check_running(), signal.SIGCONT)
        container.record.status = "running"
        container.save()
        self.tell(container, "unpause")

    def tell(self, container: Container, action: str, **more: str) -> None:
        """Tell everybody what happened to a container."""
        record = container.record
        about = {**record.labels, "image": record.config["Image"], "name": record.name, **more}
        self._events.emit("container", action, record.id, about)


def _keep(container: Container, work: Any) -> asyncio.Task[None]:
    task: asyncio.Task[None] = asyncio.ensure_future(work)
    container.tasks.add(task)
    task.add_done_callback(lambda done: _ended(container, done))
    return task


def _ended(container: Container, task: asyncio.Task[None]) -> None:
    container.tasks.discard(task)
    if not task.cancelled() and (error := task.exception()):
        log.error("container %s: %s", container.name, error, exc_info=error)


async def _until(event: asyncio.Event, timeout_s: float | None) -> bool:
    try:
        await asyncio.wait_for(event.wait(), timeout_s)
    except (asyncio.TimeoutError, TimeoutError):  # two classes in Python 3.10
        return event.is_set()
    return True


def _start_code(text: str) -> int:
    if "not found" in text or "no such file" in text.lower():
        return 127
    return 126 if "permission denied" in text.lower() else 128

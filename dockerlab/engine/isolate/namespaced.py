"""Containers in namespaces of the kernel, made by bubblewrap."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path

from dockerlab.engine.isolate import bubblewrap, filters, processes
from dockerlab.engine.isolate.bubblewrap import Bubblewrap
from dockerlab.engine.isolate.isolator import Isolator, Running, Supervised, hear_all, refuse_program
from dockerlab.engine.isolate.launcher import Child, Order, exit_code
from dockerlab.engine.isolate.probe import Place
from dockerlab.engine.isolate.ready import readable
from dockerlab.engine.isolate.snapshots import Rootfs
from dockerlab.engine.isolate.spec import Command, Process, Spec, Stdio
from dockerlab.engine.isolate.switch import Endpoint
from dockerlab.engine.refusals import failed

_INFO_LIMIT_S = 20.0


class Contained(Supervised):
    """The first process of a container; its end is the end of all others, the kernel sees to that."""

    def __init__(self, child: Child, pid: int, ports: Mapping[tuple[int, str], tuple[str, int]], *, init: bool) -> None:
        super().__init__(child, pid, ports)
        self._init = init

    async def wait(self) -> int:
        """Wait for its end."""
        return exit_code(await self.child.wait())

    def signal(self, number: int) -> None:
        """Send a signal to the container's program: process 1, or the child of the init that is process 1."""
        if self.ended:
            return
        first = processes.children(self.pid)[:1] if self._init and number != signal.SIGKILL else []
        processes.send(first[0] if first else self.pid, number)


class Entered(Supervised):
    """One more process of a container."""

    async def wait(self) -> int:
        """Wait for its end."""
        return exit_code(await self.child.wait())

    def kill(self) -> None:
        """End it and what is below it."""
        for pid in self.pids():
            processes.send(pid, signal.SIGKILL)


class NamespacedIsolator(Isolator):
    """Starts containers with bubblewrap."""

    name = "bubblewrap"
    _own_processes = True

    def __init__(self, folder: Path, place: Place) -> None:
        super().__init__(folder, place)
        assert isinstance(place.isolator, Bubblewrap)
        self._bubblewrap = place.isolator
        self._pretended = filters.pretended(self._numbers)
        self._refused = filters.refused(self._numbers)

    def _apart(self, spec: Spec) -> bool:
        return self._bubblewrap.own_network and spec.network != "host"

    async def _start(self, spec: Spec, rootfs: Rootfs, endpoint: Endpoint, stdio: Stdio) -> Process:
        words = await asyncio.to_thread(bubblewrap.arguments, self._bubblewrap, spec, rootfs)
        info, told = os.pipe2(os.O_CLOEXEC)
        programs = [os.memfd_create("filter", os.MFD_CLOEXEC) for _ in bubblewrap.FILTER_FDS]
        try:
            for program, content in zip(programs, (self._refused, self._pretended), strict=True):
                os.pwrite(program, content, 0)
            details = {
                "path": str(self._bubblewrap.program),
                "tty": spec.command.tty,
                "ulimits": spec.ulimits,
                "notify": self._mediated(spec),
            }
            order = Order("plain", words, (f"PATH={os.defpath}",), details)
            try:
                child = await self._launcher.launch(order, stdio, told, *programs)
            finally:
                for descriptor in (told, *programs):
                    os.close(descriptor)
            try:
                await hear_all(child, self._mediator, endpoint)
                pid = await _first_process(info)
                await self._has_begun(child, pid, init=spec.init)
            except BaseException:
                processes.send(child.pid, signal.SIGKILL)
                raise
            return Contained(child, pid, dict(endpoint.published), init=spec.init)
        finally:
            os.close(info)

    async def _has_begun(self, child: Child, pid: int, *, init: bool) -> None:
        """Wait until the program runs: before, the root may still be this machine's, and an init loses signals."""
        ours = os.stat(self._bubblewrap.program)
        while not child.ended.done():
            first = processes.children(pid)[:1] if init else [pid]
            with contextlib.suppress(OSError):
                if first and not os.path.samestat(os.stat(f"/proc/{first[0]}/exe"), ours):
                    return
            await asyncio.sleep(0.0005)

    async def _execute(self, running: Running, command: Command, stdio: Stdio) -> Process:
        programs = [] if command.privileged else [self._refused]
        programs += [self._pretended] if command.uid == 0 else []
        details = {
            "pid": running.process.pid,
            "uid": command.uid,
            "gid": command.gid,
            "workdir": command.workdir,
            "tty": command.tty,
            "filters": [program.hex() for program in programs],
            "notify": self._mediated(running.spec),
        }
        child = await self._launcher.launch(Order("enter", command.argv, command.env, details), stdio)
        try:
            said = await hear_all(child, self._mediator, running.endpoint)
        except OSError as error:
            processes.send(child.pid, signal.SIGKILL)
            if error.errno:
                raise refuse_program(command.argv[0], error, "OCI runtime exec failed: exec failed") from error
            raise
        return Entered(child, int(said["child"]), {})

    async def _open_running(self, running: Running) -> int:
        root = os.open(f"/proc/{running.process.pid}/root", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        if os.path.samestat(os.fstat(root), os.stat("/")):
            os.close(root)
            raise failed(f"the root of container {running.spec.id[:12]} cannot be opened: it is not set up")
        return root


async def _first_process(info: int) -> int:
    """Read from bubblewrap which process is the container's first.

    Raises
    ------
    OSError
        bubblewrap ended before there was one.
    """
    os.set_blocking(info, False)
    text = b""
    while b"}" not in text:
        await readable(info, _INFO_LIMIT_S)
        with contextlib.suppress(BlockingIOError):
            chunk = os.read(info, 65536)
            if not chunk:
                raise OSError(0, "bubblewrap could not set the container up; the container's log says why")
            text += chunk
    return int(json.loads(text)["child-pid"])

"""Containers held by PRoot, which rewrites the paths of their system calls while it traces them."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from dockerlab.engine import files
from dockerlab.engine.isolate import calls, filters, inside, processes, proot
from dockerlab.engine.isolate.isolator import Isolator, Running, Supervised, hear_all
from dockerlab.engine.isolate.launcher import Child, Order, exit_code
from dockerlab.engine.isolate.probe import Place
from dockerlab.engine.isolate.proot import PRoot
from dockerlab.engine.isolate.ready import readable
from dockerlab.engine.isolate.snapshots import Rootfs
from dockerlab.engine.isolate.spec import Command, Process, Spec, Stdio
from dockerlab.engine.isolate.switch import Endpoint
from dockerlab.engine.refusals import RefusalError

_BY_SIGNAL = 255
"""What PRoot exits with when its program was ended by a signal and no other ended by itself."""
_NOTED_S = 0.2


class Traced(Supervised):
    """A program below PRoot.

    PRoot waits for everything that it traces. A container ends with its program, so what is left then is killed here;
    what one more process of a container leaves goes on.

    Parameters
    ----------
    pidfd : int
        Stands for the program; -1 when it has ended already.
    main : bool
        Whether it is the main process of the container.
    """

    def __init__(
        self, child: Child, pid: int, pidfd: int, ports: Mapping[tuple[int, str], tuple[str, int]], *, main: bool
    ) -> None:
        super().__init__(child, pid, ports)
        self._main = main
        self._last_signal = 0
        self._status: int | None = None
        self._main_ended = False
        self._killing: asyncio.Task[None] | None = None
        self._end = asyncio.get_running_loop().create_task(self._watch(pidfd))

    async def wait(self) -> int:
        """Wait for its end."""
        return await asyncio.shield(self._end)

    def signal(self, number: int) -> None:
        """Send a signal to the program."""
        if not self.ended and not self._main_ended:
            self._last_signal = number
            processes.send(self.pid, number)

    def kill(self) -> None:
        """End everything that PRoot traces."""
        if self._killing is None and not self.ended:
            self._last_signal = signal.SIGKILL
            self._killing = asyncio.get_running_loop().create_task(self._end_all())

    def pids(self) -> tuple[int, ...]:
        """Give the numbers of everything that PRoot traces."""
        return () if self.ended else tuple(self._traced())

    def _traced(self) -> list[int]:
        return processes.traced_by([self.child.pid])

    async def _watch(self, pidfd: int) -> int:
        if pidfd >= 0:
            await readable(pidfd)
            self._main_ended = True
            self._status = await self._status_of(pidfd)
            os.close(pidfd)
            await asyncio.wait([self.child.ended], timeout=0.02)
            if not self._main and not self.child.ended.done():
                return exit_code(self._status or 0)  # before Linux 6.15 nobody knows
            await self._end_all()
        code = exit_code(await self.child.wait())
        if self._status is not None:
            return exit_code(self._status)
        return 128 + self._last_signal if code == _BY_SIGNAL and self._last_signal else code

    async def _end_all(self) -> None:
        while not self.child.ended.done():
            await asyncio.to_thread(processes.end, self._traced, 1.0)
            await asyncio.wait([self.child.ended], timeout=0.02)

    async def _status_of(self, pidfd: int) -> int | None:
        """Give the status that a process ended with; the kernel knows it once PRoot has taken note of the end."""
        until_s = time.monotonic() + _NOTED_S
        while (status := calls.exit_status(pidfd)) is None and time.monotonic() < until_s:
            if self.child.ended.done():
                return calls.exit_status(pidfd)
            await asyncio.wait([self.child.ended], timeout=0.002)
        return status


class TracedIsolator(Isolator):
    """Starts containers with PRoot."""

    name = "proot"
    _own_processes = False

    def __init__(self, folder: Path, place: Place) -> None:
        super().__init__(folder, place)
        assert isinstance(place.isolator, PRoot)
        self._proot = place.isolator
        self._untranslated = filters.untranslated(self._numbers).hex()

    def _apart(self, spec: Spec) -> bool:  # noqa: ARG002 - of the interface
        return False

    async def _start(self, spec: Spec, rootfs: Rootfs, endpoint: Endpoint, stdio: Stdio) -> Process:
        await asyncio.to_thread(_make_places, spec, rootfs)
        return await self._trace(spec, spec.command, rootfs, endpoint, stdio)

    async def _execute(self, running: Running, command: Command, stdio: Stdio) -> Process:
        await asyncio.to_thread(self._check_exec, running, command)
        return await self._trace(running.spec, command, running.rootfs, running.endpoint, stdio)

    async def _open_running(self, running: Running) -> int:
        return os.open(running.rootfs.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    async def _trace(self, spec: Spec, command: Command, rootfs: Rootfs, endpoint: Endpoint, stdio: Stdio) -> Process:
        details = {
            "path": str(self._proot.program),
            "tty": command.tty,
            "ulimits": spec.ulimits,
            "filters": [self._untranslated],
            "notify": self._mediated(spec),
        }
        words = await asyncio.to_thread(proot.arguments, spec, command, rootfs)
        child = await self._launcher.launch(Order("plain", words, command.env, details), stdio)
        endpoint.tracers.add(child.pid)
        child.ended.add_done_callback(lambda _: endpoint.tracers.discard(child.pid))
        try:
            await hear_all(child, self._mediator, endpoint)
            pid, pidfd = await _program_of(child)
        except BaseException:
            processes.send(child.pid, signal.SIGKILL)
            raise
        if command is spec.command:
            endpoint.main = pid
        return Traced(child, pid, pidfd, dict(endpoint.published), main=command is spec.command)

    def _check_exec(self, running: Running, command: Command) -> None:
        wanted = dataclasses.replace(running.spec, command=command)
        if self._check(wanted, running.rootfs, "OCI runtime exec failed: exec failed"):
            text = f'chdir to cwd ("{command.workdir}") set in config.json failed: no such file or directory'
            raise RefusalError(400, f"OCI runtime exec failed: exec failed: {text}")


async def _program_of(child: Child) -> tuple[int, int]:
    """Find the program that PRoot started: its number, and a descriptor of it (-1 when it has ended already)."""
    while not child.ended.done():
        below = processes.children(child.pid)
        if below:
            try:
                return below[0], calls.pidfd_open(below[0])
            except OSError:
                break
        await asyncio.sleep(0.001)
    return child.pid, -1


def _make_places(spec: Spec, rootfs: Rootfs) -> None:
    """Make the files and folders that something is laid over, where they are missing."""
    files.remove(rootfs.folder / "tmpfs")
    laid: list[tuple[Path, str]] = [(rootfs.root, "")]
    for source, target in proot.mounts(spec, rootfs):
        if source.parent == rootfs.folder / "tmpfs":
            source.mkdir(mode=0o700, parents=True)
            source.chmod(0o1777)
        below, outer = max((one for one in laid if f"{target}/".startswith(f"{one[1]}/")), key=lambda one: len(one[1]))
        if below.is_dir():
            with _opened(below) as root:
                _make_place(root, target[len(outer) :], folder=source.is_dir())
        laid.append((source, target.rstrip("/")))


def _make_place(root: int, path: str, *, folder: bool) -> None:
    if folder:
        inside.mkdirs(root, path)
        return
    inside.mkdirs(root, path.rpartition("/")[0])
    try:
        os.close(inside.open_file(root, path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)

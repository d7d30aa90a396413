"""Puts containers behind walls: what both ways, bubblewrap and PRoot, have in common."""

from __future__ import annotations

import abc
import asyncio
import contextlib
import errno
import os
import signal
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from dockerlab.engine.isolate import filters, inside, processes
from dockerlab.engine.isolate.launcher import Child, Launcher, Order, hear
from dockerlab.engine.isolate.mediator import Mediator
from dockerlab.engine.isolate.probe import Place
from dockerlab.engine.isolate.snapshots import Rootfs, Snapshots
from dockerlab.engine.isolate.spec import Change, Command, Process, Report, Spec, Stdio
from dockerlab.engine.isolate.stack import find, find_program
from dockerlab.engine.isolate.switch import Endpoint, Switch
from dockerlab.engine.refusals import RefusalError, conflict, failed

_PREFIX = "OCI runtime create failed: unable to start container process"


@dataclass
class Running:
    """A container that runs."""

    spec: Spec
    rootfs: Rootfs
    endpoint: Endpoint
    process: Process
    execs: set[Process] = field(default_factory=set)


class Isolator(abc.ABC):
    """Starts containers and processes in them.

    Parameters
    ----------
    folder : Path
        Where the roots of containers are kept.
    place : Place
        What works here.
    """

    name: str
    _own_processes: bool  # whether the kernel gives a container a namespace for its processes

    def __init__(self, folder: Path, place: Place) -> None:
        numbers = filters.machine()
        assert numbers is not None
        self.report: Report = place.report
        self._numbers = numbers
        self._folder = folder
        self._snapshots = Snapshots(folder, overlay=place.overlay)
        self._launcher = Launcher()
        self._switch = Switch()
        self._mediator = Mediator(self._switch, numbers)
        self._running: dict[str, Running] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._mounted = folder / "mounted"
        self._mounted.mkdir(mode=0o700, exist_ok=True)

    async def open(self) -> None:
        """Make ready to start containers; what an earlier engine left running is ended."""
        await asyncio.to_thread(processes.end, lambda: processes.with_files_of(self._folder / "roots"))
        await self._launcher.open()

    async def close(self) -> None:
        """End every container."""
        await self._launcher.close()
        await self._mediator.close()

    async def prepare(self, container: str, layers: Sequence[Path]) -> None:
        """Make the writable root of a container; see ``Snapshots.prepare``."""
        await asyncio.to_thread(self._snapshots.prepare, container, layers)

    async def remove(self, container: str) -> None:
        """Delete the root of a container; nothing happens when there is none."""
        self._locks.pop(container, None)
        await asyncio.to_thread(self._snapshots.remove, container)

    async def tidy(self, containers: Sequence[str]) -> None:
        """Delete every root but those of these containers."""
        await asyncio.to_thread(self._snapshots.tidy, containers)

    async def changes(self, container: str) -> list[Change]:
        """Tell what a container wrote."""
        return await asyncio.to_thread(self._snapshots.differences, container)

    async def commit_layer(self, container: str, target: BinaryIO) -> None:
        """Write what a container wrote as the tar archive of a layer."""
        await asyncio.to_thread(self._snapshots.write_layer, container, target)

    def join(self, container: str, addresses: tuple[str, ...]) -> None:
        """Give a running container other addresses."""
        self._switch.join(container, addresses)

    @asynccontextmanager
    async def root(self, container: str) -> AsyncIterator[int]:
        """Open the root of a container, running or not; what is written there is the container's own.

        Yields
        ------
        int
            A descriptor for the functions of ``inside``, valid in the block only.
        """
        async with self._lock(container):
            running = self._running.get(container)
            descriptor = await (self._open_running(running) if running else self._open_stopped(container))
            try:
                yield descriptor
            finally:
                os.close(descriptor)

    async def start(self, spec: Spec, stdio: Stdio) -> Process:
        """Start a container.

        Raises
        ------
        RefusalError
            Its program cannot be run (400), or the place could not hold it (500); in Docker's words.
        """
        if spec.id in self._running:
            raise conflict(f"container {spec.id[:12]} is running already")
        rootfs = self._snapshots.get(spec.id)
        if rootfs.overlay and self.report.storage_driver != "overlay":
            raise failed(
                "the container was made with overlays, which do not work here now: remove it and make it again"
            )
        if await asyncio.to_thread(self._check, spec, rootfs):
            async with self.root(spec.id) as descriptor:
                await asyncio.to_thread(_make_workdir, descriptor, spec.command.workdir)
        async with self._lock(spec.id):
            endpoint = Endpoint(
                spec.id,
                spec.network,
                spec.internal,
                spec.addresses,
                self._apart(spec),
                spec.hostname,
                spec.domainname,
            )
            self._switch.attach(endpoint, spec.published if spec.network not in {"host", "none"} else ())
            try:
                process = await self._start(spec, rootfs, endpoint, stdio)
            except BaseException as error:
                self._switch.detach(spec.id)
                if isinstance(error, OSError):
                    raise failed(f"{_PREFIX}: {error.strerror or error}") from error
                raise
            running = self._running[spec.id] = Running(spec, rootfs, endpoint, process)
            asyncio.get_running_loop().create_task(self._forget(running))
            return process

    async def execute(self, container: str, command: Command, stdio: Stdio) -> Process:
        """Start one more process in a running container.

        Raises
        ------
        RefusalError
            The container does not run (409), or the program cannot be run (400).
        """
        running = self._running.get(container)
        if running is None:
            raise conflict(f"Container {container} is not running")
        try:
            process = await self._execute(running, command, stdio)
        except OSError as error:
            raise failed(f"OCI runtime exec failed: {error.strerror or error}") from error
        running.execs.add(process)
        return process

    @abc.abstractmethod
    def _apart(self, spec: Spec) -> bool:
        """Tell whether a container gets a network namespace of its own."""

    @abc.abstractmethod
    async def _start(self, spec: Spec, rootfs: Rootfs, endpoint: Endpoint, stdio: Stdio) -> Process: ...

    @abc.abstractmethod
    async def _execute(self, running: Running, command: Command, stdio: Stdio) -> Process: ...

    @abc.abstractmethod
    async def _open_running(self, running: Running) -> int: ...

    def _lock(self, container: str) -> asyncio.Lock:
        return self._locks.setdefault(container, asyncio.Lock())

    def _mediated(self, spec: Spec) -> str:
        """Make the filter of the calls that are answered here, in hexadecimal; empty when there are none."""
        network = spec.network != "host" and not (spec.network == "none" and self._apart(spec))
        names, signals = not self.report.walls["hostname"], not self._own_processes
        if not (network or names or signals):
            return ""
        return filters.mediated(self._numbers, network=network, names=names, signals=signals).hex()

    async def _forget(self, running: Running) -> None:
        """Take a container out of the books once it has ended."""
        await running.process.wait()
        for process in running.execs:
            process.kill()
        self._switch.detach(running.spec.id)
        self._running.pop(running.spec.id, None)

    async def _open_stopped(self, container: str) -> int:
        rootfs = self._snapshots.get(container)
        if not rootfs.overlay:
            return os.open(rootfs.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        lower = ":".join(_escape(layer) for layer in rootfs.layers[::-1])
        options = f"lowerdir={lower},upperdir={_escape(rootfs.upper)},workdir={_escape(rootfs.work)},userxattr"
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            details = {"target": str(self._mounted), "options": options}
            child = await self._launcher.launch(Order("view", details=details), Stdio(null, null, null))
            told = await hear(child)
        finally:
            os.close(null)
        for message, descriptors in told:
            if message.get("root"):
                return descriptors[0]
        raise failed(
            f"the root of container {container[:12]} cannot be opened: {told[-1][0].get('error') if told else ''}"
        )

    def _check(self, spec: Spec, rootfs: Rootfs, prefix: str = _PREFIX) -> bool:
        """Look whether the program is there before anything is started; tells whether the work folder is to be made."""
        path = next((item[5:] for item in spec.command.env if item.startswith("PATH=")), os.defpath)
        program = spec.command.argv[0]
        if not any(mount.target in ("/", "") for mount in spec.mounts):
            try:
                find_program(rootfs.top_down, program, path, spec.command.workdir)
            except OSError as error:
                if not _may_be_mounted(program, path, spec):
                    raise refuse_program(program, error, prefix) from error
        try:
            return find(rootfs.top_down, spec.command.workdir).file is None
        except OSError as error:
            text = f'chdir to cwd ("{spec.command.workdir}") set in config.json failed: {error.strerror}'
            raise RefusalError(400, f"{prefix}: {text}") from error


def refuse_program(program: str, error: OSError, prefix: str = _PREFIX) -> RefusalError:
    """Say in Docker's words why a program cannot be run."""
    reason = error.strerror
    if error.errno == errno.ENOENT:
        reason = (
            f"stat {program}: no such file or directory" if "/" in program else "executable file not found in $PATH"
        )
    elif error.errno == errno.EACCES:
        reason = "permission denied"
    elif error.errno == errno.ENOEXEC:
        reason = "exec format error"
    return RefusalError(400, f'{prefix}: exec: "{program}": {reason}: unknown')


def _may_be_mounted(program: str, path: str, spec: Spec) -> bool:
    """Tell whether a mount may bring the program, which cannot be known without mounting it."""
    places = [program] if "/" in program else path.split(":")
    mounted = (*(mount.target for mount in spec.mounts), *(memory.target for memory in spec.tmpfs))
    targets = [target.rstrip("/") + "/" for target in mounted]
    return any((place.rstrip("/") + "/").startswith(target) for place in places for target in targets)


def _make_workdir(root: int, workdir: str) -> None:
    try:
        inside.mkdirs(root, workdir)
    except OSError as error:
        raise inside.trouble(error, workdir) from error


def _escape(path: Path) -> str:
    return str(path).replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")


class Supervised:
    """A process that the spawner started, with what was started below it.

    Parameters
    ----------
    child : Child
        bubblewrap, PRoot, or the process that stands in for one inside.
    pid : int
        The process itself.
    """

    def __init__(self, child: Child, pid: int, ports: Mapping[tuple[int, str], tuple[str, int]]) -> None:
        self.child = child
        self.pid = pid
        self.ports = ports
        self.started_s = time.time()

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self.child.ended.done()

    def signal(self, number: int) -> None:
        """Send a signal to it."""
        if not self.ended:
            processes.send(self.pid, number)

    def kill(self) -> None:
        """End it and what is below it."""
        if not self.ended:
            processes.send(self.pid, signal.SIGKILL)

    def pids(self) -> tuple[int, ...]:
        """Give its number and those below it."""
        return () if self.ended else tuple(processes.below([self.pid]))


async def hear_all(child: Child, mediator: Mediator, endpoint: Endpoint) -> dict[str, Any]:
    """Hear what a child tells, and have its listener watched at once; gives all messages as one.

    Raises
    ------
    OSError
        It said that it failed; ``errno`` may be 0.
    """
    said: dict[str, Any] = {}
    for message, descriptors in await hear(child):
        if message.get("listener"):
            mediator.watch(descriptors[0], endpoint)
        said |= message
    if "error" in said:
        error = OSError(said["errno"], os.strerror(said["errno"]) if said["errno"] else said["error"])
        with contextlib.suppress(Exception):
            await child.wait()
        raise error
    return said

"""RUN: one command in a container of its own."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os
import posixpath
import shutil
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from dockerlab.engine.build.blocking import finished
from dockerlab.engine.images.tree import Entry, Tree
from dockerlab.engine.isolate.spec import Mount, Process, Spec, Stdio

_CHUNK_BYTES = 1 << 16
_DRAIN_S = 2.0
RED, PLAIN = "\x1b[91m", "\x1b[0m"
_HOSTS = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"

Say = Callable[[str], Awaitable[None]]


class Isolator(Protocol):
    """What is needed of the engine's isolator."""

    async def prepare(self, container: str, layers: Sequence[Path], /) -> None:
        """Make the writable root."""
        ...

    async def remove(self, container: str, /) -> None:
        """Delete it."""
        ...

    async def start(self, spec: Spec, stdio: Stdio, /) -> Process:
        """Start the container."""
        ...

    async def commit_layer(self, container: str, target: Any, /) -> None:
        """Write what it wrote as a layer."""
        ...


class Run:
    """A container for one command; it is gone after the block, whatever happens.

    Parameters
    ----------
    isolator : Isolator
    container : str
        Its id.
    layers : sequence of Path
        Of its image, lowest first.
    """

    def __init__(self, isolator: Isolator, container: str, layers: Sequence[Path]) -> None:
        self._isolator = isolator
        self._container = container
        self._layers = layers

    async def __aenter__(self) -> Run:
        try:
            await finished(asyncio.ensure_future(self._isolator.prepare(self._container, self._layers)))
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await finished(asyncio.ensure_future(self._isolator.remove(self._container)))

    async def execute(self, spec: Spec, say: Say) -> int:
        """Run the command and pass on what it prints.

        Parameters
        ----------
        spec : Spec
        say : callable
            Gets pieces of the output; what went to standard error is marked red, as Docker does.

        Returns
        -------
        int
            The exit code.
        """
        process, readers = await self._start(spec)
        pumps = [
            asyncio.ensure_future(_pump(readers[0], say, "", "")),
            asyncio.ensure_future(_pump(readers[1], say, RED, PLAIN)),
        ]
        waiter = asyncio.ensure_future(process.wait())
        try:
            waiting: set[asyncio.Future[Any]] = {waiter, *pumps}
            while not waiter.done():
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for pump in done - {waiter}:
                    pump.result()  # raises where the client has gone
            process.kill()  # what it left behind ends with it
            if waiting:
                await asyncio.wait(waiting, timeout=_DRAIN_S)
            return waiter.result()
        finally:
            await _end(process)
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(waiter, *pumps, return_exceptions=True)

    async def _start(self, spec: Spec) -> tuple[Process, tuple[int, int]]:
        """Start the container; gives the ends to read its output from."""
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        out, to_out = os.pipe()
        err, to_err = os.pipe()
        starting = asyncio.ensure_future(self._isolator.start(spec, Stdio(null, to_out, to_err)))
        try:
            return await finished(starting), (out, err)
        except BaseException:
            os.close(out)
            os.close(err)
            if not starting.cancelled() and starting.exception() is None:
                await _end(starting.result())
            raise
        finally:
            for descriptor in (null, to_out, to_err):
                os.close(descriptor)

    async def layer(self, target: Path) -> None:
        """Write what the command wrote as the tar archive of a layer."""
        with target.open("wb") as file:
            await finished(asyncio.ensure_future(self._isolator.commit_layer(self._container, file)))


def write_network_files(folder: Path, hostname: str, extra_hosts: Sequence[str]) -> tuple[Mount, ...]:
    """Write /etc/hosts, /etc/hostname and /etc/resolv.conf for a step; blocks."""
    extra = "".join(f"{address}\t{name}\n" for name, _, address in (one.partition(":") for one in extra_hosts))
    try:
        resolver = Path("/etc/resolv.conf").read_text(encoding="utf-8", errors="replace")
    except OSError:
        resolver = ""
    texts = {"hosts": f"{_HOSTS}127.0.0.1\t{hostname}\n{extra}", "hostname": f"{hostname}\n", "resolv.conf": resolver}
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return tuple(Mount(folder / name, f"/etc/{name}") for name in texts)


def volume_mounts(folder: Path, tree: Tree, volumes: Sequence[str]) -> tuple[Mount, ...]:
    """Make what a step sees at its image's volumes: a copy, whose changes are lost, as with Docker; blocks."""
    mounts = []
    for number, path in enumerate(volumes):
        copy = folder / f"volume-{number}"
        copy.mkdir()
        start = tree.lookup(path)
        if start is not None and start.kind == "folder":
            _fill(copy, tree, start)
        mounts.append(Mount(copy, posixpath.join("/", path)))
    return tuple(mounts)


def _fill(folder: Path, tree: Tree, start: Entry) -> None:
    prefix = len(start.path.rstrip("/")) + 1
    folder.chmod(start.mode & 0o777 | 0o700)
    for entry in tree.walk(start.path):
        if entry.path == start.path:
            continue
        place = folder / entry.path[prefix:]
        if entry.kind == "folder":
            place.mkdir()
        elif entry.kind == "file":
            shutil.copyfile(entry.source, place, follow_symlinks=False)
        elif entry.kind == "link":
            place.symlink_to(entry.target)
            continue
        else:
            continue
        place.chmod(entry.mode & 0o1777 | (0o700 if entry.kind == "folder" else 0o400))


async def _end(process: Process) -> None:
    process.kill()
    await finished(asyncio.ensure_future(process.wait()))


async def _pump(descriptor: int, say: Say, before: str, after: str) -> None:
    """Pass on what comes out of a pipe until it is closed."""
    loop = asyncio.get_running_loop()
    stream = asyncio.StreamReader(limit=_CHUNK_BYTES)
    file = os.fdopen(descriptor, "rb", buffering=0)
    try:
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stream), file)
    except BaseException:
        file.close()
        raise
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    try:
        while chunk := await stream.read(_CHUNK_BYTES):
            if text := decoder.decode(chunk):
                await say(f"{before}{text}{after}")
        if text := decoder.decode(b"", True):
            await say(f"{before}{text}{after}")
    finally:
        with contextlib.suppress(Exception):
            transport.close()

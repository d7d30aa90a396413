"""A builder without walls: RUN is a function of the test's, everything else is real."""

from __future__ import annotations

import asyncio
import io
import os
import tarfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from dockerlab.engine.build import Parts, build, read_options
from dockerlab.engine.images.record import ImageRecord
from dockerlab.engine.images.store import Images
from dockerlab.engine.isolate.spec import Spec, Stdio

Content = bytes | str | None | tarfile.TarInfo


def archive(files: Mapping[str, Content], *, mode: str = "w", mtime: int = 1_700_000_000) -> bytes:
    """Make a tar archive: None is a folder, a text beginning with ``->`` a link."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode=mode) as tar:  # type: ignore[call-overload]
        for name, content in files.items():
            if isinstance(content, tarfile.TarInfo):
                content.name = name
                tar.addfile(content, io.BytesIO(b"x" * content.size))
                continue
            entry = tarfile.TarInfo(name)
            entry.mtime = mtime
            if content is None:
                entry.type, entry.mode = tarfile.DIRTYPE, 0o700
                tar.addfile(entry)
            elif isinstance(content, str) and content.startswith("->"):
                entry.type, entry.linkname = tarfile.SYMTYPE, content[2:]
                tar.addfile(entry)
            else:
                raw = content.encode() if isinstance(content, str) else content
                entry.size = len(raw)
                tar.addfile(entry, io.BytesIO(raw))
    return target.getvalue()


class FakeProcess:
    """A process that is a task."""

    pid = 1
    started_s = 0.0
    ports: Mapping[tuple[int, str], tuple[str, int]] = {}

    def __init__(self, work: Awaitable[int]) -> None:
        self._task = asyncio.ensure_future(work)
        self.killed = False

    async def wait(self) -> int:
        try:
            return await asyncio.shield(self._task)
        except asyncio.CancelledError:
            if self._task.cancelled():
                return 137
            raise

    def signal(self, number: int) -> None: ...

    def kill(self) -> None:
        self.killed = True
        self._task.cancel()

    def pids(self) -> tuple[int, ...]:
        return ()


Behaviour = Callable[[Spec, Callable[[int, bytes], None], dict[str, bytes]], Awaitable[int]]


@dataclass
class FakeIsolator:
    """Runs a function instead of a container's command; what that puts into its dict is what the container wrote."""

    behaviour: Behaviour
    roots: set[str] = field(default_factory=set)
    written: dict[str, dict[str, bytes]] = field(default_factory=dict)
    specs: list[Spec] = field(default_factory=list)
    processes: list[FakeProcess] = field(default_factory=list)

    async def prepare(self, container: str, layers: Sequence[Path], /) -> None:
        assert all(layer.is_dir() for layer in layers)
        self.roots.add(container)

    async def remove(self, container: str, /) -> None:
        self.roots.discard(container)

    async def start(self, spec: Spec, stdio: Stdio, /) -> FakeProcess:
        assert spec.id in self.roots
        self.specs.append(spec)
        pipes = {1: os.dup(stdio.stdout), 2: os.dup(stdio.stderr)}
        written = self.written.setdefault(spec.id, {})

        async def work() -> int:
            try:
                return await self.behaviour(spec, lambda number, raw: os.write(pipes[number], raw) and None, written)
            finally:
                for descriptor in pipes.values():
                    os.close(descriptor)

        process = FakeProcess(work())
        self.processes.append(process)
        return process

    async def commit_layer(self, container: str, target: BinaryIO, /) -> None:
        target.write(archive(dict(self.written[container])))


async def behave(spec: Spec, say: Callable[[int, bytes], None], written: dict[str, bytes]) -> int:
    """What the fake shell can: ``say X``, ``err X``, ``write NAME X``, ``exit N``, ``sleep``; else nothing."""
    for command in spec.command.argv[-1].split(" && "):
        word, _, rest = command.partition(" ")
        if word in ("say", "err"):
            say(1 if word == "say" else 2, f"{rest}\n".encode())
        elif word == "write":
            name, _, content = rest.partition(" ")
            written[name] = content.encode()
        elif word == "exit":
            return int(rest)
        elif word == "sleep":
            await asyncio.sleep(60)
    return 0


@dataclass
class Bench:
    """An engine's store and a builder.

    Attributes
    ----------
    output : list of dict
        Messages of the last build.
    """

    folder: Path
    isolator: FakeIsolator = field(default_factory=lambda: FakeIsolator(behave))
    output: list[dict[str, Any]] = field(default_factory=list)
    image_id: str = ""

    def __post_init__(self) -> None:
        self.images = Images(self.folder / "images")
        self.parts = Parts(self.images, self.isolator)

    def build(self, dockerfile: str, files: Mapping[str, Content] | None = None, /, **options: str) -> str:
        """Build, and give what is printed."""
        asyncio.run(self.building(dockerfile, files, **options))
        return self.text

    async def building(self, dockerfile: str, files: Mapping[str, Content] | None = None, /, **options: str) -> None:
        """Build; like `build`, to be awaited."""
        context = self.folder / f"context-{time.monotonic_ns()}.tar"
        context.write_bytes(archive({**(files or {}), "Dockerfile": dockerfile}))
        self.output.clear()

        async def emit(message: dict[str, Any]) -> None:
            self.output.append(message)

        query = {"rm": "1", "forcerm": "1", **options}
        self.image_id = await build(self.parts, context, read_options(query.items()), emit)

    @property
    def text(self) -> str:
        """What was printed, errors too."""
        return "".join(str(one.get("stream") or one.get("error") or "") for one in self.output)

    @property
    def error(self) -> str:
        """Why it failed."""
        return str(self.output[-1].get("error", ""))

    @property
    def image(self) -> ImageRecord:
        """The image that was built."""
        return self.images.get(self.image_id)

    def files(self, name: str = "") -> dict[str, tuple[str, int, int, int, str]]:
        """What an image has, the one that was built unless it is named: kind, mode, uid, gid, and content or target."""
        tree = self.images.tree(self.images.get(name) if name else self.image)
        return {
            one.path: (
                one.kind,
                one.mode,
                one.uid,
                one.gid,
                one.source.read_text(errors="replace") if one.kind == "file" else one.target,
            )
            for one in tree.walk("/")
            if one.path != "/"
        }

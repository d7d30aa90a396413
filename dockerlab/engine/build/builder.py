"""Builds an image, and tells about it in the words of Docker's classic builder."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from dockerlab.engine.build.arguments import Arguments
from dockerlab.engine.build.blocking import blocking
from dockerlab.engine.build.context import read_dockerfile, unpack_context
from dockerlab.engine.build.dockerfile import Dockerfile, Stage, parse
from dockerlab.engine.build.instructions import Instruction, parse_one
from dockerlab.engine.build.options import BuildOptions
from dockerlab.engine.build.running import Isolator
from dockerlab.engine.build.stage import StageState
from dockerlab.engine.build.steps import Steps, defaults
from dockerlab.engine.build.teller import Emit, Message, Teller, short
from dockerlab.engine.build.words import expand
from dockerlab.engine.images.record import ImageRecord
from dockerlab.engine.images.store import Images
from dockerlab.engine.images.tree import Tree
from dockerlab.engine.refusals import RefusalError, bad, failed

Pull = Callable[[str, str, Callable[[Message], None]], Awaitable[object]]


@dataclass(frozen=True)
class Parts:
    """What a build needs of the engine.

    Attributes
    ----------
    images : Images
        The store.
    isolator : Isolator
        Runs the steps.
    pull : callable or None
        Fetches an image by name and platform (may be empty), and reports to a function that may be called in the event
        loop only; None where there is no registry.
    """

    images: Images
    isolator: Isolator
    pull: Pull | None = None


async def build(parts: Parts, archive: Path, options: BuildOptions, emit: Emit) -> str:
    """Build an image.

    When it is cancelled, the step that runs is ended and nothing is left of it.

    Parameters
    ----------
    parts : Parts
    archive : Path
        The context, a tar archive; it is only read.
    options : BuildOptions
    emit : callable
        Gets Docker's messages one after the other.

    Returns
    -------
    str
        Id of the image; empty when the build failed, which the client has been told by then.

    Raises
    ------
    RefusalError
        400: the context or the Dockerfile cannot be used; nothing was emitted yet.
    """
    workspace = parts.images.workspace()
    folder = Path(workspace.name)
    try:
        (folder / "context").mkdir()
        context = await blocking(unpack_context, archive, folder / "context", parts.images.limits)
        dockerfile = await blocking(_plan, context, options)
        teller = Teller(emit, quiet=options.quiet)
        try:
            return await Builder(
                parts, options, dockerfile=dockerfile, context=context, folder=folder, teller=teller
            ).run()
        except RefusalError as error:
            await teller.fail(error)
            return ""
        except ConnectionError:  # the client has gone
            raise
        except OSError as error:
            await teller.fail(failed((error.strerror or str(error)).lower()))
            return ""
    finally:
        await blocking(workspace.cleanup)


def _plan(context: Tree, options: BuildOptions) -> Dockerfile:
    found = parse(read_dockerfile(context, options.dockerfile), options.dockerfile)
    return found.up_to(options.target)


class Builder:
    """One build."""

    def __init__(
        self,
        parts: Parts,
        options: BuildOptions,
        *,
        dockerfile: Dockerfile,
        context: Tree,
        folder: Path,
        teller: Teller,
    ) -> None:
        self._images = parts.images
        self._parts = parts
        self._options = options
        self._file = dockerfile
        self._teller = teller
        self._arguments = Arguments(options.arguments)
        self._steps = Steps(
            parts.images,
            parts.isolator,
            options=options,
            arguments=self._arguments,
            context=context,
            folder=folder,
            escape=dockerfile.escape,
            teller=teller,
            find_origin=self._origin,
        )
        self._done: list[tuple[str, StageState]] = []
        self._step = 0

    async def run(self) -> str:
        """Build all stages; gives the id."""
        for warning in (*self._file.warnings, *(f"[Warning] {one}" for one in self._options.warnings)):
            await self._teller.say(f"{warning}\n")
        labels = [
            Instruction(0, f"LABEL {name}={value}", "LABEL", (name, value), exec_form=True)
            for name, value in sorted(self._options.labels.items())
        ]
        self._total = self._file.step_count + len(labels)
        for instruction in self._file.globals:
            await self._announce(instruction)
            variables = self._arguments.for_from
            for name, default in defaults(instruction, variables, self._file.escape):
                self._arguments.declare_global(name, default)
        for number, stage in enumerate(self._file.stages):
            last = number == len(self._file.stages) - 1
            await self._stage(stage, labels if last else [])
        image_id = self._done[-1][1].image_id
        if not image_id:
            raise bad("No image was generated. Is your Dockerfile empty?")
        if unused := self._arguments.unused():
            await self._teller.say(f"[Warning] One or more build-args [{' '.join(unused)}] were not consumed\n")
        await self._teller.say(f"Successfully built {short(image_id)}\n")
        for reference in self._options.tags:
            await blocking(self._images.tag, image_id, reference)
            await self._teller.say(f"Successfully tagged {reference.familiar}\n")
        await self._teller.result(image_id)
        return image_id

    async def _announce(self, instruction: Instruction) -> None:
        self._step += 1
        await self._teller.say(f"Step {self._step}/{self._total} : {instruction.text}")
        await self._teller.say("\n")

    async def _stage(self, stage: Stage, labels: list[Instruction]) -> None:
        await self._announce(stage.origin)
        self._arguments.start_stage()
        image = await self._base(stage)
        state = StageState(self._images, image, use_cache=not self._options.no_cache)
        self._done.append((stage.name, state))
        if state.triggers:
            plural = "s" if len(state.triggers) > 1 else ""
            await self._teller.say(f"# Executing {len(state.triggers)} build trigger{plural}")
            await self._teller.say("\n")
            for text in state.triggers:
                trigger = parse_one(text)
                if trigger.keyword in ("FROM", "MAINTAINER", "ONBUILD"):
                    raise bad(f"{trigger.keyword} isn't allowed as an ONBUILD trigger")
                await self._steps.do(trigger, state)
        await self._teller.say(f" ---> {short(state.image_id)}\n")
        for instruction in (*stage.steps, *labels):
            await self._announce(instruction)
            await self._steps.do(instruction, state)
            await self._teller.say(f" ---> {short(state.image_id)}\n")
        if state.image_id:
            await self._teller.send({"aux": {"ID": state.image_id}})

    async def _base(self, stage: Stage) -> ImageRecord | None:
        name = expand(stage.base, self._arguments.for_from, self._file.escape)
        if not name:
            raise bad(f"base name ({stage.base}) should not be blank")
        platform = expand(stage.origin.flags.get("platform", ""), self._arguments.for_from, self._file.escape)
        for label, state in self._done:
            if label and label == name.lower():
                if state.image is None:
                    raise bad("No image was generated. Is your Dockerfile empty?")
                return state.image
        if name == "scratch":
            return None
        return await self._image(name, platform or self._options.platform)

    async def _image(self, name: str, platform: str) -> ImageRecord:
        """Find an image, in the registry where it is not here or the client wants the newest."""
        if not self._options.pull or self._parts.pull is None:
            try:
                found = await blocking(self._images.get, name)
            except RefusalError as error:
                if error.status != 404 or self._parts.pull is None:
                    raise
            else:
                _check_platform(found, name, platform)
                return found
        waiting: asyncio.Queue[Message | None] = asyncio.Queue()

        async def fetch() -> object:
            assert self._parts.pull is not None
            try:
                return await self._parts.pull(name, platform, waiting.put_nowait)
            finally:
                waiting.put_nowait(None)

        task = asyncio.ensure_future(fetch())
        try:
            while (message := await waiting.get()) is not None:
                await self._teller.send(message)
            await task
        finally:
            task.cancel()
            await asyncio.wait([task])
        found = await blocking(self._images.get, name)
        _check_platform(found, name, platform)
        return found

    async def _origin(self, name: str) -> Tree:
        """Find what ``--from`` names: a stage by its number or name, else an image."""
        current = len(self._done) - 1
        if re.fullmatch(r"[0-9]{1,6}", name):
            number = int(name)
            if number == current:
                raise bad(f"invalid from flag value {name}: refers to current build stage")
            if number > current:
                raise bad(f"invalid from flag value {name}: index out of bounds")
            return self._done[number][1].tree()
        for label, state in self._done[:-1]:
            if label and label == name.lower():
                return state.tree()
        try:
            return self._images.tree(await self._image(name, self._options.platform))
        except RefusalError as error:
            raise RefusalError(error.status, f"invalid from flag value {name}: {error.message}") from error


def _check_platform(image: ImageRecord, name: str, platform: str) -> None:
    """Refuse an image of another platform than was asked for, in Docker's words."""
    system, _, machine = platform.partition("/") if "/" in platform else ("linux", "", platform)
    architecture = machine.partition("/")[0]
    actual = f"{image.config.get('os') or 'linux'}/{image.config.get('architecture')}"
    if platform and f"{system}/{architecture}" != actual:
        raise bad(
            f"image with reference {name} was found but does not match the specified platform: "
            f"wanted {system}/{machine}, actual: {actual}"
        )

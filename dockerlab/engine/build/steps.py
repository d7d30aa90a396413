"""The instructions of a stage, carried out one by one."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from dockerlab.engine.build.arguments import Arguments, as_mapping
from dockerlab.engine.build.blocking import blocking
from dockerlab.engine.build.copier import copy_layer, folder_layer, gather, read_mode
from dockerlab.engine.build.instructions import Instruction
from dockerlab.engine.build.options import BuildOptions
from dockerlab.engine.build.running import Isolator, Run, volume_mounts, write_network_files
from dockerlab.engine.build.sources import digest_of
from dockerlab.engine.build.stage import StageState
from dockerlab.engine.build.teller import StepError, Teller, short
from dockerlab.engine.build.users import find_user
from dockerlab.engine.build.words import expand
from dockerlab.engine.images.store import Images
from dockerlab.engine.images.tarball import BLOCK
from dockerlab.engine.images.tree import Tree
from dockerlab.engine.isolate.spec import Command, Spec
from dockerlab.engine.refusals import RefusalError, bad


class Steps:
    """Carries out instructions.

    Parameters
    ----------
    images : Images
    isolator : Isolator
    options : BuildOptions
    arguments : Arguments
        Of the build.
    context : Tree
    folder : Path
        For files that are only needed now.
    escape : str
        The escape character of the Dockerfile.
    teller : Teller
    find_origin : callable
        Finds what ``--from`` names.
    """

    def __init__(
        self,
        images: Images,
        isolator: Isolator,
        *,
        options: BuildOptions,
        arguments: Arguments,
        context: Tree,
        folder: Path,
        escape: str,
        teller: Teller,
        find_origin: Callable[[str], Awaitable[Tree]],
    ) -> None:
        self._images = images
        self._isolator = isolator
        self._options = options
        self._arguments = arguments
        self._context = context
        self._folder = folder
        self._escape = escape
        self._teller = teller
        self._find_origin = find_origin

    async def do(self, instruction: Instruction, state: StageState) -> None:
        """Carry out one instruction on a stage.

        Parameters
        ----------
        instruction : Instruction
            Any but FROM.
        state : StageState

        Raises
        ------
        RefusalError
            In Docker's words.
        """
        variables = self._arguments.in_stage(state.changes.environment)
        shell = state.changes.shell
        if instruction.keyword == "ARG":
            words = []
            for name, default in defaults(instruction, variables, self._escape):
                self._arguments.declare(name, default)
                words.append(name if default is None else f"{name}={default}")
            await self._note(state, [*shell, "#(nop) ", f"ARG {' '.join(words)}"])
        elif instruction.keyword == "RUN":
            await self._run(instruction, state)
        elif instruction.keyword in ("COPY", "ADD"):
            await self._copy(instruction, state, variables)
        else:
            comment = state.changes.apply(instruction, variables, self._escape)
            if instruction.keyword == "WORKDIR":
                await self._workdir(state, [*shell, f"#(nop) {comment}"])
            else:
                await self._note(state, [*state.changes.shell, "#(nop) ", comment])

    async def _note(self, state: StageState, command: list[str]) -> None:
        """Make an image that differs in its configuration only."""
        if await self._cached(state, command):
            return
        await self._containing(state, command, "")

    async def _workdir(self, state: StageState, command: list[str]) -> None:
        if await self._cached(state, command):
            return
        path = state.config["WorkingDir"]
        diff_id = await blocking(folder_layer, self._images, self._folder, state.tree(), path)
        await self._containing(state, command, diff_id)

    async def _containing(self, state: StageState, command: list[str], diff_id: str) -> None:
        """Commit as if from a container, which Docker makes for each step."""
        container = secrets.token_hex(32)
        await self._teller.say(f" ---> Running in {short(container)}\n")
        await blocking(state.commit, command, diff_id)
        await self._removed(container)

    async def _removed(self, container: str) -> None:
        if self._options.remove:
            await self._teller.say(f"Removing intermediate container {short(container)}\n")

    async def _cached(self, state: StageState, command: list[str]) -> bool:
        hit = await blocking(state.cached, command)
        if hit:
            await self._teller.say(" ---> Using cache\n")
        return hit

    async def _copy(self, instruction: Instruction, state: StageState, variables: Mapping[str, str]) -> None:
        words = [expand(word, variables, self._escape) for word in instruction.args]
        paths, destination = words[:-1], words[-1]
        owner = expand(instruction.flags.get("chown", ""), variables, self._escape)
        mode_text = expand(instruction.flags.get("chmod", ""), variables, self._escape)
        mode = read_mode(mode_text)
        origin = instruction.flags.get("from", "")
        tree = await self._find_origin(origin) if origin else self._context
        keyword = instruction.keyword
        sources = await gather(keyword, paths, destination, tree, self._folder, is_context=not origin)
        options = (f"--chown={owner} " if owner else "") + (f"--chmod={mode_text} " if mode_text else "")
        comment = f"#(nop) {keyword} {options}{digest_of(sources)} in {destination} "
        command = [*state.changes.shell, comment]
        if await self._cached(state, command):
            return
        diff_id = await blocking(
            copy_layer,
            self._images,
            self._folder,
            state.tree(),
            sources,
            destination,
            workdir=state.config.get("WorkingDir") or "/",
            owner=owner,
            mode=mode,
            unpack=keyword == "ADD",
        )
        await blocking(state.commit, command, diff_id)

    async def _run(self, instruction: Instruction, state: StageState) -> None:
        for flag in instruction.flags:
            raise bad(
                f"the --{flag} option requires BuildKit. Refer to https://docs.docker.com/go/buildkit/ to learn how to "
                "build images with BuildKit enabled"
            )
        argv = list(instruction.args) if instruction.exec_form else [*state.changes.shell, *instruction.args]
        if not argv:
            raise bad("RUN requires at least one argument")
        visible, silent = self._arguments.for_run(state.changes.environment)
        command = [*([f"|{len(visible)}", *visible] if visible else []), *argv]
        if await self._cached(state, command):
            return
        if state.image is None or not state.image.diff_ids:
            raise bad(f'exec: "{argv[0]}": executable file not found in $PATH: the image has no files')
        container = secrets.token_hex(32)
        await self._teller.say(f" ---> Running in {short(container)}\n")
        folder = self._folder / f"run-{short(container)}"
        spec = await blocking(self._spec, state, container, argv, [*visible, *silent], folder)
        async with Run(self._isolator, container, self._images.layers(state.image)) as run:
            try:
                code = await run.execute(spec, self._teller.say)
                if code:
                    raise StepError(code, f"The command '{' '.join(argv)}' returned a non-zero code: {code}")
            except RefusalError:
                if self._options.force_remove:
                    await self._removed(container)
                raise
            await run.layer(folder / "layer.tar")
        diff_id = await blocking(self._keep, folder / "layer.tar")
        await blocking(state.commit, command, diff_id)
        await self._removed(container)

    def _spec(self, state: StageState, container: str, argv: list[str], more: list[str], folder: Path) -> Spec:
        """Describe the container of a RUN; blocks."""
        folder.mkdir()
        user = find_user(state.tree(), state.config.get("User") or "")
        environment = [*state.changes.environment, *more]
        names = as_mapping(environment)
        environment += [
            f"{name}={value}"
            for name, value in (("HOSTNAME", short(container)), ("HOME", user.home))
            if name not in names
        ]
        return Spec(
            id=container,
            command=Command(
                argv=tuple(argv),
                env=tuple(environment),
                workdir=state.config.get("WorkingDir") or "/",
                uid=user.uid,
                gid=user.gid,
                groups=user.groups,
            ),
            hostname=short(container),
            mounts=(
                *write_network_files(folder, short(container), self._options.extra_hosts),
                *volume_mounts(folder, state.tree(), list(state.config.get("Volumes") or ())),
            ),
            network=self._options.network,
            ulimits=self._options.ulimits,
        )

    def _keep(self, layer: Path) -> str:
        """Take a layer into the store; gives its diff id, empty where nothing is in it. Blocks."""
        with layer.open("rb") as file:
            if not any(file.read(BLOCK)):
                return ""
        diff_id = self._images.add_layer(layer).diff_id
        layer.unlink(missing_ok=True)
        return diff_id


def defaults(instruction: Instruction, variables: Mapping[str, str], escape: str) -> list[tuple[str, str | None]]:
    """Give the names and default values of an ARG.

    Parameters
    ----------
    instruction : Instruction
    variables : mapping of str to str
        What it may use.
    escape : str
        The escape character of its file.

    Returns
    -------
    list of (str, str or None)
        None where it has no default.
    """
    found: list[tuple[str, str | None]] = []
    for word in instruction.args:
        name, equals, value = word.partition("=")
        found.append((expand(name, variables, escape), expand(value, variables, escape) if equals else None))
    return found

"""From the text of a Dockerfile to checked instructions and stages, with Docker's sentences where it is wrong."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dockerlab.engine.build.golang import quoted
from dockerlab.engine.build.instructions import Instruction, check, read
from dockerlab.engine.build.lines import split
from dockerlab.engine.refusals import RefusalError, bad

_STAGE_NAME = re.compile(r"[a-z][a-z0-9_.-]*")


@dataclass(frozen=True)
class Stage:
    """A stage: its FROM, and what follows until the next.

    Attributes
    ----------
    origin : Instruction
        The FROM.
    base : str
        What stands after FROM, not expanded.
    name : str
        After AS, in small letters; may be empty.
    steps : tuple of Instruction
    """

    origin: Instruction
    base: str
    name: str
    steps: tuple[Instruction, ...]


@dataclass(frozen=True)
class Dockerfile:
    """A whole file.

    Attributes
    ----------
    globals : tuple of Instruction
        The ARGs before the first FROM.
    stages : tuple of Stage
    escape : str
        The escape character.
    warnings : tuple of str
    """

    globals: tuple[Instruction, ...]
    stages: tuple[Stage, ...]
    escape: str
    warnings: tuple[str, ...]

    @property
    def step_count(self) -> int:
        """How many instructions there are."""
        return len(self.globals) + sum(1 + len(stage.steps) for stage in self.stages)

    def up_to(self, target: str) -> Dockerfile:
        """Leave out the stages after the one that is wanted, which is named or numbered; 400 when it is not there."""
        if not target:
            return self
        for number, stage in enumerate(self.stages):
            if stage.name == target.lower() or str(number) == target:
                return Dockerfile(self.globals, self.stages[: number + 1], self.escape, self.warnings)
        raise bad(f"failed to reach build target {target} in Dockerfile")


def parse(content: bytes, name: str = "Dockerfile") -> Dockerfile:
    """Read a Dockerfile.

    Parameters
    ----------
    content : bytes
    name : str
        Of the file, for the sentence about an empty one.

    Returns
    -------
    Dockerfile

    Raises
    ------
    RefusalError
        400, in Docker's words.
    """
    if not content:
        raise bad(f"the Dockerfile ({name}) cannot be empty")
    text = content.decode("utf-8", "replace")
    lines = split(text)
    rows = {row.strip() for row in text.split("\n")}
    # Docker divides the whole file into words before it checks the first instruction
    divided = [read(line, lines.escape, rows) for line in lines.lines]
    globals_: list[Instruction] = []
    stages: list[tuple[Instruction, str, str, list[Instruction]]] = []
    for raw in divided:
        try:
            instruction = check(raw)
            if instruction.keyword == "FROM":
                stages.append((instruction, *_base(instruction.args), []))
                continue
        except RefusalError as error:
            raise bad(f"dockerfile parse error line {raw.line.number}: {error.message}") from error
        if stages:
            stages[-1][3].append(instruction)
        elif instruction.keyword == "ARG":
            globals_.append(instruction)
        else:
            raise bad("no build stage in current context")
    if not stages:
        raise bad("no build stage in current context")
    parts = tuple(Stage(origin, base, label, tuple(steps)) for origin, base, label, steps in stages)
    return Dockerfile(tuple(globals_), parts, lines.escape, lines.warnings)


def _base(args: tuple[str, ...]) -> tuple[str, str]:
    """Give what stands after FROM, and the stage's name."""
    if len(args) == 1:
        return args[0], ""
    name = args[2].lower()
    if not _STAGE_NAME.fullmatch(name):
        raise bad(f"invalid name for build stage: {quoted(args[2])}, name can't start with a number or contain symbols")
    return args[0], name

"""One instruction of a Dockerfile: divided into words, and checked by itself; wrong ones get Docker's sentences."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from dockerlab.engine.build.fields import (
    Fields,
    json_or_spaced,
    json_or_whole,
    name_values,
    spaced,
    split_flags,
    whole,
    words,
)
from dockerlab.engine.build.golang import is_text
from dockerlab.engine.build.health import health_fields, healthcheck
from dockerlab.engine.build.lines import Line
from dockerlab.engine.refusals import RefusalError, bad

# Each keyword with the options that it takes
_FLAGS: dict[str, tuple[str, ...]] = {
    "ADD": ("chown", "chmod"),
    "ARG": (),
    "CMD": (),
    "COPY": ("from", "chown", "chmod"),
    "ENTRYPOINT": (),
    "ENV": (),
    "EXPOSE": (),
    "FROM": ("platform",),
    "HEALTHCHECK": ("interval", "timeout", "start-period", "retries"),
    "LABEL": (),
    "MAINTAINER": (),
    "ONBUILD": (),
    "RUN": ("mount", "network", "security"),
    "SHELL": (),
    "STOPSIGNAL": (),
    "USER": (),
    "VOLUME": (),
    "WORKDIR": (),
}
_FIELDS: dict[str, Callable[[str, str], Fields]] = {
    "ADD": lambda rest, _: json_or_spaced(rest),
    "ARG": lambda rest, escape: (tuple(words(rest, escape)), False),
    "CMD": lambda rest, _: json_or_whole(rest),
    "COPY": lambda rest, _: json_or_spaced(rest),
    "ENTRYPOINT": lambda rest, _: json_or_whole(rest),
    "ENV": lambda rest, escape: name_values(rest, "ENV", escape),
    "EXPOSE": lambda rest, _: spaced(rest),
    "FROM": lambda rest, _: spaced(rest),
    "HEALTHCHECK": lambda rest, _: health_fields(rest),
    "LABEL": lambda rest, escape: name_values(rest, "LABEL", escape),
    "RUN": lambda rest, _: json_or_whole(rest),
    "SHELL": lambda rest, _: json_or_whole(rest),
    "VOLUME": lambda rest, _: json_or_spaced(rest),
}
_AT_LEAST_ONE = ("ARG", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "ONBUILD", "SHELL", "VOLUME")
_EXACTLY_ONE = ("MAINTAINER", "STOPSIGNAL", "USER", "WORKDIR")
_HEREDOC = re.compile(r"(?:^|\s)[0-9]*<<-?(['\"]?)([A-Za-z_][A-Za-z0-9_]*)\1(?=\s|$)")


@dataclass(frozen=True)
class Instruction:
    """One instruction.

    Attributes
    ----------
    line : int
        Where it stands in the file.
    text : str
        As it stands there.
    keyword : str
        In capitals.
    args : tuple of str
        Its words; the whole rest for the shell form; names and values in turn for ENV and LABEL.
    exec_form : bool
        Whether they were a JSON list.
    flags : mapping of str to str
        Its options.
    """

    line: int
    text: str
    keyword: str
    args: tuple[str, ...]
    exec_form: bool = False
    flags: Mapping[str, str] = field(default_factory=dict)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Names and values of ENV and LABEL."""
        return list(zip(self.args[::2], self.args[1::2]))  # noqa: B905 - both are as long


@dataclass(frozen=True)
class Raw:
    """An instruction divided into words, which may be nonsense."""

    line: Line
    keyword: str
    flags: Sequence[str]
    fields: Fields


def read(line: Line, escape: str, rows: Collection[str]) -> Raw:
    """Divide an instruction into keyword, options and words."""
    parts = re.split(r"[\t\v\f\r ]+", line.text, maxsplit=1)
    keyword = parts[0].upper()
    flags, rest = split_flags(parts[1].strip() if len(parts) > 1 else "", escape)
    heredoc = _HEREDOC.search(rest) if keyword in ("RUN", "COPY", "ADD") else None
    if heredoc and heredoc[2] in rows:
        raise bad(
            f"dockerfile parse error line {line.number}: heredocs ({heredoc[0].strip()}) need BuildKit, which this "
            "engine does not have: join the commands with && or put the text into a file and COPY it"
        )
    try:
        if keyword == "ONBUILD" and rest and not rest.upper().startswith("ONBUILD"):
            read(Line(line.number, rest), escape, ())
        fields = _FIELDS[keyword](rest, escape) if keyword in _FIELDS else whole(rest)
    except RefusalError as error:
        if error.message.startswith(("failed to parse", "dockerfile parse")):
            raise
        raise bad(f"failed to parse Dockerfile: {error.message}") from error
    return Raw(line, keyword, flags, fields)


def check(raw: Raw) -> Instruction:
    """Check an instruction by itself."""
    keyword, (args, exec_form) = raw.keyword, raw.fields
    if keyword not in _FLAGS:
        raise bad(f"unknown instruction: {keyword}")
    if not all(is_text(word) for word in (*args, *raw.flags)):
        raise bad(f"{keyword} has characters that no name or value can have")
    if not args and keyword in _AT_LEAST_ONE:
        raise bad(f"{keyword} requires at least one argument")
    if len(args) != 1 and keyword in _EXACTLY_ONE:
        raise bad(f"{keyword} requires exactly one argument")
    if len(args) < 2 and keyword in ("COPY", "ADD"):
        raise bad(
            f"{keyword} requires at least two arguments, but only one was provided. Destination could not be determined"
        )
    instruction = Instruction(raw.line.number, raw.line.text, keyword, args, exec_form, _flags(keyword, raw.flags))
    if keyword in _CHECKS:
        _CHECKS[keyword](instruction)
    return instruction


def _flags(keyword: str, given: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in given:
        name, equals, value = text[2:].partition("=")
        if name not in _FLAGS[keyword]:
            raise bad(f"Unknown flag: {name}")
        if name in found and name != "mount":
            raise bad(f"Duplicate flag specified: {name}")
        if not equals:
            raise bad(f"Missing a value on flag: {name}")
        found[name] = value
    return found


def parse_one(text: str) -> Instruction:
    """Read one instruction: what an image says after ONBUILD, or a change of ``docker commit``; 400 when wrong."""
    return check(read(Line(1, text.strip()), "\\", ()))


def _check_from(instruction: Instruction) -> None:
    args = instruction.args
    if not (len(args) == 1 or (len(args) == 3 and args[1].lower() == "as")):
        raise bad("FROM requires either one or three arguments")


def _check_names(instruction: Instruction) -> None:
    if not all(name for name, _ in instruction.pairs):
        raise bad(f"{instruction.keyword} names can not be blank")


def _check_arg(instruction: Instruction) -> None:
    if any(word.startswith("=") for word in instruction.args):
        raise bad("ARG names can not be blank")


def _check_volume(instruction: Instruction) -> None:
    if not all(word.strip() for word in instruction.args):
        raise bad("VOLUME specified can not be an empty string")


def _check_shell(instruction: Instruction) -> None:
    if not instruction.exec_form:
        raise bad("SHELL requires the arguments to be in JSON form")


def _check_onbuild(instruction: Instruction) -> None:
    trigger = instruction.args[0].split()[0].upper()
    if trigger == "ONBUILD":
        raise bad("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if trigger in ("FROM", "MAINTAINER"):
        raise bad(f"{trigger} isn't allowed as an ONBUILD trigger")


def _check_healthcheck(instruction: Instruction) -> None:
    healthcheck(instruction.args, instruction.exec_form, instruction.flags)


_CHECKS: dict[str, Callable[[Instruction], None]] = {
    "ARG": _check_arg,
    "ENV": _check_names,
    "FROM": _check_from,
    "HEALTHCHECK": _check_healthcheck,
    "LABEL": _check_names,
    "ONBUILD": _check_onbuild,
    "SHELL": _check_shell,
    "VOLUME": _check_volume,
}

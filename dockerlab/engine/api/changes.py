"""Changes to an image in the words of a Dockerfile, as `docker commit` and `docker import` take them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dockerlab.engine.build.changes import Changes
from dockerlab.engine.build.instructions import parse_one
from dockerlab.engine.refusals import bad

_TAKEN = (
    "CMD",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "HEALTHCHECK",
    "LABEL",
    "ONBUILD",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
)
_LIMIT = 1000


def apply_changes(config: dict[str, Any], texts: Iterable[str]) -> None:
    """Change a configuration.

    Parameters
    ----------
    config : dict
        The ``config`` of an image; is changed.
    texts : iterable of str
        Each one or more lines with an instruction each.

    Raises
    ------
    RefusalError
        400, in Docker's words.
    """
    lines = [line for text in texts for line in text.splitlines() if line.strip()]
    if len(lines) > _LIMIT:
        raise bad(f"too many changes: at most {_LIMIT} are taken")
    changes = Changes(config)
    for line in lines:
        instruction = parse_one(line)
        if instruction.keyword not in _TAKEN:
            raise bad(f"{instruction.keyword} is not a valid change command")
        variables = dict(entry.partition("=")[::2] for entry in changes.environment)
        changes.apply(instruction, variables)

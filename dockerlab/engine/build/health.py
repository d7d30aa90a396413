"""The instruction HEALTHCHECK."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from dockerlab.engine.build.fields import Fields, json_or_whole
from dockerlab.engine.build.golang import duration, duration_ns, quoted, quoted_list
from dockerlab.engine.refusals import bad

_TIMES = {"interval": "Interval", "timeout": "Timeout", "start-period": "StartPeriod"}


def health_fields(rest: str) -> Fields:
    """Divide into the type, in capitals, and the command."""
    kind = rest.replace("\t", " ").partition(" ")[0]
    if not kind:
        return (), False
    words, exec_form = json_or_whole(rest[len(kind) :].strip())
    return (kind.upper(), *words), exec_form


def healthcheck(args: tuple[str, ...], exec_form: bool, flags: Mapping[str, str]) -> dict[str, Any]:
    """Give what the image's configuration says.

    Parameters
    ----------
    args : tuple of str
        Type and command.
    exec_form : bool
    flags : mapping of str to str
        The options.

    Returns
    -------
    dict
        ``Test``, and in nanoseconds ``Interval`` and the like.

    Raises
    ------
    RefusalError
        400, in Docker's words.
    """
    kind, command = args[0], list(args[1:])
    if kind == "NONE":
        if command:
            raise bad("HEALTHCHECK NONE takes no arguments")
        return {"Test": ["NONE"]}
    if kind != "CMD":
        raise bad(f"Unknown type {quoted(kind)} in HEALTHCHECK (try CMD)")
    if not command:
        raise bad("Missing command after HEALTHCHECK CMD")
    found: dict[str, Any] = {"Test": ["CMD", *command] if exec_form else ["CMD-SHELL", *command]}
    for flag, key in _TIMES.items():
        nanoseconds = _time_ns(flag, flags.get(flag, ""))
        if nanoseconds:
            found[key] = nanoseconds
    if retries := _retries(flags.get("retries", "")):
        found["Retries"] = retries
    return found


def _time_ns(flag: str, text: str) -> int:
    nanoseconds = duration_ns(text) if text else 0
    if nanoseconds < 0:
        raise bad(f'Interval "{flag}" cannot be less than 0')
    if 0 < nanoseconds < 1_000_000:
        raise bad(f'Interval "{flag}" cannot be less than 1ms')
    return nanoseconds


def _retries(text: str) -> int:
    if text and not re.fullmatch(r"[+-]?[0-9]{1,9}", text):
        raise bad(f"strconv.ParseInt: parsing {quoted(text)}: invalid syntax")
    if text and int(text) < 0:
        raise bad(f"--retries must be at least 1 (not {int(text)})")
    return int(text or "0")


def printed(check: Mapping[str, Any]) -> str:
    """Print it as Docker's history does."""
    times = " ".join(quoted(duration(check.get(key, 0))) for key in ("Interval", "Timeout", "StartPeriod"))
    return f"&{{{quoted_list(check['Test'])} {times} {quoted(chr(check.get('Retries', 0)), chr(39))}}}"

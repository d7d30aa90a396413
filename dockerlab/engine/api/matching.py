"""What the filters of image lists mean: labels, names with wildcards, points in time."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from datetime import datetime

from dockerlab.engine.images import ImageRecord, parse_time
from dockerlab.engine.refusals import bad

_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:h|m|s|ms))+")
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(h|ms|m|s)")
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def one_flag(wanted: Mapping[str, list[str]], name: str) -> bool | None:
    """Read a filter that says yes or no; None when it is not there."""
    values = {value.strip().lower() for value in wanted.get(name, ())}
    if not values:
        return None
    if values <= {"1", "true"}:
        return True
    if values <= {"0", "false"}:
        return False
    raise bad(f"invalid filter '{name}={sorted(values)[0]}'")


def labelled(record: ImageRecord, text: str) -> bool:
    """Tell whether an image has a label, or one of a value: ``name`` or ``name=value``."""
    labels = (record.config.get("config") or {}).get("Labels") or {}
    key, given, value = text.partition("=")
    return key in labels and (not given or str(labels[key]) == value)


def fits(pattern: str, name: str) -> bool:
    """Match a name with a pattern as Go's path.Match does: a star does not go past a slash."""
    without = name.partition("@")[0] if "@" in name else name.rpartition(":")[0]
    try:
        compiled = re.compile("".join(_translated(pattern)))
    except re.error:
        raise bad(f"invalid filter 'reference={pattern}': syntax error in pattern") from None
    return any(compiled.fullmatch(text) for text in (name, without))


def _translated(pattern: str) -> Iterable[str]:
    """Turn a pattern into pieces of a regular expression."""
    rest = pattern
    while rest:
        sign, rest = rest[0], rest[1:]
        if sign in "*?":
            yield "[^/]*" if sign == "*" else "[^/]"
        elif sign == "\\" and rest:
            yield re.escape(rest[0])
            rest = rest[1:]
        elif sign == "[":
            inside, end, rest = rest.partition("]")
            if not end or not inside.strip("^"):
                raise bad(f"invalid filter 'reference={pattern}': syntax error in pattern")
            negated = "^" if inside.startswith("^") else ""
            yield f"[{negated}{re.escape(inside.removeprefix('^')).replace(chr(92) + '-', '-')}]"
        else:
            yield re.escape(sign)


def moment(text: str) -> float:
    """Read a point in time of a filter: seconds since 1970, a time as in RFC 3339, or how long ago, such as 10m."""
    if re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?", text):
        return float(text)
    if _DURATION.fullmatch(text):
        return time.time() - sum(float(value) * _UNITS[unit] for value, unit in _PART.findall(text))
    if found := parse_time(text):
        return found
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise bad(f"invalid filter 'until={text}'") from None

"""Times as Docker writes and reads them."""

from __future__ import annotations

import re
import time
from datetime import datetime, timezone

from dockerlab.engine.refusals import bad

NEVER = "0001-01-01T00:00:00Z"
_UNIX = re.compile(r"(-?[0-9]{1,12})(?:\.([0-9]{1,9})[0-9]*)?")
_WRITTEN = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d(?::\d\d)?)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)?")


def written(time_ns: int) -> str:
    """Write nanoseconds since 1970 as RFC 3339 in UTC; 0 is never."""
    if not time_ns:
        return NEVER
    whole, rest = divmod(time_ns, 10**9)
    text = datetime.fromtimestamp(whole, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{rest:09d}Z"


def read(text: str, name: str) -> int:
    """Read a time of a request, seconds since 1970 or RFC 3339, as nanoseconds; an empty one and 0 are 0."""
    text = text.strip()
    if not text:
        return 0
    found = _UNIX.fullmatch(text)
    if found:
        return int(found[1]) * 10**9 + int((found[2] or "0").ljust(9, "0"))
    found = _WRITTEN.fullmatch(text)
    if found:
        try:
            zone = found[3] if found[3] and found[3] != "Z" else "+00:00"
            whole = int(datetime.fromisoformat(found[1] + zone).timestamp())
        except ValueError:
            raise bad(f"invalid value {text!r} for {name}: there is no such time") from None
        return whole * 10**9 + int((found[2] or "0").ljust(9, "0"))
    raise bad(f"invalid value {text!r} for {name}: it must be seconds since 1970 or a time as in RFC 3339")


def until(text: str) -> int:
    """Read a time as `read` does, or how long ago it was, such as ``10m`` or ``1h30m``, as nanoseconds."""
    found = re.fullmatch(r"(?:([0-9]{1,6})h)?(?:([0-9]{1,6})m)?(?:([0-9]{1,9})s)?", text.strip())
    if found and any(found.groups()):
        hours, minutes, seconds = (int(part or 0) for part in found.groups())
        return time.time_ns() - ((hours * 60 + minutes) * 60 + seconds) * 10**9
    return read(text, "until")


def ago(seconds: float) -> str:
    """Say how long something took or is past, in the words of ``docker ps``.

    Examples
    --------
    >>> ago(0.4), ago(59), ago(61), ago(7200)
    ('Less than a second', '59 seconds', 'About a minute', '2 hours')
    """
    whole = int(seconds)
    minutes, hours = whole // 60, int(seconds / 3600 + 0.5)
    steps = (
        (whole < 1, "Less than a second"),
        (whole == 1, "1 second"),
        (whole < 60, f"{whole} seconds"),
        (minutes == 1, "About a minute"),
        (minutes < 60, f"{minutes} minutes"),
        (hours == 1, "About an hour"),
        (hours < 48, f"{hours} hours"),
        (hours < 24 * 7 * 2, f"{hours // 24} days"),
        (hours < 24 * 30 * 2, f"{hours // 24 // 7} weeks"),
        (hours < 24 * 365 * 2, f"{hours // 24 // 30} months"),
    )
    return next((text for fits, text in steps if fits), f"{hours // 24 // 365} years")

"""Text as Go prints and reads it, which is what Docker's messages and history are made of."""

from __future__ import annotations

import re

from dockerlab.engine.refusals import bad

_UNITS_NS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_DURATION = re.compile(r"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h))+")
_DURATION_PART = re.compile(r"([0-9]*\.?[0-9]*)(ns|us|µs|μs|ms|s|m|h)")
_LARGEST = 2**63 - 1
_DURATION_LIMIT = 100
_ESCAPES = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
    "\\": "\\\\",
}


def quoted(text: str, quote: str = '"') -> str:
    """Put `text` in quotes as ``%q`` does."""
    out = []
    for letter in text:
        if letter == quote:
            out.append("\\" + letter)
        elif letter in _ESCAPES:
            out.append(_ESCAPES[letter])
        elif letter.isprintable():
            out.append(letter)
        elif ord(letter) < 0x80:
            out.append(f"\\x{ord(letter):02x}")
        else:
            out.append(f"\\u{ord(letter):04x}" if ord(letter) < 0x10000 else f"\\U{ord(letter):08x}")
    return f"{quote}{''.join(out)}{quote}"


def quoted_list(words: list[str] | tuple[str, ...]) -> str:
    """Print a list of strings as ``%q`` does: ``["a" "b"]``."""
    return f"[{' '.join(quoted(word) for word in words)}]"


def is_text(text: str) -> bool:
    """Tell whether an image's configuration can hold a text: no zero byte, no half of a character (JSON has both)."""
    return "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)


def duration_ns(text: str) -> int:
    """Read a duration such as ``1m30s``.

    Parameters
    ----------
    text : str

    Returns
    -------
    int
        Nanoseconds.

    Raises
    ------
    RefusalError
        400, in Go's words.
    """
    if len(text) > _DURATION_LIMIT:
        raise bad(f"time: invalid duration {quoted(text[:_DURATION_LIMIT])}")
    if text.lstrip("+-") == "0" and len(text) <= 2:
        return 0
    if re.fullmatch(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)", text):
        raise bad(f"time: missing unit in duration {quoted(text)}")
    if not _DURATION.fullmatch(text):
        raise bad(f"time: invalid duration {quoted(text)}")
    total = 0
    for number, unit in _DURATION_PART.findall(text):
        whole, _, fraction = number.partition(".")
        fraction = fraction[:18]  # more digits are less than a nanosecond
        if len(whole.lstrip("0")) > 19:
            raise bad(f"time: invalid duration {quoted(text)}")
        total += int(whole or "0") * _UNITS_NS[unit]
        total += int(fraction or "0") * _UNITS_NS[unit] // 10 ** len(fraction)
    if total > _LARGEST:
        raise bad(f"time: invalid duration {quoted(text)}")
    return -total if text.startswith("-") else total


def duration(nanoseconds: int) -> str:
    """Print a duration as Go does: ``1m30s``."""
    if nanoseconds == 0:
        return "0s"
    sign, rest = ("-" if nanoseconds < 0 else ""), abs(nanoseconds)
    for unit in ("ns", "µs", "ms"):
        if rest < 1000 * _UNITS_NS[unit]:
            return sign + _decimal(rest, _UNITS_NS[unit]) + unit
    minutes, seconds_ns = divmod(rest, _UNITS_NS["m"])
    hours, minutes = divmod(minutes, 60)
    text = _decimal(seconds_ns, _UNITS_NS["s"]) + "s"
    if hours:
        return f"{sign}{hours}h{minutes}m{text}"
    return f"{sign}{minutes}m{text}" if minutes else sign + text


def _decimal(value: int, unit: int) -> str:
    whole, fraction = divmod(value, unit)
    digits = str(unit + fraction)[1:].rstrip("0") if unit > 1 else ""
    return f"{whole}.{digits}" if digits else str(whole)

"""How the rest of an instruction's line divides: options, words, names with values, JSON lists."""

from __future__ import annotations

import json
import re

from dockerlab.engine.build.golang import quoted
from dockerlab.engine.refusals import bad

Fields = tuple[tuple[str, ...], bool]
"""The words, and whether they were a JSON list."""

_SPACE = re.compile(r"[\t\v\f\r ]+")


def split_flags(rest: str, escape: str) -> tuple[list[str], str]:
    """Take the options off the front: words that begin with ``--``."""
    flags: list[str] = []
    position = 0
    while True:
        while position < len(rest) and rest[position].isspace():
            position += 1
        if not rest.startswith("--", position):
            return flags, rest[position:]
        word, quote = "", ""
        while position < len(rest) and (quote or not rest[position].isspace()):
            letter = rest[position]
            if letter == quote:
                quote = ""
            elif not quote and letter in "'\"":
                quote = letter
            else:
                if letter == escape and quote != "'" and position + 1 < len(rest):
                    position += 1
                    letter = rest[position]
                word += letter
            position += 1
        if word == "--":
            return flags, rest[position:].strip()
        flags.append(word)


def whole(rest: str) -> Fields:
    """Take the rest as one word."""
    return ((rest,) if rest else ()), False


def spaced(rest: str) -> Fields:
    """Divide at spaces, whatever quotes there are."""
    return tuple(rest.split()), False


def json_or_whole(rest: str) -> Fields:
    """Take a JSON list, or the rest as one word."""
    found = _json_list(rest)
    return (found, True) if found is not None else whole(rest)


def json_or_spaced(rest: str) -> Fields:
    """Take a JSON list, or divide at spaces."""
    found = _json_list(rest)
    return (found, True) if found is not None else spaced(rest)


def words(rest: str, escape: str) -> list[str]:
    """Divide at spaces outside quotes; quotes and escape characters stay."""
    found: list[str] = []
    word, quote, index = "", "", 0
    while index < len(rest):
        letter = rest[index]
        if not quote and letter.isspace():
            if word:
                found.append(word)
            word = ""
        else:
            if letter == escape and quote != "'":
                if index + 1 == len(rest):
                    break
                word += letter
                index += 1
                letter = rest[index]
            elif letter == quote:
                quote = ""
            elif not quote and letter in "'\"":
                quote = letter
            word += letter
        index += 1
    return [*found, word] if word else found


def name_values(rest: str, keyword: str, escape: str) -> Fields:
    """Divide ``A=1 B=2``, or the old form ``A all the rest``: names and values in turn."""
    found = words(rest, escape)
    if not found:
        return (), False
    if "=" not in found[0]:
        parts = _SPACE.split(rest, maxsplit=1)
        if len(parts) < 2:
            raise bad(f"{keyword} must have two arguments")
        return (parts[0], parts[1]), False
    out: list[str] = []
    for word in found:
        name, equals, value = word.partition("=")
        if not equals:
            raise bad(f"Syntax error - can't find = in {quoted(word)}. Must be of the form: name=value")
        out += (name, value)
    return tuple(out), False


def _json_list(rest: str) -> tuple[str, ...] | None:
    """Read a JSON list of strings; None when it is not JSON. What follows the list is not looked at, as in Docker."""
    if not rest.startswith("["):
        return None
    try:
        found, _ = json.JSONDecoder().raw_decode(rest)
    except (ValueError, RecursionError):
        return None
    if not all(isinstance(one, str) for one in found):
        raise bad("when using JSON array syntax, arrays must be comprised of strings only")
    return tuple(found)

"""The fields of a JSON body, checked one by one: what is of another type is refused in Docker's words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dockerlab.engine.refusals import bad

_GO = {str: "string", bool: "bool", int: "int64", list: "[]string", dict: "map"}
_JSON = {str: "string", bool: "bool", int: "number", float: "number", list: "array", dict: "object"}


def text(body: Mapping[str, Any], name: str, default: str = "") -> str:
    """Give a text; a missing one and null are `default`."""
    value = body.get(name)
    return default if value is None else str(_typed(value, name, str))


def yes(body: Mapping[str, Any], name: str) -> bool:
    """Give a yes or no; a missing one and null are no."""
    value = body.get(name)
    return value is not None and bool(_typed(value, name, bool))


def whole(body: Mapping[str, Any], name: str, default: int = 0) -> int:
    """Give a whole number; a missing one and null are `default`."""
    value = body.get(name)
    if value is None:
        return default
    number = _typed(value, name, int)
    if abs(number) >= 2**63:
        raise bad(f"json: cannot unmarshal number {number} into Go struct field {name} of type int64")
    return int(number)


def texts(body: Mapping[str, Any], name: str) -> list[str] | None:
    """Give a list of texts, None for a missing one and null; a single text counts as a list of one."""
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, str):
        raise bad(f"json: cannot unmarshal string into Go struct field {name} of type []string")
    return [str(_typed(one, name, str)) for one in _typed(value, name, list)]


def words(body: Mapping[str, Any], name: str) -> list[str] | None:
    """Give a command: a list of texts, or one text, which is the program."""
    return [body[name]] if isinstance(body.get(name), str) else texts(body, name)


def table(body: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Give an object; a missing one and null are empty."""
    value = body.get(name)
    return {} if value is None else dict(_typed(value, name, dict))


def labels(body: Mapping[str, Any], name: str = "Labels") -> dict[str, str]:
    """Give an object whose values are texts."""
    return {key: str(_typed(value, name, str)) for key, value in table(body, name).items()}


def tables(body: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """Give a list of objects; a missing one and null are empty."""
    value = body.get(name)
    return [] if value is None else [dict(_typed(one, name, dict)) for one in _typed(value, name, list)]


def _typed(value: Any, name: str, kind: type) -> Any:
    # bool is an int for Python, not for JSON
    if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        if isinstance(value, str) and "\0" in value:
            raise bad(f"invalid value for {name}: it has a zero byte in it")
        return value
    found = "null" if value is None else _JSON.get(type(value), "value")
    raise bad(f"json: cannot unmarshal {found} into Go struct field {name} of type {_GO[kind]}")

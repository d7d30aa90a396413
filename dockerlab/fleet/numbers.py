"""The numbers that a person gives to a strategy or a policy: checked, and percentages made counts. Pure."""

from __future__ import annotations

import math
from typing import TypeGuard

from dockerlab.errors import BadInputError


def whole(name: str, value: object, least: int) -> None:
    """Refuse what is no whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise BadInputError(f"{name} is {value!r}.", f"Give a whole number of at least {least}.")


def not_negative(name: str, value: object) -> None:
    """Refuse what is no number from 0 on."""
    if not (_finite(value) and value >= 0):
        raise BadInputError(f"{name} is {value!r}.", "Give 0 or a number above it.")


def positive(name: str, value: object) -> None:
    """Refuse what is no number above 0."""
    if not (_finite(value) and value > 0):
        raise BadInputError(f"{name} is {value!r}.", "Give a number above 0.")


def in_order(low: str, least: float, high: str, most: float) -> None:
    """Refuse an upper bound, named `high`, below its lower one, named `low`."""
    if most < least:
        raise BadInputError(f"{high} ({most!r}) is less than {low} ({least!r}).", f"Give a {high} not below {low}.")


def speed(factor: object) -> None:
    """Refuse a factor by which no policy can be made faster."""
    if not (_finite(factor) and factor > 0):
        raise BadInputError(f"A policy cannot be {factor!r} times as fast.", "Give a number above 0, such as 10.")


def resolve(name: str, value: int | str, replicas: int, *, up: bool) -> int:
    """Give a count, or the share of `replicas` that a percentage stands for, rounded up or down."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and value.endswith("%") and value[:-1].isdigit():
        share = int(value[:-1]) * replicas
        return -(-share // 100) if up else share // 100
    raise BadInputError(f"{name} is {value!r}.", 'Give a count such as 2, or a percentage such as "25%".')


def _finite(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)

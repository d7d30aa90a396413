"""The numbers that a person gives to a strategy: checked, and percentages made counts. Pure."""

from __future__ import annotations

import math

from dockerlab.errors import BadInputError


def not_negative(name: str, value: float) -> None:
    """Refuse a negative number of seconds."""
    if not (math.isfinite(value) and value >= 0):
        raise BadInputError(f"{name} is {value!r}.", "Give 0 or a positive number of seconds.")


def positive(name: str, value: float) -> None:
    """Refuse a number of seconds that is not above 0."""
    if not (math.isfinite(value) and value > 0):
        raise BadInputError(f"{name} is {value!r}.", "Give a positive number of seconds.")


def resolve(name: str, value: int | str, replicas: int, *, up: bool) -> int:
    """Give a count, or the share of `replicas` that a percentage stands for, rounded up or down."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and value.endswith("%") and value[:-1].isdigit():
        share = int(value[:-1]) * replicas
        return -(-share // 100) if up else share // 100
    raise BadInputError(f"{name} is {value!r}.", 'Give a count such as 2, or a percentage such as "25%".')

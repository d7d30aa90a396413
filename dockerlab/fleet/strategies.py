"""How a fleet gets from one revision to the next: the strategies and their numbers.

Names and defaults are those of a Kubernetes Deployment.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from dockerlab.errors import BadInputError

DEFAULT_PROGRESS_DEADLINE_S = 600.0
"""Kubernetes' progressDeadlineSeconds."""


@dataclass(frozen=True)
class Recreate:
    """Remove every old replica first, then start the new ones. Simple, and the service is away in between.

    Parameters
    ----------
    progress_deadline_s : float, default 600
        Seconds without progress after which the rollout has failed.

    Examples
    --------
    >>> Recreate(progress_deadline_s=30)
    Recreate(progress_deadline_s=30)
    """

    progress_deadline_s: float = DEFAULT_PROGRESS_DEADLINE_S

    def __post_init__(self) -> None:
        _positive("progress_deadline_s", self.progress_deadline_s)

    @property
    def min_ready_s(self) -> float:
        """Seconds a replica must be healthy before it counts: none."""
        return 0.0


@dataclass(frozen=True)
class RollingUpdate:
    """Replace the replicas a few at a time, so that the service goes on.

    Parameters
    ----------
    max_surge : int or str, default "25%"
        How many replicas there may be beyond the wanted number: a count, or a share that is rounded up.
    max_unavailable : int or str, default "25%"
        How many of the wanted number may be missing: a count, or a share that is rounded down. Where both come to 0,
        this one counts as 1, as in Kubernetes.
    min_ready_s : float, default 0
        Seconds that a new replica must be healthy before it counts as available.
    progress_deadline_s : float, default 600
        Seconds without progress after which the rollout has failed.

    Raises
    ------
    BadInputError
        Where a number is negative or neither a count nor a percentage.

    Examples
    --------
    >>> RollingUpdate(max_surge="25%", max_unavailable=0).bounds(10)
    (3, 0)
    """

    max_surge: int | str = "25%"
    max_unavailable: int | str = "25%"
    min_ready_s: float = 0.0
    progress_deadline_s: float = DEFAULT_PROGRESS_DEADLINE_S

    def __post_init__(self) -> None:
        self.bounds(1)
        _positive("progress_deadline_s", self.progress_deadline_s)
        if not (math.isfinite(self.min_ready_s) and self.min_ready_s >= 0):
            raise BadInputError(f"min_ready_s is {self.min_ready_s!r}.", "Give 0 or a positive number of seconds.")
        if self.min_ready_s >= self.progress_deadline_s:
            raise BadInputError(
                f"min_ready_s ({self.min_ready_s:g}) is not below progress_deadline_s ({self.progress_deadline_s:g}).",
                "No replica could become available in time: give a longer deadline.",
            )

    def bounds(self, replicas: int) -> tuple[int, int]:
        """Give ``(surge, unavailable)`` as counts for a fleet of `replicas`.

        Source: Kubernetes ``ResolveFenceposts``.
        """
        surge = _resolve("max_surge", self.max_surge, replicas, up=True)
        unavailable = min(_resolve("max_unavailable", self.max_unavailable, replicas, up=False), max(replicas, 1))
        return (surge, unavailable) if surge or unavailable else (0, 1)


Strategy = Recreate | RollingUpdate


def _positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise BadInputError(f"{name} is {value!r}.", "Give a positive number of seconds.")


def _resolve(name: str, value: int | str, replicas: int, *, up: bool) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and value.endswith("%") and value[:-1].isdigit():
        share = int(value[:-1]) * replicas
        return -(-share // 100) if up else share // 100
    raise BadInputError(f"{name} is {value!r}.", 'Give a count such as 2, or a percentage such as "25%".')

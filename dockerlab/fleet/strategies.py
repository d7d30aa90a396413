"""How a fleet gets from one revision to the next: the strategies and their numbers.

Names and defaults of Recreate and RollingUpdate are those of a Kubernetes Deployment, of BlueGreen and Canary those of
Argo Rollouts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from dockerlab.errors import BadInputError
from dockerlab.fleet.analysis import Analysis
from dockerlab.fleet.numbers import not_negative, positive, resolve

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
        positive("progress_deadline_s", self.progress_deadline_s)

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
        _check_ready(self.min_ready_s, self.progress_deadline_s)

    def bounds(self, replicas: int) -> tuple[int, int]:
        """Give ``(surge, unavailable)`` as counts for a fleet of `replicas`.

        Source: Kubernetes ``ResolveFenceposts``.
        """
        surge = resolve("max_surge", self.max_surge, replicas, up=True)
        unavailable = min(resolve("max_unavailable", self.max_unavailable, replicas, up=False), max(replicas, 1))
        return (surge, unavailable) if surge or unavailable else (0, 1)


@dataclass(frozen=True)
class SetWeight:
    """A canary's step: send it so many of the requests. Its share of the replicas is started first, one at the least.

    Parameters
    ----------
    percent : int
        From 0 to 100.
    """

    percent: int

    def __post_init__(self) -> None:
        if isinstance(self.percent, bool) or not isinstance(self.percent, int) or not 0 <= self.percent <= 100:
            raise BadInputError(f"The weight is {self.percent!r}.", "Give a whole number of percent from 0 to 100.")

    def replicas(self, wanted: int) -> int:
        """Give how many of `wanted` replicas a canary needs for this weight."""
        return -(-self.percent * wanted // 100)

    def __str__(self) -> str:
        return f"set the weight to {self.percent} %"


@dataclass(frozen=True)
class Pause:
    """A canary's step: wait.

    Parameters
    ----------
    duration_s : float or None
        Seconds; None waits until somebody promotes or aborts.
    """

    duration_s: float | None = None

    def __post_init__(self) -> None:
        if self.duration_s is not None:
            not_negative("duration_s", self.duration_s)

    def __str__(self) -> str:
        return "pause" if self.duration_s is None else f"pause for {self.duration_s:g} s"


CanaryStep = SetWeight | Pause | Analysis


@dataclass(frozen=True)
class Canary:
    """Let the new revision answer a small share of the requests first, and more in steps, while all the old ones stay.

    Parameters
    ----------
    steps : sequence of SetWeight, Pause and Analysis
        Carried out in this order; after the last one all requests go to the new revision.
    min_ready_s : float, default 0
        Seconds that a new replica must be healthy before it counts as available.
    progress_deadline_s : float, default 600
        Seconds without progress after which the rollout has failed; pauses and analyses do not count.

    Raises
    ------
    BadInputError
        Where the steps make no sense.

    Examples
    --------
    >>> Canary(steps=[SetWeight(10), Pause(30), SetWeight(50), Analysis(10)]).steps[0].percent
    10
    """

    steps: Sequence[CanaryStep] = (SetWeight(20), Analysis(5.0), SetWeight(50), Analysis(5.0))
    min_ready_s: float = 0.0
    progress_deadline_s: float = DEFAULT_PROGRESS_DEADLINE_S

    def __post_init__(self) -> None:
        if not all(isinstance(step, SetWeight | Pause | Analysis) for step in self.steps):
            raise BadInputError(
                f"The steps are {self.steps!r}.",
                "Give a list such as [dl.SetWeight(20), dl.Pause(10), dl.Analysis(5)].",
            )
        object.__setattr__(self, "steps", tuple(self.steps))
        weight = 0
        for step in self.steps:
            if isinstance(step, SetWeight):
                weight = step.percent
            elif isinstance(step, Analysis) and weight == 0:
                raise BadInputError("An analysis comes before the canary gets requests.", "Put a SetWeight before it.")
        _check_ready(self.min_ready_s, self.progress_deadline_s)


@dataclass(frozen=True)
class BlueGreen:
    """Start the new revision whole beside the old one, look at it at the preview address, then switch all requests.

    Parameters
    ----------
    auto_promote : bool, default True
        Switch by itself once every new replica is available. False waits until somebody promotes or aborts.
    auto_promotion_s : float, default 0
        Seconds that it waits before it switches by itself.
    scale_down_delay_s : float, default 30
        Seconds that the old replicas stay after the switch: until then going back is a switch as well.
    analysis : Analysis or None
        Looks at the requests after the switch; where it fails, everything is switched back.
    min_ready_s : float, default 0
        Seconds that a new replica must be healthy before it counts as available.
    progress_deadline_s : float, default 600
        Seconds without progress after which the rollout has failed; waiting on purpose does not count.

    Raises
    ------
    BadInputError
        Where a number is out of range.

    Examples
    --------
    >>> BlueGreen(auto_promote=False).scale_down_delay_s
    30.0
    """

    auto_promote: bool = True
    auto_promotion_s: float = 0.0
    scale_down_delay_s: float = 30.0
    analysis: Analysis | None = None
    min_ready_s: float = 0.0
    progress_deadline_s: float = DEFAULT_PROGRESS_DEADLINE_S

    def __post_init__(self) -> None:
        not_negative("auto_promotion_s", self.auto_promotion_s)
        not_negative("scale_down_delay_s", self.scale_down_delay_s)
        _check_ready(self.min_ready_s, self.progress_deadline_s)


InPlace = Recreate | RollingUpdate
"""Old and new replicas side by side in one pool of the router."""
Apart = BlueGreen | Canary
"""The new revision in a pool of its own, which gets a share of the requests."""
Strategy = InPlace | Apart


_KINDS = (Recreate, RollingUpdate, BlueGreen, Canary, SetWeight, Pause, Analysis)


def strategy_to_json(value: Strategy | CanaryStep) -> dict[str, Any]:
    """Give a strategy as JSON values."""
    content: dict[str, Any] = {"kind": type(value).__name__}
    for one in fields(value):
        item = getattr(value, one.name)
        if isinstance(item, tuple):
            item = [strategy_to_json(step) for step in item]
        content[one.name] = strategy_to_json(item) if isinstance(item, Analysis) else item
    return content


def strategy_from_json(content: Mapping[str, Any]) -> Any:
    """Make a strategy of what :func:`strategy_to_json` gave."""
    kind = next(kind for kind in _KINDS if kind.__name__ == content["kind"])
    made: dict[str, Any] = {}
    for name, item in content.items():
        if isinstance(item, list):
            made[name] = [strategy_from_json(step) for step in item]
        elif name != "kind":
            made[name] = strategy_from_json(item) if isinstance(item, dict) else item
    return kind(**made)


def way_back(strategy: Strategy) -> Strategy:
    """Give how to go back when `strategy` has failed: the same way, or by a switch where both revisions are there."""
    if isinstance(strategy, Recreate | RollingUpdate):
        return strategy
    return BlueGreen(scale_down_delay_s=0.0, progress_deadline_s=strategy.progress_deadline_s)


def _check_ready(min_ready_s: float, progress_deadline_s: float) -> None:
    positive("progress_deadline_s", progress_deadline_s)
    not_negative("min_ready_s", min_ready_s)
    if min_ready_s >= progress_deadline_s:
        raise BadInputError(
            f"min_ready_s ({min_ready_s:g}) is not below progress_deadline_s ({progress_deadline_s:g}).",
            "No replica could become available in time: give a longer deadline.",
        )

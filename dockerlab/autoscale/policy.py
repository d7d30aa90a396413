"""What autoscaling is made of: its numbers, what is seen of a fleet, and what is decided. Pure values."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from dockerlab.errors import BadInputError
from dockerlab.fleet.numbers import in_order, not_negative, positive, speed, whole

Rule = Literal["no metric", "tolerance", "missing", "formula", "stabilization", "rate limit", "bounds"]


@dataclass(frozen=True)
class AutoscalePolicy:
    """The numbers of an autoscaler. All defaults but `max_replicas` (Kubernetes has none) are those of Kubernetes.

    Parameters
    ----------
    target : float
        The value of the metric, averaged over the replicas, that is just right; in the unit of the metric.
    min_replicas, max_replicas : int, default 1 and 10
        The fleet is never smaller and never larger.
    tolerance : float, default 0.1
        Nothing happens while metric / target is no further than this from 1.
    stabilization_window_s : float, default 300
        The fleet shrinks only to the highest recommendation of so many seconds. It grows at once.
    scale_up_replicas, scale_up_percent : int, default 4 and 100
        Within `period_s` the fleet may grow by so many replicas or by that share, whichever is more.
    scale_down_percent : int, default 100
        Within `period_s` it may shrink by that share.
    period_s : float, default 15
        The seconds that those limits are counted over.
    interval_s : float, default 15
        Seconds between two decisions.

    Raises
    ------
    BadInputError
        Where a number is out of its range.

    Examples
    --------
    >>> AutoscalePolicy(target=2).faster(30).stabilization_window_s
    10.0
    """

    target: float
    min_replicas: int = 1
    max_replicas: int = 10
    tolerance: float = 0.1
    stabilization_window_s: float = 300.0
    scale_up_replicas: int = 4
    scale_up_percent: int = 100
    scale_down_percent: int = 100
    period_s: float = 15.0
    interval_s: float = 15.0

    def __post_init__(self) -> None:
        for name in ("target", "period_s", "interval_s"):
            positive(name, getattr(self, name))
        for name in ("tolerance", "stabilization_window_s"):
            not_negative(name, getattr(self, name))
        for name in ("min_replicas", "max_replicas", "scale_down_percent"):
            whole(name, getattr(self, name), 1)
        for name in ("scale_up_replicas", "scale_up_percent"):
            whole(name, getattr(self, name), 0)
        in_order("min_replicas", self.min_replicas, "max_replicas", self.max_replicas)
        if self.scale_down_percent > 100:
            raise BadInputError(f"scale_down_percent is {self.scale_down_percent}.", "Give at most 100.")
        if not self.scale_up_replicas and not self.scale_up_percent:
            raise BadInputError(
                "scale_up_replicas and scale_up_percent are both 0: the fleet could never grow.",
                "Give one of them a number above 0.",
            )

    def faster(self, factor: float) -> AutoscalePolicy:
        """Give the same policy with every time divided by `factor`, so that a lesson shows minutes in seconds.

        Raises
        ------
        BadInputError
            Where `factor` is not a positive number.
        """
        speed(factor)
        return replace(
            self,
            stabilization_window_s=self.stabilization_window_s / factor,
            period_s=self.period_s / factor,
            interval_s=self.interval_s / factor,
        )

    def bounded(self, replicas: int) -> int:
        """Give the nearest number of replicas that the policy allows."""
        return min(max(replicas, self.min_replicas), self.max_replicas)


@dataclass(frozen=True)
class Reading:
    """What was measured of one replica.

    Parameters
    ----------
    replica : str
    value : float or None
        None where nothing could be measured.
    ready : bool
        Whether it serves.
    """

    replica: str
    value: float | None
    ready: bool = True


@dataclass(frozen=True)
class Observation:
    """A fleet as an autoscaler sees it.

    Parameters
    ----------
    current : int
        Replicas that are wanted now.
    readings : tuple of Reading
        One for each replica that is there.
    """

    current: int
    readings: tuple[Reading, ...] = ()


@dataclass(frozen=True)
class Decision:
    """What an autoscaler decided, with every number on the way there.

    Parameters
    ----------
    time_s : float
        When, on the clock of ``now_s``.
    current : int
        Replicas that were wanted before.
    ready : int
        Replicas that served.
    metric : float or None
        Average of those that are ready and have a value.
    target : float
    ratio : float or None
        Metric / target, with replicas counted in that have no value or are not ready.
    recommended : int
        What the formula says.
    stabilized : int
        What the stabilization window makes of it.
    limited : int
        What the rate limits make of that.
    replicas : int
        What min_replicas and max_replicas make of that: the result.
    rule : str
        The last rule that had a say: no metric, tolerance, missing, formula, stabilization, rate limit or bounds.
    why : str
        All of it in a sentence.
    """

    time_s: float
    current: int
    ready: int
    metric: float | None
    target: float
    ratio: float | None
    recommended: int
    stabilized: int
    limited: int
    replicas: int
    rule: Rule
    why: str

    @property
    def changes(self) -> bool:
        """Whether the fleet gets another size."""
        return self.replicas != self.current

    def __str__(self) -> str:
        return self.why


@dataclass(frozen=True)
class History:
    """What earlier decisions left for later ones.

    Parameters
    ----------
    recommendations : tuple of (float, int)
        When and how many: what the formula said.
    changes : tuple of (float, int)
        When and by how many replicas the fleet grew (above 0) or shrank.
    """

    recommendations: tuple[tuple[float, int], ...] = ()
    changes: tuple[tuple[float, int], ...] = ()

    def after(self, policy: AutoscalePolicy, decision: Decision) -> History:
        """Give the history with `decision` carried out, without what no later decision asks for."""
        now_s = decision.time_s
        # The size at the start counts as a recommendation: a new autoscaler does not shrink a fleet at once.
        known = self.recommendations or ((now_s, decision.current),)
        if decision.metric is not None:
            known = (*known, (now_s, decision.recommended))
        recent = tuple(pair for pair in known if pair[0] > now_s - policy.stabilization_window_s)
        moved = decision.replicas - decision.current
        changes = (*self.changes, (now_s, moved)) if moved else self.changes
        return History(recent or known[-1:], tuple(change for change in changes if change[0] > now_s - policy.period_s))

"""How many replicas there should be: the rule of Kubernetes' HorizontalPodAutoscaler as a pure function.

Source: Kubernetes "Horizontal Pod Autoscaling", algorithm details and configurable scaling behavior; the order of the
rules is that of ``pkg/controller/podautoscaler`` (``replica_calculator.go`` and ``horizontal.go``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from dockerlab.errors import BadInputError

Rule = Literal["no metric", "tolerance", "missing", "formula", "stabilization", "rate limit", "bounds"]
_EXACT = 1e-9
"""What floating point adds to 1.1 - 1 must not decide."""


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
            self._check(name, least=0.0, open_end=True)
        for name in ("tolerance", "stabilization_window_s"):
            self._check(name, least=0.0)
        for name, least in (("min_replicas", 1), ("max_replicas", 1), ("scale_up_replicas", 0)):
            self._check(name, least=least, whole=True)
        for name, least in (("scale_up_percent", 0), ("scale_down_percent", 1)):
            self._check(name, least=least, whole=True)
        if self.max_replicas < self.min_replicas:
            raise BadInputError(
                f"max_replicas ({self.max_replicas}) is less than min_replicas ({self.min_replicas}).",
                "Give a max_replicas that is not below min_replicas.",
            )
        if self.scale_down_percent > 100:
            raise BadInputError(f"scale_down_percent is {self.scale_down_percent}.", "Give at most 100.")
        if not self.scale_up_replicas and not self.scale_up_percent:
            raise BadInputError(
                "scale_up_replicas and scale_up_percent are both 0: the fleet could never grow.",
                "Give one of them a number above 0.",
            )

    def _check(self, name: str, *, least: float, open_end: bool = False, whole: bool = False) -> None:
        value = getattr(self, name)
        kinds = (int,) if whole else (int, float)
        known = isinstance(value, kinds) and not isinstance(value, bool) and math.isfinite(value)
        if known and (value > least or (value == least and not open_end)):
            return
        kind = "a whole number" if whole else "a number"
        raise BadInputError(f"{name} is {value!r}.", f"Give {kind} {'above' if open_end else 'of at least'} {least:g}.")

    def faster(self, factor: float) -> AutoscalePolicy:
        """Give the same policy with every time divided by `factor`, so that a lesson shows minutes in seconds.

        Raises
        ------
        BadInputError
            Where `factor` is not a positive number.
        """
        if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 < factor < math.inf:
            raise BadInputError(f"A policy cannot be {factor!r} times as fast.", "Give a number above 0, such as 30.")
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


def decide(policy: AutoscalePolicy, history: History, observation: Observation, now_s: float) -> Decision:
    """Work out how many replicas there should be.

    Parameters
    ----------
    policy : AutoscalePolicy
    history : History
        ``History()`` at first, then :meth:`History.after` each decision.
    observation : Observation
    now_s : float
        Seconds on any steady clock, the same for all decisions.

    Returns
    -------
    Decision
        Its ``replicas`` is the answer.

    Examples
    --------
    >>> print(decide(AutoscalePolicy(target=2), History(), Observation(1, (Reading("a", 6.0),)), 0.0))
    The average 6 is 3.00 times the target 2 and asks for 3: from 1 to 3 replicas.
    """
    current = observation.current
    values = [r.value for r in observation.readings if r.ready and r.value is not None]
    metric = sum(values) / len(values) if values else None
    ready = sum(reading.ready for reading in observation.readings)
    ratio: float | None = None
    rule: Rule
    words: list[str]
    if policy.bounded(current) != current:
        # As in Kubernetes: a fleet outside its bounds is brought back first, whatever the metric says.
        recommended = stabilized = limited = final = policy.bounded(current)
        edge = "max" if current > final else "min"
        rule, words = "bounds", [f"The fleet has {current} replicas and {edge}_replicas is {final}"]
    elif metric is None:
        recommended = stabilized = limited = final = current
        rule, words = "no metric", ["No replica that is ready has a value"]
    else:
        ratio, recommended, rule = _recommend(policy, observation, values)
        words = [_formula(policy, metric, ratio, recommended, rule)]
        stabilized = _stabilize(policy, history, current, recommended, now_s)
        if stabilized != recommended:
            rule = "stabilization"
            highest = max(number for _, number in _recent(policy, history, current, now_s))
            words.append(f"the last {policy.stabilization_window_s:g} s asked for up to {highest}")
        limited = _limit(policy, history, current, stabilized, now_s)
        if limited != stabilized:
            rule = "rate limit"
            edge = "most" if limited < stabilized else "fewest"
            words.append(f"{limited} is the {edge} that the limits for {policy.period_s:g} s allow")
        final = policy.bounded(limited)
        if final != limited:
            rule = "bounds"
            words.append(f"{'max' if final < limited else 'min'}_replicas is {final}")
    end = f"from {current} to {final} replicas" if final != current else f"it stays at {current}"
    why = f"{', but '.join(words)}: {end}."
    return Decision(
        now_s, current, ready, metric, policy.target, ratio, recommended, stabilized, limited, final, rule, why
    )


def _recommend(policy: AutoscalePolicy, observation: Observation, values: Sequence[float]) -> tuple[float, int, Rule]:
    """Give the ratio, the number that the formula asks for, and which rule said so."""
    current = observation.current
    first = sum(values) / len(values) / policy.target
    missing = sum(reading.ready and reading.value is None for reading in observation.readings)
    unready = sum(not reading.ready for reading in observation.readings)
    # The careful guess about those without a value: just right when shrinking, idle when growing. Replicas that are not
    # ready yet only matter when growing: they are help on its way.
    assumed = [policy.target if first < 1 else 0.0] * missing + [0.0] * (unready if first > 1 else 0)
    ratio = first
    if assumed:
        values = [*values, *assumed]
        ratio = sum(values) / len(values) / policy.target
    if abs(1 - ratio) <= policy.tolerance + _EXACT:
        return ratio, current, "tolerance" if abs(1 - first) <= policy.tolerance + _EXACT else "missing"
    recommended = math.ceil(ratio * len(values) - _EXACT)
    if (first < 1) != (ratio < 1) or (recommended - current) * (ratio - 1) < 0:
        return ratio, current, "missing"
    return ratio, recommended, "formula"


def _recent(policy: AutoscalePolicy, history: History, current: int, now_s: float) -> list[tuple[float, int]]:
    known = history.recommendations or ((now_s, current),)
    return [pair for pair in known if pair[0] > now_s - policy.stabilization_window_s]


def _stabilize(policy: AutoscalePolicy, history: History, current: int, recommended: int, now_s: float) -> int:
    """Shrink no further than the highest recommendation of the window."""
    if recommended >= current:
        return recommended
    return min(current, max([recommended, *(number for _, number in _recent(policy, history, current, now_s))]))


def _limit(policy: AutoscalePolicy, history: History, current: int, wanted: int, now_s: float) -> int:
    """Grow and shrink no further than the limits allow, counted from the size at the beginning of the period."""
    before = current - sum(moved for time_s, moved in history.changes if time_s > now_s - policy.period_s)
    if wanted > current:
        share = -(-before * (100 + policy.scale_up_percent) // 100)
        return max(current, min(wanted, max(before + policy.scale_up_replicas, share)))
    least = before * (100 - policy.scale_down_percent) // 100
    return min(current, max(wanted, least))


def _formula(policy: AutoscalePolicy, metric: float, ratio: float, recommended: int, rule: Rule) -> str:
    text = f"The average {metric:.3g} is {metric / policy.target:.2f} times the target {policy.target:g}"
    if rule == "tolerance":
        return f"{text}, within the tolerance of {policy.tolerance:g}"
    if rule == "missing":
        return f"{text}, but {ratio:.2f} times with the replicas that have no value or are not ready"
    counted = "" if math.isclose(ratio, metric / policy.target) else f" ({ratio:.2f} with those without a value)"
    return f"{text}{counted} and asks for {recommended}"

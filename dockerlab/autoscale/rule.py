"""How many replicas there should be: the rule of Kubernetes' HorizontalPodAutoscaler as a pure function.

Source: Kubernetes "Horizontal Pod Autoscaling", algorithm details and configurable scaling behavior; the order of the
rules is that of ``pkg/controller/podautoscaler`` (``replica_calculator.go`` and ``horizontal.go``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from dockerlab.autoscale.policy import AutoscalePolicy, Decision, History, Observation, Rule

_EXACT = 1e-9
"""What floating point adds to 1.1 - 1 must not decide."""


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
    >>> from dockerlab.autoscale.policy import Reading
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

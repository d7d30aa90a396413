"""The rule of the autoscaler, case by case and for every case, and what it makes of the router's numbers."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockerlab.autoscale.autoscaler import Decisions
from dockerlab.autoscale.metrics import Metric, readings, replica_seconds
from dockerlab.autoscale.policy import AutoscalePolicy, Decision, History, Observation, Reading
from dockerlab.autoscale.rule import decide
from dockerlab.errors import BadInputError
from dockerlab.fleet.model import Event

KUBERNETES = AutoscalePolicy(target=10, max_replicas=100)
AT_ONCE = dataclasses.replace(KUBERNETES, stabilization_window_s=0, scale_up_replicas=1000)


def fleet(*values: float | None, unready: int = 0, current: int | None = None) -> Observation:
    """Replicas with these values, and some that are not ready yet."""
    rows = [Reading(f"r{number}", value) for number, value in enumerate(values)]
    rows += [Reading(f"u{number}", None, ready=False) for number in range(unready)]
    return Observation(len(rows) if current is None else current, tuple(rows))


def one(observation: Observation, policy: AutoscalePolicy = AT_ONCE, history: History | None = None) -> Decision:
    return decide(policy, history or History(((0.0, 1),)), observation, 1000.0)


# The policy


def test_the_defaults_are_those_of_kubernetes() -> None:
    policy = AutoscalePolicy(target=1)
    assert (policy.tolerance, policy.stabilization_window_s, policy.interval_s) == (0.1, 300, 15)
    assert (policy.scale_up_replicas, policy.scale_up_percent, policy.scale_down_percent) == (4, 100, 100)
    assert policy.period_s == 15


def test_faster_divides_the_times_and_nothing_else() -> None:
    lesson = KUBERNETES.faster(30)
    changed = {name for name, value in dataclasses.asdict(lesson).items() if value != getattr(KUBERNETES, name)}
    assert changed == {"stabilization_window_s", "period_s", "interval_s"}
    assert (lesson.stabilization_window_s, lesson.period_s, lesson.interval_s) == (10, 0.5, 0.5)


@pytest.mark.parametrize(
    "wrong",
    [
        {"target": 0},
        {"target": math.nan},
        {"target": "2"},
        {"target": True},
        {"min_replicas": 0},
        {"min_replicas": 2.0},
        {"max_replicas": 1, "min_replicas": 2},
        {"tolerance": -0.1},
        {"stabilization_window_s": math.inf},
        {"stabilization_window_s": -1},
        {"scale_up_replicas": 0, "scale_up_percent": 0},
        {"scale_up_replicas": -1},
        {"scale_down_percent": 0},
        {"scale_down_percent": 101},
        {"period_s": 0},
        {"interval_s": 0},
    ],
)
def test_numbers_out_of_range_are_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInputError, match=next(iter(wrong))) as caught:
        AutoscalePolicy(**{"target": 1, **wrong})
    assert "Give " in caught.value.advice


@pytest.mark.parametrize("factor", [0, -1, math.inf, math.nan, True, "30"])
def test_a_factor_that_makes_no_sense_is_refused(factor: Any) -> None:
    with pytest.raises(BadInputError, match="times as fast"):
        KUBERNETES.faster(factor)


# The formula


@pytest.mark.parametrize(
    ("observation", "replicas", "rule"),
    [
        (fleet(20, 20), 4, "formula"),
        (fleet(5, 5, 5, 5), 2, "formula"),
        (fleet(0, 0, 0), 1, "bounds"),  # 0 is asked for
        (fleet(30, 0, 0), 3, "tolerance"),  # the average counts
        (fleet(11, 11), 2, "tolerance"),
        (fleet(9, 9), 2, "tolerance"),
        (fleet(11.01, 11.01), 3, "formula"),
        (fleet(*[8.9] * 10), 9, "formula"),
        (fleet(*[3.0] * 10), 3, "formula"),
        # No value: 10 (the target) when shrinking, 0 when growing
        (fleet(5, 5, None, None), 3, "formula"),
        (fleet(40, None), 4, "formula"),
        (fleet(40, 40, None), 8, "formula"),
        (fleet(15, None), 2, "missing"),  # (15 + 0) / 2 would shrink it
        (fleet(21, None), 2, "missing"),  # 1.05: within the tolerance now
        (fleet(8, *[None] * 9), 10, "missing"),
        # Not ready yet: 0 when growing, left out when shrinking
        (fleet(40, unready=1), 4, "formula"),
        (fleet(15, 15, unready=1), 3, "missing"),
        (fleet(15, 15, unready=2), 4, "missing"),
        (fleet(5, 5, 5, 5, unready=4), 2, "formula"),
        (fleet(60, None, unready=1), 6, "formula"),
        # More replicas serve than are wanted, as in a rollout: 0.8 must not grow the fleet
        (fleet(*[8.0] * 7, current=5), 5, "missing"),
        (fleet(None, None), 2, "no metric"),
        (fleet(unready=3), 3, "no metric"),
        (fleet(current=4), 4, "no metric"),
        (fleet(current=0), 1, "bounds"),
        (fleet(*[10.0] * 120), 100, "bounds"),
    ],
)
def test_the_formula(observation: Observation, replicas: int, rule: str) -> None:
    decision = one(observation)
    assert (decision.replicas, decision.rule) == (replicas, rule), decision.why
    assert decision.why.endswith(".")
    assert decision.changes == (replicas != observation.current)


def test_a_decision_tells_its_numbers_in_a_sentence() -> None:
    lesson = dataclasses.replace(KUBERNETES, max_replicas=7)
    history = History(((0.0, 3),), ((995.0, 2),))
    decision = decide(lesson, history, fleet(60, 60, 60), 1000.0)
    assert (decision.metric, decision.ratio, decision.recommended) == (60, 6, 18)
    assert (decision.stabilized, decision.limited, decision.replicas) == (18, 5, 5)
    assert decision.why == (
        "The average 60 is 6.00 times the target 10 and asks for 18, "
        "but 5 is the most that the limits for 15 s allow: from 3 to 5 replicas."
    )
    assert "max_replicas is 7" in decide(lesson, History(), fleet(60, 60, 60, 60), 0.0).why
    assert one(fleet(21, None)).why == (
        "The average 21 is 2.10 times the target 10, but 1.05 times with the replicas that have no value or are not "
        "ready: it stays at 2."
    )
    assert one(fleet(10.5)).why.endswith("within the tolerance of 0.1: it stays at 1.")
    assert one(fleet(current=2)).why == "No replica that is ready has a value: it stays at 2."


# Over time


def play(policy: AutoscalePolicy, steps: list[tuple[float, float]], start: int) -> list[Decision]:
    """Let a fleet of `start` see an average at each of the times, all replicas ready at once."""
    current, history, decisions = start, History(), []
    for now_s, value in steps:
        decision = decide(policy, history, fleet(*[value] * current), now_s)
        history = history.after(policy, decision)
        decisions.append(decision)
        current = decision.replicas
    return decisions


def test_it_grows_at_once_and_shrinks_after_the_window() -> None:
    steps = [(0.0, 40.0), *((15.0 * number, 1.0) for number in range(1, 25))]
    sizes = [(d.time_s, d.replicas) for d in play(KUBERNETES, steps, 2)]
    assert sizes[0] == (0, 6)
    assert [size for time_s, size in sizes if time_s < 300] == [6] * 20
    assert [size for time_s, size in sizes if time_s >= 300] == [1] * 5


def test_a_new_autoscaler_does_not_shrink_a_fleet_at_once() -> None:
    decisions = play(KUBERNETES, [(15.0 * number, 1.0) for number in range(25)], 8)
    assert [d.replicas for d in decisions[:20]] == [8] * 20
    assert decisions[0].rule == "stabilization"
    assert "the last 300 s asked for up to 8" in decisions[0].why
    assert decisions[20].replicas == 1


def test_without_a_window_it_shrinks_at_once() -> None:
    policy = dataclasses.replace(KUBERNETES, stabilization_window_s=0)
    assert [d.replicas for d in play(policy, [(0.0, 1.0), (15.0, 40.0)], 8)] == [1, 4]


def test_it_grows_by_four_or_doubles_in_each_period() -> None:
    steps = [(15.0 * number, 1000.0) for number in range(6)]
    assert [d.replicas for d in play(KUBERNETES, steps, 1)] == [5, 10, 20, 40, 80, 100]
    often = [(5.0 * number, 1000.0) for number in range(4)]
    assert [d.replicas for d in play(KUBERNETES, often, 1)] == [5, 5, 5, 10]


def test_it_shrinks_no_faster_than_its_limit() -> None:
    policy = dataclasses.replace(KUBERNETES, stabilization_window_s=0, scale_down_percent=50)
    steps = [(5.0 * number, 0.0) for number in range(7)]
    assert [d.replicas for d in play(policy, steps, 8)] == [4, 4, 4, 2, 2, 2, 1]
    assert "4 is the fewest" in play(policy, steps, 8)[0].why


def test_without_a_metric_nothing_is_remembered_but_the_start() -> None:
    history = History().after(KUBERNETES, one(fleet(current=4)))
    assert [number for _, number in history.recommendations] == [4]
    assert history.after(KUBERNETES, one(fleet(current=4))) == history


values = st.one_of(st.none(), st.floats(0, 1000))
observed = st.builds(
    Observation,
    st.integers(0, 60),
    st.lists(st.builds(Reading, st.just("r"), values, st.booleans()), max_size=40).map(tuple),
)
policies = st.builds(
    AutoscalePolicy,
    target=st.floats(0.01, 100),
    min_replicas=st.integers(1, 20),
    max_replicas=st.integers(20, 60),
    tolerance=st.floats(0, 0.5),
    stabilization_window_s=st.sampled_from([0.0, 30.0, 300.0]),
    scale_up_replicas=st.integers(1, 8),
    scale_up_percent=st.integers(0, 200),
    scale_down_percent=st.integers(1, 100),
)
times = st.lists(st.floats(0, 40), min_size=1, max_size=25).map(
    lambda gaps: [sum(gaps[: n + 1]) for n in range(len(gaps))]
)


@given(policies, observed)
def test_the_bounds_always_hold(policy: AutoscalePolicy, observation: Observation) -> None:
    decision = one(observation, policy)
    assert policy.min_replicas <= decision.replicas <= policy.max_replicas
    inside = policy.min_replicas <= observation.current <= policy.max_replicas
    if inside and decision.metric is None:
        assert decision.replicas == observation.current


@given(policies, observed)
def test_within_the_tolerance_nothing_happens(policy: AutoscalePolicy, observation: Observation) -> None:
    decision = one(observation, policy)
    if decision.ratio is not None and abs(1 - decision.ratio) <= policy.tolerance:
        assert decision.replicas == observation.current


@given(policies, observed)
def test_what_is_missing_never_turns_the_direction_round(policy: AutoscalePolicy, observation: Observation) -> None:
    decision = one(observation, policy)
    if decision.metric is None or decision.ratio is None:
        return
    if decision.metric > policy.target:
        assert decision.recommended >= observation.current
        assert decision.replicas >= observation.current
    if decision.metric < policy.target:
        assert decision.recommended <= observation.current
        assert decision.replicas <= observation.current


@given(policies, st.lists(values, min_size=1, max_size=20), st.integers(0, 5))
def test_what_is_missing_only_makes_it_more_careful(
    policy: AutoscalePolicy, rows: list[float | None], unready: int
) -> None:
    known = [row for row in rows if row is not None]
    careful = one(fleet(*rows, unready=unready), policy)
    if known and careful.ratio is not None and careful.metric is not None:
        bold = careful.metric / policy.target
        assert abs(1 - careful.ratio) <= abs(1 - bold) + 1e-9 or (1 - careful.ratio) * (1 - bold) <= 0


@given(policies, times, st.data())
def test_limits_and_the_highest_recommendation_hold_in_every_window(
    policy: AutoscalePolicy, moments: list[float], data: st.DataObject
) -> None:
    start = data.draw(st.integers(policy.min_replicas, policy.max_replicas))
    load = data.draw(st.lists(st.floats(0, 500), min_size=len(moments), max_size=len(moments)))
    decisions = play(policy, list(zip(moments, load, strict=True)), start)
    for number, decision in enumerate(decisions):
        earlier = [d for d in decisions[:number] if d.time_s > decision.time_s - policy.period_s]
        before = earlier[0].current if earlier else decision.current
        if decision.replicas > decision.current:
            share = math.ceil(before * (100 + policy.scale_up_percent) / 100 - 1e-9)
            assert decision.replicas <= max(before + policy.scale_up_replicas, share)
        if decision.replicas < decision.current:
            assert decision.replicas >= math.floor(before * (100 - policy.scale_down_percent) / 100 - 1e-9)
            window = [d for d in decisions[: number + 1] if d.time_s > decision.time_s - policy.stabilization_window_s]
            assert decision.replicas >= max(d.recommended for d in [decision, *window])
            if decisions[0] in window and policy.stabilization_window_s:
                assert decision.replicas >= start


@given(policies, times, st.data())
def test_what_is_forgotten_is_asked_for_by_no_later_decision(
    policy: AutoscalePolicy, moments: list[float], data: st.DataObject
) -> None:
    everything, pruned, current = History(), History(), policy.min_replicas
    for now_s in moments:
        observation = fleet(*[data.draw(st.floats(0, 500))] * current)
        decision = decide(policy, pruned, observation, now_s)
        assert decision == decide(policy, everything, observation, now_s)
        begun = everything.recommendations or ((now_s, current),)
        moved = ((now_s, decision.replicas - current),)
        everything = History((*begun, (now_s, decision.recommended)), (*everything.changes, *moved))
        pruned = pruned.after(policy, decision)
        current = decision.replicas


# What the router tells


SAMPLES = [
    (10.0, {"a": (True, 2, 100), "b": (False, 0, 0)}),
    (11.0, {"a": (True, 4, 110), "b": (True, 1, 0), "gone": (True, 9, 9)}),
    (12.0, {"a": (True, 6, 140), "b": (True, 3, 6), "late": (True, 0, 0), "down": (False, 1, 5)}),
]


@pytest.mark.parametrize(
    ("metric", "a", "b", "late"),
    [("in_flight", 4.0, 2.0, 0.0), ("rate", 20.0, 6.0, None), ("latency", 0.2, pytest.approx(1 / 3), None)],
)
def test_a_reading_is_taken_over_the_whole_interval(metric: Metric, a: float, b: float, late: float | None) -> None:
    found = {reading.replica: (reading.value, reading.ready) for reading in readings(metric, SAMPLES)}
    assert found == {"a": (a, True), "b": (b, True), "late": (late, True), "down": (None, False)}


def test_nothing_seen_is_no_reading() -> None:
    assert readings("in_flight", []) == ()
    idle = [(0.0, {"a": (True, 0, 5)}), (1.0, {"a": (True, 0, 5)})]
    assert readings("latency", idle)[0].value is None
    assert readings("rate", idle)[0].value == 0


# What it cost


def test_replica_seconds_add_up_what_each_one_served() -> None:
    events = [
        Event(2.0, "started", "", "b"),
        Event(3.0, "ready", "", "b"),
        Event(4.0, "started", "", "bad"),
        Event(5.0, "removed", "", "bad"),  # it never served
        Event(6.0, "scaled", ""),
        Event(7.0, "drained", "", "b"),
        Event(7.5, "removed", "", "b"),
        Event(8.0, "drained", "", "old"),
        Event(9.0, "ready", "", "c"),
    ]
    assert replica_seconds(events, ["a", "c"], since_s=0, until_s=10) == 10 + 4 + 8 + 1
    assert replica_seconds(events, ["a", "c"], since_s=4, until_s=6) == 2 + 2 + 2
    assert replica_seconds([], [], since_s=0, until_s=10) == 0


@given(st.integers(1, 20), st.floats(0, 100), st.floats(0, 100))
def test_replica_seconds_of_a_fleet_that_stays(replicas: int, since_s: float, span_s: float) -> None:
    names = [str(number) for number in range(replicas)]
    total = replica_seconds([], names, since_s=since_s, until_s=since_s + span_s)
    assert total == pytest.approx(replicas * span_s, abs=1e-9)


# The log


def test_the_log_shows_each_change_and_leaves_repetitions_out() -> None:
    steps = [(0.0, 40.0), *((15.0 * number, 1.0) for number in range(1, 22))]
    log = Decisions(play(KUBERNETES, steps, 2))
    text = str(log)
    assert text == repr(log)
    assert text.startswith("22 decisions, 2 of them change the fleet; 18 that repeat the one before are not shown")
    assert len(text.splitlines()) == 2 + 4
    assert "from 2 to 6 replicas." in text
    assert "from 6 to 1 replicas." in text
    page = log._repr_html_()
    assert page.count("<tr>") == 1 + 4
    assert "<caption" in page
    assert str(Decisions()) == "No decision yet."
    assert "No decision" in Decisions()._repr_html_()

"""Healing: the numbers, case by case and for every case."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockerlab.errors import BadInputError
from dockerlab.fleet.model import FleetStatus, Phase, ReplicaStatus
from dockerlab.heal.history import History, Streak
from dockerlab.heal.policy import HealingPolicy
from dockerlab.heal.reconciler import HealEvent, HealEvents
from dockerlab.heal.rules import decide
from dockerlab.heal.verdict import Verdict

POLICY = HealingPolicy()


def row(name: str, kind: str = "ok", *, age_s: float = 100.0, revision: int = 1) -> ReplicaStatus:
    """One replica: ok, dead, sick, idle (not served) or leaving."""
    state = "exited" if kind == "dead" else "running"
    health = "unhealthy" if kind in {"dead", "sick"} else "healthy"
    traffic = "drain" if kind == "idle" else "ready"
    code = 3 if kind == "dead" else None
    return ReplicaStatus(name, name, "web:1", revision, state, health, traffic, "", 0, age_s, kind == "leaving", code)


def fleet(
    *rows: ReplicaStatus, desired: int | None = None, phase: Phase | None = None, revision: int = 1
) -> FleetStatus:
    wanted = len(rows) if desired is None else desired
    whole = len(rows) == wanted and all(r.ready and not r.leaving and r.revision == revision for r in rows)
    chosen: Phase = phase or ("Healthy" if whole else "Degraded")
    return FleetStatus("web", "", wanted, revision, "web:1", chosen, rows)


def looks(statuses: Sequence[tuple[float, FleetStatus]], policy: HealingPolicy = POLICY) -> Verdict:
    """Look at one after the other, and give the last verdict."""
    history = History()
    for now_s, status in statuses:
        verdict = decide(policy, history, status, now_s)
        history = verdict.history
    return verdict


def actions(verdict: Verdict) -> list[tuple[str, str, str]]:
    return [(d.replica, d.seen, d.action) for d in verdict.decisions]


# The policy


def test_the_defaults_are_those_of_docker_and_kubernetes() -> None:
    assert [POLICY.away_s(n) for n in (1, 2, 3, 10, 11, 5000)] == [0.1, 0.2, 0.4, 51.2, 60, 60]
    assert [POLICY.wait_s(n) for n in (1, 4, 5, 6, 9, 10, 5000)] == [0.1, 0.8, 10, 20, 160, 300, 300]
    assert (POLICY.failure_threshold, POLICY.unhealthy_after_s, POLICY.reset_after_s) == (3, 20, 10)
    assert [POLICY.at_once(n) for n in (1, 4, 7, 8, 100)] == [1, 1, 1, 2, 25]


@pytest.mark.parametrize(
    "wrong",
    [
        {"failure_threshold": 0},
        {"failure_threshold": 1.5},
        {"crash_loop_after": True},
        {"unhealthy_after_s": -1},
        {"reset_after_s": math.inf},
        {"backoff_s": 0},
        {"backoff_s": "1"},
        {"max_backoff_s": 0.05},
        {"max_crash_loop_s": 1},
        {"interval_s": math.nan},
        {"drift_interval_s": 0},
        {"max_at_once": 0},
        {"max_at_once": True},
        {"max_at_once": -1},
        {"max_at_once": "many"},
        {"max_at_once": 0.5},
    ],
)
def test_numbers_out_of_range_are_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInputError, match=next(iter(wrong))) as caught:
        HealingPolicy(**wrong)
    assert "Give " in caught.value.advice


def test_faster_divides_every_wait_and_nothing_else() -> None:
    lesson = POLICY.faster(10)
    assert (lesson.unhealthy_after_s, lesson.crash_loop_s, lesson.reset_after_s) == (2, 1, 1)
    assert (lesson.interval_s, lesson.drift_interval_s) == (POLICY.interval_s, POLICY.drift_interval_s)
    assert lesson.failure_threshold == POLICY.failure_threshold
    with pytest.raises(BadInputError, match="times as fast"):
        POLICY.faster(0)


# One look after another


def test_a_dead_replica_waits_once_and_is_replaced() -> None:
    dead = fleet(row("a", "dead"), row("b"))
    start = (0.0, fleet(row("a"), row("b")))
    verdict = looks([start, (1.0, dead)])
    assert actions(verdict) == [("a", "exited", "wait")]
    assert verdict.decisions[0].until_s == 1.1
    assert "exit code 3; after 1 failure the next attempt waits 0.1 s" in verdict.decisions[0].why
    verdict = looks([start, (1.0, dead), (1.1, dead)])
    assert (actions(verdict), verdict.state, verdict.to_replace) == ([("a", "exited", "replace")], "Healing", ())
    assert verdict.history.exit_code == 3


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (fleet(row("a"), desired=2), [("", "missing", "start")]),
        (fleet(row("a"), row("b", "idle")), [("b", "not served", "connect")]),
        (fleet(row("a"), row("b", "leaving"), desired=1), [("b", "left over", "remove")]),
        (fleet(row("a"), row("b"), desired=1), [("", "left over", "remove")]),
        (
            fleet(row("a"), row("b", revision=2), desired=1, revision=1),
            [("b", "left over", "remove")],
        ),
        (fleet(row("a"), row("b", "dead"), desired=2, phase="Progressing"), []),
        (fleet(row("a"), row("b", "idle"), row("c"), desired=2, phase="Paused"), []),
        (fleet(row("a"), row("b", revision=2), desired=2, phase="Paused"), []),
        (fleet(desired=0), []),
    ],
)
def test_what_is_seen_decides_what_is_done(status: FleetStatus, expected: list[tuple[str, str, str]]) -> None:
    verdict = looks([(0.0, status)])
    assert actions(verdict) == expected
    assert verdict.state == ("Healing" if expected else "Healthy")


def test_while_a_rollout_is_paused_only_the_dead_are_replaced() -> None:
    status = fleet(row("a", "dead"), row("b", "sick"), phase="Paused")
    verdict = looks([(float(now_s), status) for now_s in range(100)])
    assert actions(verdict) == [("a", "exited", "replace"), ("b", "unhealthy", "wait")]


def test_an_unhealthy_replica_is_borne_for_so_many_looks_and_so_long() -> None:
    sick = fleet(*(row(name, "sick" if name < "c" else "ok") for name in "abcd"))
    assert actions(looks([(0.0, sick), (30.0, sick)]))[0] == ("a", "unhealthy", "wait")  # two looks
    before = looks([(0.0, sick), (10.0, sick), (19.9, sick)])
    assert [d.until_s for d in before.decisions] == [20.0, 20.0]
    after = looks([(0.0, sick), (10.0, sick), (20.0, sick), (21.0, sick)])
    assert actions(after) == [("a", "unhealthy", "replace"), ("b", "unhealthy", "wait")]
    assert "only 1 of 4 may be replaced at a time" in after.decisions[1].why
    assert after.to_replace == ("a",)
    well = fleet(*map(row, "abcd"))
    again = looks([(0.0, sick), (10.0, sick), (15.0, well), (20.0, sick), (21.0, sick)])
    assert {d.action for d in again.decisions} == {"wait"}


def crash(
    history: History, now_s: float, *, policy: HealingPolicy = POLICY, lived_s: float = 1.0
) -> tuple[float, Verdict]:
    """Let a new replica serve, die, and be replaced as soon as that is allowed; give when."""
    name = f"r{now_s}"
    history = decide(policy, history, fleet(row(name, age_s=0)), now_s).history
    now_s += lived_s
    dead = fleet(replace(row(name, "dead", age_s=lived_s), exit_code=7))
    verdict = decide(policy, history, dead, now_s)
    until_s = verdict.decisions[0].until_s
    assert until_s is not None
    later = decide(policy, verdict.history, dead, until_s)
    assert later.acts
    return until_s, replace(later, history=later.history.after(policy, until_s, failed=False))


def test_a_crash_loop_is_marked_and_its_waits_grow() -> None:
    now_s, history, waits, states = 0.0, History(), [], []
    for _ in range(7):
        due_s, verdict = crash(history, now_s)
        waits.append(round(due_s - now_s - 1.0, 6))
        states.append(verdict.state)
        now_s, history = due_s, verdict.history
    assert waits == [0.1, 0.2, 0.4, 0.8, 10, 20, 40]
    assert states == ["Healing"] * 4 + ["CrashLoopBackOff"] * 3
    assert history.exit_code == 7
    well = fleet(row("new"))
    history = decide(POLICY, history, well, now_s).history
    assert decide(POLICY, history, well, now_s + 9.9).state == "CrashLoopBackOff"
    end = decide(POLICY, history, well, now_s + 10)
    assert (end.state, end.history.ends.failures, end.history.exit_code) == ("Healthy", 0, None)


def test_another_revision_starts_over() -> None:
    looping = History(revision=1, ends=Streak(8, due_s=1e9), exit_code=1)
    verdict = decide(POLICY, looping, fleet(row("a", revision=2), desired=2, revision=2), 0.0)
    assert (verdict.state, verdict.history.ends.failures) == ("Healing", 0)
    assert actions(verdict) == [("", "missing", "start")]


def test_replicas_that_ran_well_are_no_failures_in_a_row() -> None:
    policy = replace(POLICY, crash_loop_after=2)
    names = [f"r{number}" for number in range(6)]
    history = decide(policy, History(), fleet(*map(row, names)), 0.0).history
    for number in range(6):
        rows = [row(name) for name in names[number + 1 :]]
        verdict = decide(policy, history, fleet(*rows, desired=len(rows) + 1), number + 1.0)
        assert verdict.history.ends.failures == 1
        history = verdict.history.after(policy, number + 1.5, failed=False)


def test_a_failed_attempt_counts_once() -> None:
    history = History(revision=1).after(POLICY, 5.0, failed=True, exit_code=9)
    assert (history.ends.failures, history.exit_code, history.ends.due_s) == (1, 9, 5.1)
    verdict = decide(POLICY, history, fleet(row("a"), desired=2), 5.05)
    assert (verdict.history.ends.failures, actions(verdict)) == (1, [("", "missing", "wait")])


# For every case

KINDS = st.lists(st.sampled_from(["ok", "ok", "dead", "sick", "idle", "leaving"]), max_size=12)
PHASES: st.SearchStrategy[Phase | None] = st.sampled_from([None, None, None, "Paused", "Progressing"])
STEPS = st.lists(st.tuples(KINDS, st.integers(0, 12), PHASES, st.floats(0.01, 30), st.sampled_from("swf")), max_size=25)


@given(STEPS, st.sampled_from([1, 3, "25%", "50%", "100%"]))
def test_whatever_happens(steps: Any, at_once: int | str) -> None:
    policy = replace(POLICY, max_at_once=at_once)
    history, now_s = History(), 0.0
    for kinds, desired, phase, pause_s, end in steps:
        now_s += pause_s
        status = fleet(*(row(f"r{n}", kind, age_s=now_s) for n, kind in enumerate(kinds)), desired=desired, phase=phase)
        verdict = decide(policy, history, status, now_s)
        assert len(verdict.to_replace) <= policy.at_once(desired)
        assert all(d.why.endswith(".") and len(d.why) > 10 for d in verdict.decisions)
        assert all(d.until_s is None or (d.action == "wait" and d.until_s >= now_s) for d in verdict.decisions)
        if status.phase in {"Healthy", "Progressing"}:
            assert verdict.decisions == ()
        if status.phase == "Paused":
            assert {d.seen for d in verdict.decisions if d.action != "wait"} <= {"exited", "missing"}
        if status.phase == "Degraded":
            assert verdict.decisions
        named = [d.replica for d in verdict.decisions if d.replica]
        assert len(named) == len(set(named))
        assert verdict.history.ends.failures <= history.ends.failures + 1
        assert (verdict.state == "CrashLoopBackOff") == (verdict.history.ends.failures >= policy.crash_loop_after)
        history = verdict.history
        if verdict.acts and end != "w":
            history = history.after(policy, now_s, failed=end == "f")
    well = fleet(*(row(f"new{n}") for n in range(3)))
    history = decide(policy, history, well, now_s).history
    last = decide(policy, history, well, now_s + policy.reset_after_s + 0.001)
    assert (last.state, last.decisions, last.history.ends.failures) == ("Healthy", (), 0)


@given(
    st.integers(1, 400),
    st.integers(1, 400),
    st.floats(0.001, 50),
    st.floats(1, 100),
    st.floats(0.001, 50),
    st.floats(1, 100),
    st.integers(1, 40),
)
def test_waits_never_shrink_and_are_capped(
    one: int, two: int, first_s: float, times: float, loop_s: float, loop_times: float, after: int
) -> None:
    policy = HealingPolicy(
        backoff_s=first_s,
        max_backoff_s=first_s * times,
        crash_loop_s=loop_s,
        max_crash_loop_s=loop_s * loop_times,
        crash_loop_after=after,
    )
    less, more = sorted((one, two))
    assert policy.wait_s(less) <= policy.wait_s(more) <= max(policy.max_backoff_s, policy.max_crash_loop_s)
    assert policy.away_s(less) <= policy.away_s(more) <= policy.max_backoff_s
    assert policy.wait_s(1) >= first_s


def test_the_log_shows_itself_as_a_table() -> None:
    assert str(HealEvents()) == "Nothing had to be healed."
    log = HealEvents(
        [HealEvent(5.0, "", "no <router>", "waits", "It is away."), HealEvent(6.5, "a", "exited", "replaced", "")]
    )
    assert "1.5 s" in str(log).splitlines()[2]
    html = log._repr_html_()
    assert "no &lt;router&gt;" in html
    assert html.count("<tr>") == 3

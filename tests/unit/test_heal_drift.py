"""Healing of what drifted: which replicas go, when, and what is said about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from test_heal import POLICY, actions, fleet, row

from dockerlab.drift.model import Change
from dockerlab.fleet.model import FleetStatus
from dockerlab.heal.history import Files, History
from dockerlab.heal.rules import decide, told
from dockerlab.heal.verdict import Verdict

MOTD = (Change("/etc/motd", "changed"), Change("/app/x", "added"))
Look = tuple[float, FleetStatus, Files | None]


def files(time_s: float, clean: str = "", drifted: str = "") -> Files:
    """Each letter is a replica."""
    return Files(time_s, {**dict.fromkeys(clean, ()), **dict.fromkeys(drifted, MOTD)})


def looks(steps: Sequence[Look], history: History | None = None) -> Verdict:
    history = history or History()
    for now_s, status, found in steps:
        verdict = decide(POLICY, history, status, now_s, found)
        history = verdict.history
    return verdict


WHOLE = fleet(*map(row, "abcd"))


def test_the_paths_are_told_shortly() -> None:
    assert told(MOTD) == "/etc/motd changed, /app/x added"
    assert told([Change(f"/{n}", "deleted") for n in "abcdef"]) == "/a deleted, /b deleted, /c deleted and 3 more"


def test_what_drifted_waits_once_and_is_replaced_though_it_serves() -> None:
    clean, bad = files(0.0, "abcd"), files(50.0, "acd", "b")
    verdict = looks([(0.0, WHOLE, clean), (50.0, WHOLE, bad)])
    assert actions(verdict) == [("b", "drifted", "wait")]
    assert verdict.decisions[0].until_s == 50.1
    assert verdict.state == "Healing"
    verdict = looks([(0.0, WHOLE, clean), (50.0, WHOLE, bad), (50.1, WHOLE, bad)])
    assert verdict.to_replace == ("b",)
    assert verdict.acts
    assert verdict.decisions[0].why == "It differs from its image: /etc/motd changed, /app/x added."
    assert verdict.history.drifts.failures == 1
    assert looks([(0.0, WHOLE, bad), (1.0, WHOLE, files(1.0, "abcd"))]).decisions == ()


def test_it_is_not_looked_for_where_nobody_asks() -> None:
    assert looks([(0.0, WHOLE, None), (9.0, WHOLE, None)]).state == "Healthy"


def test_unhealthy_and_drifted_ones_go_together_only_as_many_as_may_be_missing() -> None:
    sick = fleet(row("a", "sick"), *map(row, "bcd"))
    borne = looks([(float(now_s), sick, files(float(now_s), "ac", "bd")) for now_s in range(5)])
    assert actions(borne) == [("a", "unhealthy", "wait"), ("b", "drifted", "wait"), ("d", "drifted", "wait")]
    assert "only 1 of 4 may be out of service" in borne.decisions[1].why
    due = looks([(float(now_s), sick, files(float(now_s), "ac", "bd")) for now_s in range(0, 40, 5)])
    assert due.to_replace == ("a",)
    both = looks([(now_s, WHOLE, files(0.0, "ac", "bd")) for now_s in (0.0, 1.0)])
    assert both.to_replace == ("b",)


def test_while_another_replica_is_missing_none_that_serves_is_taken_away() -> None:
    two = fleet(*map(row, "abc"), desired=4)
    verdict = looks([(0.0, WHOLE, files(0.0, "abcd")), *((s, two, files(1.0, "bc", "a")) for s in (1.0, 2.0))])
    assert actions(verdict) == [("", "missing", "start"), ("a", "drifted", "wait")]


def test_a_hung_one_that_drifted_is_replaced_for_being_hung() -> None:
    verdict = looks([(0.0, fleet(row("a", "sick"), row("b")), files(0.0, "b", "a"))])
    assert actions(verdict) == [("a", "unhealthy", "wait")]


def test_during_a_rollout_it_is_left_alone() -> None:
    paused = fleet(*map(row, "ab"), row("c", revision=2), desired=2, revision=2, phase="Paused")
    verdict = looks([(float(now_s), paused, files(0.0, "bc", "a")) for now_s in range(9)])
    assert actions(verdict) == [("a", "drifted", "wait")]
    assert "but a rollout is paused" in verdict.decisions[0].why
    assert verdict.history.drifts.failures == 0
    moving = replace(paused, phase="Progressing")
    assert looks([(0.0, moving, files(0.0, "bc", "a"))]).decisions == ()


def life(history: History, name: str, born_s: float, *, clean_s: float | None) -> tuple[float, Verdict]:
    """Let a new replica serve, be found clean for so long or never, drift, and be replaced; give when."""
    now_s = born_s
    alone = fleet(row(name, age_s=0))
    if clean_s is not None:
        for step in range(int(clean_s) + 1):
            now_s = born_s + step
            history = decide(POLICY, history, alone, now_s, files(now_s, name)).history
    bad = files(now_s + 1, drifted=name)
    verdict = decide(POLICY, history, alone, now_s + 1, bad)
    until_s = verdict.decisions[0].until_s
    assert until_s is not None
    later = decide(POLICY, verdict.history, alone, until_s, bad)
    assert later.to_replace == (name,)
    return until_s, replace(later, history=later.history.after(POLICY, until_s, failed=False))


def test_a_program_that_writes_by_itself_is_marked_and_its_waits_grow() -> None:
    now_s, history, waits, states = 0.0, History(), [], []
    for name in "abcdefg":
        due_s, verdict = life(history, name, now_s, clean_s=None)
        waits.append(round(due_s - now_s - 1, 6))
        states.append(verdict.state)
        now_s, history = due_s, verdict.history
    assert waits == [0.1, 0.2, 0.4, 0.8, 10, 20, 40]
    assert states == ["Healing"] * 4 + ["DriftLoopBackOff"] * 3
    again = looks([(now_s, fleet(row("h", age_s=0)), files(now_s, drifted="h"))], history)
    assert "DriftLoopBackOff: after 8 failures in a row the next attempt waits 80 s." in again.decisions[0].why
    # Whole, but nobody has looked into it since.
    new, first = fleet(row("n")), files(now_s, "n")
    steps = [(now_s, new, first), (now_s + 60, new, first)]
    assert looks(steps, history).state == "DriftLoopBackOff"
    # Looked into only between two looks at all of them.
    older = (now_s, new, files(now_s - 100, "n"))
    assert looks([older, (now_s + 9, new, files(now_s + 9, "n"))], history).state == "DriftLoopBackOff"
    end = looks([*steps, (now_s + 60, new, files(now_s + 10, "n"))], history)
    assert (end.state, end.history.drifts.failures) == ("Healthy", 0)


def test_replicas_that_stayed_as_their_image_for_a_while_are_no_failures_in_a_row() -> None:
    now_s, history = 0.0, History()
    for name in "abcdefg":
        now_s, verdict = life(history, name, now_s, clean_s=11)
        history = verdict.history
        assert history.drifts.failures == 1
    # 4 s are too short, and too short to forget the one before.
    for number, name in enumerate("hijk"):
        now_s, verdict = life(history, name, now_s, clean_s=4)
        history = verdict.history
        assert history.drifts.failures == number + 2


def test_what_died_does_not_wait_for_what_drifted() -> None:
    history = History()
    for _ in range(8):
        drifts = replace(history.drifts, counted=False).failed(POLICY, 0.0, young=True)
        history = replace(history, revision=1, drifts=drifts)
    dead = fleet(row("a", "dead"), *map(row, "bcd"))
    found = files(1.0, "cd", "b")
    verdict = looks([(1.0, dead, found), (1.1, dead, found)], history)
    assert actions(verdict) == [("a", "exited", "replace"), ("b", "drifted", "wait")]
    assert verdict.state == "DriftLoopBackOff"
    assert verdict.decisions[1].until_s == 80.0


def test_another_revision_starts_over() -> None:
    _, verdict = life(History(), "a", 0.0, clean_s=None)
    assert verdict.history.drifts.failures == 1
    new = fleet(row("b", revision=2), revision=2)
    assert looks([(2.0, new, files(2.0, "b"))], verdict.history).history.drifts.failures == 0


KINDS = st.lists(st.sampled_from(["ok", "ok", "ok", "dead", "sick", "idle", "leaving"]), max_size=10)
STEPS = st.lists(
    st.tuples(KINDS, st.integers(0, 10), st.sets(st.integers(0, 9)), st.floats(0.01, 30), st.sampled_from("swf")),
    max_size=20,
)


@given(STEPS, st.sampled_from([1, 3, "25%", "100%"]))
def test_whatever_happens(steps: Any, at_once: int | str) -> None:
    policy = replace(POLICY, max_at_once=at_once)
    history, now_s = History(), 0.0
    for kinds, desired, bad, pause_s, end in steps:
        now_s += pause_s
        rows = [row(f"r{n}", kind, age_s=now_s) for n, kind in enumerate(kinds)]
        status = fleet(*rows, desired=desired)
        found = Files(now_s, {one.name: MOTD if n in bad else () for n, one in enumerate(rows)})
        verdict = decide(policy, history, status, now_s, found)
        plain = decide(policy, replace(history, drifts=History().drifts), status, now_s)
        apart = [d for d in verdict.decisions if d.seen != "drifted"]
        assert apart == list(plain.decisions), "drift changes nothing about the others"
        assert len(verdict.to_replace) <= policy.at_once(desired)
        serve = {one.name for one in rows if one.ready and not one.leaving}
        gone = {d.replica for d in verdict.decisions if (d.seen, d.action) == ("drifted", "replace")}
        assert gone <= serve & {f"r{n}" for n in bad}
        assert not gone or len(serve - gone) >= desired - policy.at_once(desired)
        named = [d.replica for d in verdict.decisions if d.replica]
        assert len(named) == len(set(named))
        assert all(d.why.endswith(".") for d in verdict.decisions)
        history = verdict.history
        if verdict.acts and end != "w":
            history = history.after(policy, now_s, failed=end == "f")

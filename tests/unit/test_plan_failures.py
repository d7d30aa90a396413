"""What each strategy does when something fails: tables of snapshots, no engine needed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fleet_world import at, serving

from dockerlab.fleet.model import Position, Replica, Snapshot
from dockerlab.fleet.plan import plan
from dockerlab.fleet.steps import Goal
from dockerlab.fleet.strategies import BlueGreen, Canary, Recreate, RollingUpdate, SetWeight, Strategy

RECREATE, ROLLING = Recreate(), RollingUpdate(max_surge=1, max_unavailable=0)
BLUE_GREEN, CANARY = BlueGreen(), Canary([SetWeight(50), SetWeight(60)])
ALL = (RECREATE, ROLLING, BLUE_GREEN, CANARY)

A, B = serving("a"), serving("b")
X, Y = serving("x", 2), serving("y", 2)
GREEN_X, GREEN_Y = (replace(one, pool="green") for one in (X, Y))


def dead(replica: Replica) -> Replica:
    return replace(replica, state="exited", health="unhealthy", exit_code=137)


def sick(replica: Replica) -> Replica:
    return replace(replica, health="unhealthy", healthy_since_s=None)


def unchecked(replica: Replica) -> Replica:
    """Give it as a new router finds it."""
    return replace(replica, health="starting", traffic="drain", healthy_since_s=None, ever_ready=False)


def cut_off(replica: Replica) -> Replica:
    """Give it as a new run finds it where an earlier one had begun to remove it."""
    return replace(replica, traffic="drain", ever_ready=False)


def being_made(replica: Replica) -> Replica:
    return replace(unchecked(replica), state="creating", traffic="none", busy=True)


def half_removed(replica: Replica) -> Replica:
    """Give it as a new run finds it where an earlier one was killed just before the router let go of it."""
    return replace(replica, health="unhealthy", traffic="maint", healthy_since_s=None, ever_ready=False)


def steps(strategy: Strategy, snapshot: Snapshot) -> str:
    result = plan(Goal(2, 2, strategy, stable=1), snapshot)
    assert result.failure is None
    return ", ".join(" ".join(filter(None, (s.action, s.replica or f"of {s.revision}"))) for s in result.steps)


@pytest.mark.parametrize(
    ("strategy", "replicas", "green", "expected"),
    [
        # An old one ends, before and after the first new one is there.
        (RECREATE, (dead(A), B), 0, "remove a, drain b"),
        (ROLLING, (dead(A), B), 0, "remove a, start of 2, start of 2"),
        (ROLLING, (dead(A), B, X), 0, "remove a, start of 2"),
        (BLUE_GREEN, (dead(A), B, GREEN_X), 0, "remove a, start of 1, start of 2"),
        (CANARY, (dead(A), B, GREEN_X), 50, "remove a, start of 1"),
        # A new one that served ends.
        (RECREATE, (X, dead(Y)), 0, "remove y, start of 2"),
        (ROLLING, (A, dead(X), Y), 0, "remove x, start of 2"),
        (BLUE_GREEN, (A, B, GREEN_X, dead(GREEN_Y)), 0, "remove y, start of 2"),
        (BLUE_GREEN, (A, B, GREEN_X, dead(GREEN_Y)), 100, "remove y, start of 2"),
        (CANARY, (A, B, dead(GREEN_X)), 50, "remove x, start of 2"),
        # What the engine is still making is left alone until it is made.
        (RECREATE, (being_made(A), B), 0, "drain b"),
        (ROLLING, (A, B, being_made(X)), 0, ""),
        (BLUE_GREEN, (A, B, GREEN_X, being_made(GREEN_Y)), 0, ""),
        (CANARY, (A, B, GREEN_X, being_made(GREEN_Y)), 40, "weight of 2"),
        # A new one stops passing its check: nobody goes for it, no more requests for its pool.
        (RECREATE, (X, sick(Y)), 0, ""),
        (ROLLING, (A, B, sick(X)), 0, ""),
        (BLUE_GREEN, (A, B, GREEN_X, sick(GREEN_Y)), 0, ""),
        (BLUE_GREEN, (A, B, GREEN_X, sick(GREEN_Y)), 100, ""),
        (CANARY, (A, B, sick(GREEN_X)), 0, ""),
        # An old one stops passing its check.
        (RECREATE, (A, sick(B)), 0, "drain a, drain b"),
        (ROLLING, (A, sick(B), X), 0, "drain b"),
        (BLUE_GREEN, (A, sick(B), GREEN_X, GREEN_Y), 0, "weight of 2"),
        # A new router has checked nobody yet: those that it will find healthy stay.
        (RECREATE, (unchecked(A), unchecked(B)), 0, "drain a, drain b"),
        (ROLLING, (unchecked(A), unchecked(B)), 0, "start of 2"),
        (ROLLING, (unchecked(A), unchecked(B), unchecked(X)), 0, ""),
        (ROLLING, (unchecked(A), B, X), 0, "drain a"),
        (BLUE_GREEN, (unchecked(A), unchecked(B), unchecked(GREEN_X), unchecked(GREEN_Y)), 0, ""),
        (BLUE_GREEN, (unchecked(A), unchecked(B), unchecked(GREEN_X), unchecked(GREEN_Y)), 100, ""),
        (CANARY, (unchecked(A), unchecked(B), unchecked(GREEN_X)), 50, ""),
        # An earlier run was killed while it removed old ones: they serve again or go on leaving, never both.
        (RECREATE, (cut_off(A), cut_off(B)), 0, "drain a, drain b"),
        (ROLLING, (cut_off(A), cut_off(B)), 0, "admit a, admit b, start of 2"),
        (ROLLING, (cut_off(A), X, Y), 0, "drain a"),
        (BLUE_GREEN, (cut_off(A), B, GREEN_X, sick(GREEN_Y)), 100, "admit a"),
        (RECREATE, (half_removed(A),), 0, "remove a"),
        (RECREATE, (X, half_removed(Y)), 0, "remove y, start of 2"),
        (ROLLING, (X, half_removed(Y)), 0, "remove y, start of 2"),
        (BLUE_GREEN, (GREEN_X, half_removed(GREEN_Y)), 100, "remove y, start of 2"),
        (CANARY, (GREEN_X, half_removed(GREEN_Y)), 100, "remove y, start of 2"),
    ],
)
def test_what_fails_on_the_way(strategy: Strategy, replicas: tuple[Replica, ...], green: int, expected: str) -> None:
    since = Position(since_s=-100.0)
    assert steps(strategy, replace(at(*replicas), green=green, position=since)) == expected


@pytest.mark.parametrize("strategy", ALL)
def test_a_new_one_that_exits_before_it_served_is_the_end(strategy: Strategy) -> None:
    pool = "blue" if strategy in {RECREATE, ROLLING} else "green"
    bad = Replica("x", 2, state="exited", exit_code=3, pool=pool)
    goal = Goal(2, 2, strategy, stable=1)
    failure = plan(goal, at(A, B, bad)).failure
    assert failure is not None
    assert failure.replica == "x"
    # One that was told to go may end as it likes, and so may an old one.
    assert plan(goal, at(A, B, replace(bad, leaving=True))).failure is None
    assert plan(goal, at(A, replace(bad, revision=1))).failure is None


@pytest.mark.parametrize("strategy", ALL)
@pytest.mark.parametrize(("quiet_s", "failed"), [(4.9, False), (5.1, True)])
def test_one_that_never_passes_its_check_is_the_end_when_the_deadline_is_over(
    strategy: Strategy, quiet_s: float, failed: bool
) -> None:
    goal = Goal(2, 2, strategy, progress_deadline_s=5, stable=1)
    pool = "blue" if strategy in {RECREATE, ROLLING} else "green"
    for health in ("starting", "unhealthy"):
        new = replace(sick(X), health=health, traffic="drain", pool=pool, ever_ready=False)  # type: ignore[arg-type]
        old = () if strategy == RECREATE else (A, B)
        failure = plan(goal, replace(at(*old, new), last_progress_s=10.0 - quiet_s)).failure
        assert (failure is not None) is failed
        assert failure is None or failure.replica == "x"

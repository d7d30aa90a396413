"""The planner, on tables of snapshots and on simulated rollouts: no engine needed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fleet_world import World, at, roll, serving
from hypothesis import given
from hypothesis import strategies as st

from dockerlab.fleet.model import Replica, Snapshot
from dockerlab.fleet.plan import plan
from dockerlab.fleet.steps import Goal, Plan, Step
from dockerlab.fleet.strategies import Recreate, RollingUpdate, Strategy


def actions(result: Plan) -> list[tuple[str, str]]:
    return [(step.action, step.replica) for step in result.steps]


class TestScaling:
    def test_starts_what_is_missing(self) -> None:
        result = plan(Goal(3, 1), at(serving("a")))
        assert actions(result) == [("start", ""), ("start", "")]
        assert result.steps[0] == Step("start", "", 1, "1 of 3 replicas are there")

    def test_drains_what_is_too_many_those_that_serve_nobody_first(self) -> None:
        sick = replace(serving("sick"), health="unhealthy")
        result = plan(Goal(1, 1), at(serving("a"), sick))
        assert actions(result) == [("drain", "sick")]

    def test_is_done_when_all_serve(self) -> None:
        assert plan(Goal(2, 1), at(serving("a"), serving("b"))).done

    def test_is_not_done_while_one_still_starts(self) -> None:
        result = plan(Goal(2, 1), at(serving("a"), Replica("b", 1)))
        assert not result.done
        assert result.waiting_for == "1 of 2 to become ready"

    def test_leaves_other_revisions_alone(self) -> None:
        assert plan(Goal(2, 2), at(serving("old", 1), serving("new", 2))).done

    def test_admits_a_replica_when_its_check_passes_and_not_before(self) -> None:
        ready = Replica("a", 1, health="healthy", traffic="drain")
        assert actions(plan(Goal(1, 1), at(ready))) == [("admit", "a")]
        assert actions(plan(Goal(1, 1), at(replace(ready, health="starting")))) == []

    def test_takes_no_step_on_a_replica_that_is_busy(self) -> None:
        busy = replace(serving("a"), leaving=True, busy=True)
        assert actions(plan(Goal(0, 1), at(busy))) == []


class TestLeaving:
    leaving = replace(serving("a"), leaving=True, traffic="drain", drained_since_s=10.0)

    def test_waits_for_requests_in_flight(self) -> None:
        assert actions(plan(Goal(0, 1), at(replace(self.leaving, sessions=1), now_s=11.0))) == []

    def test_goes_when_none_is_in_flight(self) -> None:
        result = plan(Goal(0, 1), at(self.leaving, now_s=11.0))
        assert result.steps == (Step("remove", "a", 1, "no request is in flight"),)

    def test_goes_when_the_grace_period_is_over(self) -> None:
        result = plan(Goal(0, 1, grace_s=5), at(replace(self.leaving, sessions=1), now_s=15.0))
        assert result.steps == (Step("remove", "a", 1, "the grace period is over"),)

    def test_a_dead_replica_is_removed_and_replaced(self) -> None:
        dead = replace(serving("a"), state="exited")
        assert actions(plan(Goal(1, 1), at(dead))) == [("remove", "a"), ("start", "")]


class TestFailure:
    def test_a_replica_that_exits_before_it_served(self) -> None:
        result = plan(Goal(1, 1), at(Replica("a", 1, state="exited", exit_code=3)))
        assert result.failure is not None
        assert result.failure.replica == "a"
        assert "exit code 3" in result.failure.reason

    def test_one_of_another_revision_does_not_count(self) -> None:
        goal = Goal(1, 2, RollingUpdate())
        assert plan(goal, at(Replica("a", 1, state="exited", exit_code=3))).failure is None

    @pytest.mark.parametrize(("quiet_s", "failed"), [(29.0, False), (31.0, True)])
    def test_the_progress_deadline(self, quiet_s: float, failed: bool) -> None:
        snapshot = Snapshot((Replica("a", 1),), now_s=100.0, last_progress_s=100.0 - quiet_s)
        result = plan(Goal(1, 1, progress_deadline_s=30), snapshot)
        assert (result.failure is not None) is failed


class TestRollingUpdate:
    def test_surges_first_where_none_may_be_missing(self) -> None:
        goal = Goal(2, 2, RollingUpdate(max_surge=1, max_unavailable=0))
        assert actions(plan(goal, at(serving("a"), serving("b")))) == [("start", "")]

    def test_drains_first_where_no_surge_is_allowed(self) -> None:
        goal = Goal(2, 2, RollingUpdate(max_surge=0, max_unavailable=1))
        assert [action for action, _ in actions(plan(goal, at(serving("a"), serving("b"))))] == ["drain"]

    def test_old_replicas_that_serve_nobody_go_at_once(self) -> None:
        goal = Goal(2, 2, RollingUpdate(max_surge=1, max_unavailable=0))
        sick = replace(serving("sick"), health="unhealthy")
        assert ("drain", "sick") in actions(plan(goal, at(serving("a"), sick)))

    def test_a_new_replica_counts_after_min_ready(self) -> None:
        goal = Goal(1, 2, RollingUpdate(max_surge=1, max_unavailable=0, min_ready_s=5))
        young = replace(serving("new", 2), healthy_since_s=6.0)
        assert actions(plan(goal, at(serving("old"), young, now_s=10.0))) == []
        assert actions(plan(goal, at(serving("old"), young, now_s=11.0))) == [("drain", "old")]

    @pytest.mark.parametrize(
        ("surge", "unavailable", "replicas", "expected"),
        [
            ("25%", "25%", 10, (3, 2)),
            ("25%", "25%", 1, (1, 0)),
            ("0%", 0, 10, (0, 1)),
            (0, "9%", 10, (0, 1)),
            (2, 0, 10, (2, 0)),
            ("100%", "100%", 4, (4, 4)),
            (0, 50, 4, (0, 4)),
        ],
    )
    def test_bounds_are_those_of_kubernetes(
        self, surge: int | str, unavailable: int | str, replicas: int, expected: tuple[int, int]
    ) -> None:
        assert RollingUpdate(max_surge=surge, max_unavailable=unavailable).bounds(replicas) == expected

    @pytest.mark.parametrize("value", [-1, "25", "x%", "-5%", 1.5, None, True])
    def test_refuses_what_is_neither_count_nor_percentage(self, value: object) -> None:
        with pytest.raises(ValueError, match="max_surge"):
            RollingUpdate(max_surge=value)  # type: ignore[arg-type]


class TestRecreate:
    def test_every_old_replica_goes_before_a_new_one_starts(self) -> None:
        goal = Goal(2, 2, Recreate())
        assert [action for action, _ in actions(plan(goal, at(serving("a"), serving("b"))))] == ["drain", "drain"]
        leaving = replace(serving("a"), leaving=True, traffic="drain", sessions=1, drained_since_s=10.0)
        assert actions(plan(goal, at(leaving))) == []
        assert actions(plan(goal, at())) == [("start", ""), ("start", "")]


@st.composite
def rollouts(draw: st.DrawFn) -> tuple[int, RollingUpdate]:
    amount = st.one_of(st.integers(0, 20), st.integers(0, 120).map(lambda n: f"{n}%"))
    return draw(st.integers(1, 50)), RollingUpdate(max_surge=draw(amount), max_unavailable=draw(amount))


@given(rollouts(), st.lists(st.integers(0, 99), min_size=1, max_size=20))
def test_a_rolling_update_keeps_both_bounds_at_every_step(rollout: tuple[int, RollingUpdate], picks: list[int]) -> None:
    replicas, strategy = rollout
    surge, unavailable = strategy.bounds(replicas)

    def check(snapshot: Snapshot) -> None:
        staying = [r for r in snapshot.replicas if not r.leaving]
        assert len(staying) <= replicas + surge
        assert sum(r.available(snapshot.now_s) for r in staying) >= replicas - unavailable

    world = World(replicas)
    roll(world, Goal(replicas, 2, strategy), picks, check)
    assert [r.revision for r in world.replicas.values()] == [2] * replicas


@given(st.integers(1, 50), st.integers(0, 30), st.sampled_from([Recreate(), RollingUpdate(), None]))
def test_a_plan_ends_from_any_half_done_state(replicas: int, ticks: int, strategy: Strategy | None) -> None:
    world = World(replicas)
    first = Goal(replicas, 2, RollingUpdate())
    for tick in range(ticks):
        for step in plan(first, world.snapshot()).steps:
            world.do(step)
        world.happen(tick)
    roll(world, Goal(replicas, 1, strategy), [0])
    assert len(world.replicas) == replicas
    if strategy:
        assert {r.revision for r in world.replicas.values()} == {1}


def test_replicas_that_serve_and_exit_again_and_again_are_a_failure() -> None:
    exits = [plan(Goal(2, 1), replace(at(serving("a")), exits=number)).failure for number in (4, 5)]
    assert exits[0] is None
    assert exits[1] is not None


def test_a_ready_time_that_no_deadline_allows_is_refused() -> None:
    with pytest.raises(ValueError, match="is not below"):
        RollingUpdate(min_ready_s=60, progress_deadline_s=60)

"""BlueGreen and Canary, on tables of snapshots and on simulated rollouts: no engine needed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fleet_world import TICK_S, World, at, roll, serving
from hypothesis import given, settings
from hypothesis import strategies as st

from dockerlab.errors import BadInputError
from dockerlab.fleet.analysis import Analysis, Measured
from dockerlab.fleet.model import Position, Replica, Snapshot
from dockerlab.fleet.plan import plan
from dockerlab.fleet.steps import Goal, Plan
from dockerlab.fleet.strategies import (
    BlueGreen,
    Canary,
    Pause,
    Recreate,
    RollingUpdate,
    SetWeight,
    Strategy,
    strategy_from_json,
    strategy_to_json,
    way_back,
)

OLD = (serving("a"), serving("b"))
NEW = (serving("x", 2, "green"), serving("y", 2, "green"))


def short(result: Plan) -> list[tuple[str, str, int]]:
    return [(step.action, step.pool, step.percent) for step in result.steps]


def with_weight(snapshot: Snapshot, green: int, **changes: Any) -> Snapshot:
    return replace(snapshot, green=green, **changes)


class TestBlueGreen:
    goal = Goal(2, 2, BlueGreen(scale_down_delay_s=5), stable=1)

    def test_starts_the_new_revision_whole_in_the_idle_pool(self) -> None:
        result = plan(self.goal, at(*OLD))
        assert short(result) == [("start", "green", 0)] * 2
        assert {step.revision for step in result.steps} == {2}

    def test_switches_when_all_are_available_and_not_before(self) -> None:
        one = replace(NEW[1], traffic="drain")
        assert short(plan(self.goal, at(*OLD, NEW[0], one))) == [("admit", "green", 0)]
        assert short(plan(self.goal, at(*OLD, *NEW))) == [("weight", "green", 100)]

    def test_keeps_the_old_ones_for_the_delay(self) -> None:
        switched = with_weight(at(*OLD, *NEW), 100, position=Position(0, since_s=6.0))
        result = plan(self.goal, switched)
        assert (result.steps, result.done) == ((), False)
        assert "1.0 s in which to switch back" in result.waiting_for
        later = replace(switched, now_s=11.0, last_progress_s=11.0)
        assert [step.replica for step in plan(self.goal, later).steps] == ["a", "b"]

    def test_waits_for_a_person_where_it_is_told_to(self) -> None:
        goal = replace(self.goal, strategy=BlueGreen(auto_promote=False))
        assert plan(goal, at(*OLD, *NEW)).paused
        promoted = replace(at(*OLD, *NEW), position=Position(promoted=True))
        assert short(plan(goal, promoted)) == [("weight", "green", 100)]

    def test_waits_before_it_promotes_by_itself(self) -> None:
        goal = replace(self.goal, strategy=BlueGreen(auto_promotion_s=30))
        result = plan(goal, at(*OLD, *NEW, now_s=10.0))
        assert (result.steps, result.paused) == ((), False)
        assert short(plan(goal, at(*OLD, *NEW, now_s=31.0))) == [("weight", "green", 100)]

    def test_a_wait_on_purpose_is_no_missed_deadline(self) -> None:
        goal = replace(self.goal, progress_deadline_s=1.0)
        quiet = replace(at(*OLD, *NEW, now_s=9.0), green=100, position=Position(0, 5.0), last_progress_s=5.0)
        assert plan(goal, quiet).failure is None
        waiting = replace(at(*OLD, Replica("x", 2, pool="green"), now_s=9.0), last_progress_s=5.0)
        assert plan(goal, waiting).failure is not None

    def test_replaces_an_old_one_that_ends_meanwhile(self) -> None:
        dead = replace(OLD[1], state="exited", exit_code=1)
        result = plan(self.goal, at(OLD[0], dead, *NEW))
        assert ("start", "blue", 0) in short(result)
        assert ("weight", "green", 100) not in short(result)

    def test_looks_at_the_requests_after_the_switch(self) -> None:
        strategy = BlueGreen(scale_down_delay_s=0, analysis=Analysis(5, max_lost=0.1))
        goal = replace(self.goal, strategy=strategy)
        switched = with_weight(at(*OLD, *NEW), 100, position=Position(0, since_s=8.0))
        bad = replace(switched, measured={"green": Measured(30, 10)})
        failure = plan(goal, bad).failure
        assert failure is not None
        assert failure.reason == "10 of 30 requests to the new revision were lost."
        assert "analysis" in plan(goal, replace(switched, measured={"green": Measured(30, 0)})).waiting_for

    def test_the_other_colour_next_time(self) -> None:
        third = Goal(2, 3, BlueGreen(), stable=2)
        assert short(plan(third, with_weight(at(*NEW), 100))) == [("start", "blue", 0)] * 2

    def test_another_revision_is_cleared_out_of_the_pool_first(self) -> None:
        third = Goal(2, 3, BlueGreen(), stable=1)
        canary = with_weight(at(*OLD, NEW[0]), 20)
        assert ("weight", "green", 0) in short(plan(third, canary))
        assert ("drain", "green", 0) in short(plan(third, at(*OLD, NEW[0])))


class TestCanary:
    strategy = Canary([SetWeight(10), Pause(), SetWeight(50), Pause(3), Analysis(5)])
    goal = Goal(2, 2, strategy, stable=1)

    def test_starts_its_share_one_at_the_least(self) -> None:
        assert short(plan(self.goal, at(*OLD))) == [("start", "green", 0)]
        assert [SetWeight(20).replicas(n) for n in (1, 5, 10, 11)] == [1, 1, 2, 3]

    def test_gets_requests_when_it_is_available(self) -> None:
        assert short(plan(self.goal, at(*OLD, NEW[0]))) == [("weight", "green", 10)]
        assert short(plan(self.goal, with_weight(at(*OLD, NEW[0]), 10))) == [("advance", "green", 0)]

    def test_a_pause_without_an_end_waits_for_a_person(self) -> None:
        there = with_weight(at(*OLD, NEW[0]), 10, position=Position(1))
        assert plan(self.goal, there).paused
        promoted = replace(there, position=Position(1, promoted=True))
        assert short(plan(self.goal, promoted)) == [("advance", "green", 0)]

    def test_a_pause_with_an_end(self) -> None:
        there = with_weight(at(*OLD, NEW[0]), 50, position=Position(3, since_s=8.0))
        assert "1.0 s" in plan(self.goal, there).waiting_for
        later = replace(there, position=Position(3, since_s=7.0))
        assert short(plan(self.goal, later)) == [("advance", "green", 0)]

    @pytest.mark.parametrize(
        ("measured", "since_s", "outcome"),
        [
            (Measured(100, 0), 5.0, "advance"),
            (Measured(100, 1), 5.0, "advance"),
            (Measured(100, 2), 5.0, "failure"),
            (Measured(20, 1), 8.0, "failure"),
            (Measured(19, 19), 8.0, "wait"),
            (Measured(5, 0), 5.0, "pause"),
            (Measured(100, 0), 6.0, "wait"),
        ],
    )
    def test_an_analysis(self, measured: Measured, since_s: float, outcome: str) -> None:
        there = with_weight(at(*OLD, NEW[0]), 50, position=Position(4, since_s=since_s), measured={"green": measured})
        result = plan(self.goal, there)
        got = "failure" if result.failure else "pause" if result.paused else "advance" if result.steps else "wait"
        assert got == outcome

    def test_takes_over_after_the_last_step(self) -> None:
        there = with_weight(at(*OLD, NEW[0]), 50, position=Position(5))
        assert short(plan(self.goal, there)) == [("start", "green", 0)]
        whole = with_weight(at(*OLD, *NEW), 50, position=Position(5))
        assert short(plan(self.goal, whole)) == [("weight", "green", 100)]
        assert [s.replica for s in plan(self.goal, replace(whole, green=100)).steps] == ["a", "b"]
        assert plan(self.goal, with_weight(at(*NEW), 100, position=Position(5))).done

    def test_has_nothing_to_do_where_no_other_revision_is(self) -> None:
        assert plan(self.goal, with_weight(at(*NEW), 100)).done

    def test_going_back_is_a_switch(self) -> None:
        back = Goal(2, 1, way_back(self.strategy))
        assert short(plan(back, with_weight(at(*OLD, NEW[0]), 10))) == [("weight", "blue", 100)]
        assert [s.replica for s in plan(back, at(*OLD, NEW[0])).steps] == ["x"]
        assert plan(back, at(*OLD)).done

    @pytest.mark.parametrize(
        "wrong",
        [
            lambda: SetWeight(101),
            lambda: SetWeight(True),
            lambda: Pause(-1),
            lambda: Analysis(0),
            lambda: Analysis(max_lost=2),
            lambda: Analysis(min_requests=0),
            lambda: Analysis(max_latency_s=0),
            lambda: Canary(["a"]),  # type: ignore[list-item]
            lambda: Canary([Analysis()]),
            lambda: Canary([], progress_deadline_s=0),
            lambda: BlueGreen(scale_down_delay_s=-1),
            lambda: BlueGreen(auto_promotion_s=float("nan")),
        ],
    )
    def test_refuses_what_makes_no_sense(self, wrong: Any) -> None:
        with pytest.raises(BadInputError):
            wrong()

    def test_judges_latency_too(self) -> None:
        analysis = Analysis(5, max_latency_s=0.2)
        assert analysis.judge(Measured(30, 0, 0.3), 1.0).phase == "Failed"
        assert analysis.judge(Measured(30, 0, 0.1), 6.0).phase == "Successful"


STRATEGIES: list[Strategy] = [
    Recreate(),
    RollingUpdate(max_surge=2, max_unavailable=0),
    BlueGreen(scale_down_delay_s=1, analysis=Analysis(2)),
    Canary([SetWeight(10), Pause(0.5), SetWeight(60), Analysis(1)]),
]


@pytest.mark.parametrize("strategy", [*STRATEGIES, Canary(), BlueGreen(auto_promote=False)])
def test_a_strategy_is_kept_as_json(strategy: Strategy) -> None:
    assert strategy_from_json(strategy_to_json(strategy)) == strategy


canaries = st.lists(
    st.one_of(st.integers(1, 100).map(SetWeight), st.sampled_from([Pause(0.3), Analysis(0.3, min_requests=1)])),
    max_size=5,
).map(lambda steps: Canary([SetWeight(5), *steps]))
apart = st.one_of(canaries, st.builds(BlueGreen, scale_down_delay_s=st.sampled_from([0.0, 0.5])))
picks = st.lists(st.integers(0, 99), min_size=1, max_size=20)


@given(st.integers(1, 50), apart, picks)
def test_the_service_stays_whole_at_every_step(replicas: int, strategy: BlueGreen | Canary, order: list[int]) -> None:
    world = World(replicas)

    def check(snapshot: Snapshot) -> None:
        staying = [r for r in snapshot.replicas if not r.leaving]
        assert len(staying) <= 2 * replicas
        ready = {
            pool: sum(r.pool == pool and r.available(snapshot.now_s) for r in staying) for pool in ("blue", "green")
        }
        # Who gets requests has the replicas for them, and who may get all again is whole.
        assert ready["green"] >= SetWeight(snapshot.green).replicas(replicas)
        if snapshot.green < 100:
            assert ready["blue"] == replicas

    result = roll(world, Goal(replicas, 2, strategy, stable=1), order, check, lambda _: world.serve())
    assert result.done
    assert (world.green, [r.revision for r in world.replicas.values()]) == (100, [2] * replicas)


@given(st.integers(1, 12), apart, picks, st.sets(st.integers(0, 60), max_size=3))
def test_what_ends_meanwhile_is_replaced(
    replicas: int, strategy: BlueGreen | Canary, order: list[int], when: set[int]
) -> None:
    world = World(replicas)

    def tick(number: int) -> None:
        world.serve()
        if number in when:
            world.kill(order[0])

    result = roll(world, Goal(replicas, 2, strategy, stable=1), order, tick=tick)
    assert result.done
    assert [r.revision for r in world.replicas.values()] == [2] * replicas


@given(st.integers(1, 20), canaries, picks, st.integers(0, 40))
def test_a_bad_canary_never_gets_more_than_its_share_and_none_after_it_failed(
    replicas: int, strategy: Canary, order: list[int], good_ticks: int
) -> None:
    strategy = Canary([*strategy.steps, Analysis(0.5, min_requests=1)])
    world = World(replicas)
    largest = max(step.percent for step in strategy.steps if isinstance(step, SetWeight))

    def check(snapshot: Snapshot) -> None:
        if snapshot.position.step < len(strategy.steps):
            assert snapshot.green <= largest

    result = roll(
        world,
        Goal(replicas, 2, strategy, stable=1),
        order,
        check,
        lambda n: world.serve(5, 5 if n >= good_ticks else 0),
    )
    if result.failure is None:  # it was good until the end
        assert result.done
        return
    back = roll(world, Goal(replicas, 1, way_back(strategy)), order)
    assert back.done
    assert (world.green, world.revisions(), len(world.replicas)) == (0, {1}, replicas)


@settings(max_examples=150)
@given(
    st.integers(1, 12),
    st.lists(st.tuples(st.sampled_from([*STRATEGIES, None]), st.integers(1, 3), st.integers(0, 25)), max_size=4),
    st.sampled_from(STRATEGIES),
    picks,
)
def test_a_plan_ends_from_whatever_other_rollouts_left(
    replicas: int, earlier: list[tuple[Strategy | None, int, int]], last: Strategy, order: list[int]
) -> None:
    world = World(replicas)
    for strategy, revision, ticks in earlier:
        world.position = Position(0, world.now_s)
        for tick in range(ticks):
            for step in plan(Goal(replicas, revision, strategy), world.snapshot()).steps:
                world.do(step)
            world.serve()
            world.happen(order[tick % len(order)])
            world.now_s += TICK_S
    world.position = Position(0, world.now_s)
    result = roll(world, Goal(replicas, 4, last), order, tick=lambda _: world.serve())
    assert result.done
    assert (world.revisions(), len(world.replicas)) == ({4}, replicas)
    assert world.green in (0, 100)
    assert {r.pool for r in world.replicas.values()} == {"green" if world.green else "blue"}

"""What every strategy keeps at every step, whatever fails on the way: no engine needed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import pytest
from fleet_world import TICK_S, RoughWorld
from hypothesis import given, settings
from hypothesis import strategies as st

from dockerlab.fleet.analysis import Analysis
from dockerlab.fleet.model import Replica
from dockerlab.fleet.plan import plan
from dockerlab.fleet.steps import Goal, Plan, Step
from dockerlab.fleet.strategies import BlueGreen, Canary, Pause, Recreate, RollingUpdate, SetWeight, Strategy, way_back
from dockerlab.fleet.view import other

LOOKS = 4000
Trouble = tuple[int, str, int]
"""After which look, what (a method of RoughWorld), and to whom."""

amounts = st.one_of(st.integers(0, 60), st.integers(0, 120).map(lambda n: f"{n}%"))
seconds = st.sampled_from([0.0, 0.0, 0.5])
analyses = st.builds(Analysis, duration_s=st.just(0.5), min_requests=st.sampled_from([1, 50, 1000]))
canary_steps = st.one_of(st.integers(1, 100).map(SetWeight), st.sampled_from([Pause(), Pause(0.3)]), analyses)
STRATEGIES: dict[str, st.SearchStrategy[Strategy]] = {
    "Recreate": st.just(Recreate()),
    "RollingUpdate": st.builds(RollingUpdate, max_surge=amounts, max_unavailable=amounts, min_ready_s=seconds),
    "BlueGreen": st.builds(
        BlueGreen,
        auto_promote=st.booleans(),
        auto_promotion_s=seconds,
        scale_down_delay_s=seconds,
        analysis=st.one_of(st.none(), analyses),
        min_ready_s=seconds,
    ),
    "Canary": st.builds(
        lambda first, rest, ready_s: Canary([SetWeight(first), *rest], min_ready_s=ready_s),
        st.integers(1, 100),
        st.lists(canary_steps, max_size=4),
        seconds,
    ),
}
counts = st.one_of(st.integers(1, 5), st.integers(1, 50))
picks = st.lists(st.integers(0, 99), min_size=1, max_size=10)
loses_from = st.one_of(st.just(LOOKS), st.integers(0, 60))


def troubles(most: int, *kinds: str) -> st.SearchStrategy[list[Trouble]]:
    when = st.one_of(st.integers(0, 20), st.integers(0, 200))
    return st.lists(st.tuples(when, st.sampled_from(kinds), st.integers(0, 99)), max_size=most)


CUT_OFF = ("killed", "stopped", "router_restarts", "clings")
any_trouble = troubles(6, "dies", "sickens", "sickens_for_good", "never_passes", "never_runs", *CUT_OFF)
interruptions = troubles(3, *CUT_OFF)


class Watch:
    """Looks at every step, just before and just after it is taken."""

    def __init__(self, world: RoughWorld, goal: Goal) -> None:
        self.world, self.goal = world, goal

    def before(self, step: Step) -> None:
        self.was: list[Replica] = self.world.staying()

    def after(self, step: Step) -> None:
        if step.action == "start":
            same = [r for r in self.world.staying() if (r.revision, r.pool) == (step.revision, step.pool)]
            assert len(same) <= self.goal.replicas
        if step.action == "drain" and step.revision == self.goal.revision and self.served(step):
            assert self.world.ready(step.revision) >= self.wanted()

    def wanted(self) -> int:
        return self.goal.replicas

    def served(self, step: Step) -> bool:
        return any(r.name == step.replica and r.available(self.world.now_s) for r in self.was)


class WatchRecreate(Watch):
    """Two revisions never serve at once, nor are they there at once."""

    def after(self, step: Step) -> None:
        super().after(step)
        assert step.action in {"start", "admit", "drain", "remove"}
        if step.action == "start":
            assert {r.revision for r in self.world.replicas.values()} == {self.goal.revision}
        assert len({r.revision for r in self.world.replicas.values() if r.available(self.world.now_s)}) < 2


class WatchRolling(Watch):
    """Both bounds are kept: a failure may break them, a step may not."""

    def after(self, step: Step) -> None:
        super().after(step)
        assert isinstance(self.goal.strategy, RollingUpdate)
        assert step.action in {"start", "admit", "drain", "remove"}
        surge, unavailable = self.goal.strategy.bounds(self.goal.replicas)
        staying = self.world.staying()
        if step.action == "start":
            assert len(staying) <= self.goal.replicas + surge
        elif step.action == "drain":
            gone = next(r for r in self.was if r.name == step.replica)
            floor = self.goal.replicas - unavailable
            serving = sum(map(self.serves, staying))
            if self.serves(gone):
                assert serving >= floor
                assert not any(r.health == "unhealthy" and r.revision == gone.revision for r in staying)
            elif gone.health == "starting" and gone.name in self.world.sound:
                # A new router has checked nobody yet. All old ones may be as sound as this one.
                waiting = sum(r.health == "starting" and r.revision == gone.revision for r in staying)
                assert serving + waiting >= floor

    def serves(self, replica: Replica) -> bool:
        assert self.goal.strategy
        young_s = self.goal.strategy.min_ready_s if replica.revision == self.goal.revision else 0.0
        return replica.available(self.world.now_s, young_s)


class WatchApart(Watch):
    """Requests go where they can be borne, no more than the step allows, and the way back stays open."""

    alone = False  # all of the old revision have ended: there is nobody to share with

    def before(self, step: Step) -> None:
        super().before(step)
        self.weights = {"green": self.world.green, "blue": 100 - self.world.green}
        self.promoted = self.world.position.promoted
        self.alone = self.alone or all(r.revision == self.goal.revision for r in self.was)

    def after(self, step: Step) -> None:
        super().after(step)
        if step.action == "weight":
            self.judge_weight(step)
        elif step.action == "advance":
            self.judge_way_back(step)
        elif step.action == "drain":
            pool = next(r.pool for r in self.was if r.name == step.replica)
            if self.served(step):
                assert self.world.ready(pool=pool) >= self.needed(self.weights[pool])
            if step.revision != self.goal.revision:
                assert self.weights[pool] == 0
                assert self.world.ready(self.goal.revision, other(pool)) >= self.goal.replicas

    def share(self) -> int:
        """Give the share that the new revision may have now."""
        strategy, at = self.goal.strategy, self.world.position.step
        if not isinstance(strategy, Canary) or at >= len(strategy.steps) or self.alone:
            return 100
        return [one.percent for one in strategy.steps[: at + 1] if isinstance(one, SetWeight)][-1]

    def wanted(self) -> int:
        return self.needed(self.share())

    def needed(self, percent: int) -> int:
        return (self.goal.replicas * percent + 99) // 100

    def judge_weight(self, step: Step) -> None:
        strategy = self.goal.strategy
        assert isinstance(strategy, BlueGreen | Canary)
        assert step.percent == self.share()
        if isinstance(strategy, BlueGreen) and not strategy.auto_promote:
            assert self.promoted or self.alone
        if step.percent > self.weights[step.pool]:
            ready = self.world.ready(self.goal.revision, step.pool, strategy.min_ready_s)
            assert ready >= self.needed(step.percent)
            assert {r.revision for r in self.was if r.pool == step.pool} <= {self.goal.revision}
            self.judge_way_back(step)

    def judge_way_back(self, step: Step) -> None:
        if self.goal.stable and self.weights[other(step.pool)] > 0 and not self.alone:
            assert sum(r.revision == self.goal.stable for r in self.was) == self.goal.replicas


WATCHES = {Recreate: WatchRecreate, RollingUpdate: WatchRolling, BlueGreen: WatchApart, Canary: WatchApart}


def roll(world: RoughWorld, goal: Goal, order: Sequence[int], wrong: list[Trouble], loses_from: int = LOOKS) -> Plan:
    """Run the plan until it is done or has failed, and say "promote" wherever it pauses."""
    watch = WATCHES[type(goal.strategy)](world, goal)  # type: ignore[index]
    due = defaultdict(list)
    for look, what, whom in wrong:
        due[look].append((what, whom))
    for look in range(LOOKS):
        result = plan(goal, world.snapshot())
        if result.done or result.failure:
            return result
        if result.paused:
            world.position = replace(world.position, promoted=True)
        concerned = [step.replica for step in result.steps if step.replica]
        assert len(concerned) == len(set(concerned)), "two steps on one replica at once"
        for step in result.steps:
            watch.before(step)
            world.do(step)
            watch.after(step)
        for what, whom in due[look]:
            getattr(world, what)(whom)
        world.serve(10, lost=1 if look >= loses_from else 0)
        world.happen(order[look % len(order)])
        world.now_s += TICK_S
    raise AssertionError("it does not end")


def whole(world: RoughWorld, revision: int, count: int) -> bool:
    """Tell whether so many replicas of a revision serve every request, and nothing else is there."""
    pool = "green" if world.green else "blue"
    return len(world.replicas) == count == world.ready(revision, pool) and world.green in (0, 100)


@pytest.mark.parametrize(
    "often",
    [
        # What runs with every change must not fail by chance.
        pytest.param(settings(max_examples=150, derandomize=True), id="few"),
        pytest.param(settings(max_examples=20_000), marks=[pytest.mark.nightly, pytest.mark.timeout(3600)], id="many"),
    ],
)
@pytest.mark.parametrize("name", STRATEGIES)
def test_every_step_keeps_the_bounds_and_the_end_is_whole_whatever_fails(name: str, often: settings) -> None:
    @often
    @given(counts, STRATEGIES[name], picks, any_trouble, interruptions, loses_from)
    def check(count: int, strategy: Strategy, order: list[int], wrong: list[Trouble], later: list[Trouble], loses: int):
        world = RoughWorld(count)
        goal = Goal(count, 2, strategy, progress_deadline_s=4, grace_s=1, stable=1)
        if roll(world, goal, order, wrong, loses).done:
            assert whole(world, 2, count)
            return
        assert world.excused or loses < LOOKS
        world.get_well(1)
        back = replace(goal, revision=1, strategy=way_back(strategy), stable=0)
        result = roll(world, back, order, later)
        assert result.done, result.failure
        assert whole(world, 1, count)

    check()

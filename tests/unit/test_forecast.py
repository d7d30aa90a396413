"""What a rollout would do, worked out without an engine: the same steps that the rollout takes."""

from __future__ import annotations

from collections import Counter

import pytest
from fleet_world import World, at, roll, serving
from hypothesis import given
from hypothesis import strategies as st

from dockerlab.fleet.forecast import Forecast, forecast
from dockerlab.fleet.model import Snapshot
from dockerlab.fleet.steps import Goal, Step
from dockerlab.fleet.strategies import Analysis, BlueGreen, Canary, Pause, Recreate, RollingUpdate, SetWeight, Strategy


def foreseen(goal: Goal, snapshot: Snapshot) -> Forecast:
    def commands(step: Step) -> tuple[str, ...]:
        return (f"{step.action} {step.replica}",)

    return forecast(goal, snapshot, title="web to revision 2", name=lambda number: f"new{number}", commands=commands)


def test_the_stages_of_a_rolling_update() -> None:
    result = foreseen(Goal(2, 2, RollingUpdate(max_surge=1, max_unavailable=0)), at(serving("a"), serving("b")))
    assert [[f"{step.action} {step.replica}" for step in stage.steps] for stage in result.stages] == [
        ["start new1"],
        ["admit new1"],
        ["drain a"],
        ["start new2"],
        ["remove a", "admit new2"],
        ["drain b"],
        ["remove b"],
    ]
    assert (result.most, result.fewest_serving, result.ends) == (3, 2, "Complete")
    assert all(step.cause for step in result.steps)
    assert len(result.commands) == len(result.steps)


def test_a_canary_without_an_end_of_its_pause_ends_there() -> None:
    result = foreseen(Goal(4, 2, Canary([SetWeight(25), Pause()]), stable=1), at(*(serving(n) for n in "abcd")))
    assert (result.ends, result.stages[-1].weight) == ("Paused", 25)
    assert Counter(step.action for step in result.steps) == {"start": 1, "admit": 1, "weight": 1, "advance": 1}
    assert "25 % of the requests to green" in str(result)


def test_nothing_to_do() -> None:
    result = foreseen(Goal(1, 2, RollingUpdate()), at(serving("a", 2)))
    assert (result.steps, str(result)) == ((), "web to revision 2: nothing to do")
    assert "<table>" not in result._repr_html_()


def test_what_is_shown_is_escaped_and_cut() -> None:
    many = Goal(150, 2, Recreate())
    shown = foreseen(many, at(*(serving(f"<{n}>") for n in range(150))))._repr_html_()
    assert "<0>" not in shown
    assert shown.count("<tr") == 201
    assert "more." in shown


strategies: st.SearchStrategy[Strategy] = st.sampled_from(
    [
        Recreate(),
        RollingUpdate(),
        RollingUpdate(max_surge=3, max_unavailable=0),
        BlueGreen(analysis=Analysis(6)),
        Canary([SetWeight(10), Pause(6), SetWeight(50), Analysis(6)]),
    ]
)


@given(st.integers(0, 30), strategies)
def test_it_counts_what_the_rollout_does(replicas: int, strategy: Strategy) -> None:
    world, goal = World(replicas), Goal(replicas, 2, strategy, stable=1)
    result = foreseen(goal, world.snapshot())
    done: Counter[str] = Counter()
    do = world.do

    def noted(step: Step) -> None:
        done[step.action] += 1
        do(step)

    world.do = noted  # type: ignore[method-assign]
    assert roll(world, goal, [0], tick=lambda _: world.serve(50)).done
    assert result.ends == "Complete"
    assert Counter(step.action for step in result.steps) == done


@pytest.mark.parametrize("strategy", [RollingUpdate(), BlueGreen(), Canary(), Recreate()])
def test_a_thousand_replicas(strategy: Strategy) -> None:
    result = foreseen(Goal(1000, 2, strategy, stable=1), at(*(serving(f"a{n}") for n in range(1000))))
    assert result.ends == "Complete"
    assert Counter(step.action for step in result.steps)["start"] == 1000

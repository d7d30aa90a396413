"""Replicas that are to be replaced by others of the same revision, and those that are borne."""

from __future__ import annotations

from dataclasses import replace

from fleet_world import at, serving
from test_plan import actions

from dockerlab.fleet.model import Replica, Snapshot
from dockerlab.fleet.plan import plan
from dockerlab.fleet.steps import Goal
from dockerlab.fleet.strategies import Canary, RollingUpdate, way_back

UNWANTED = frozenset({"a"})


def test_the_only_one_goes_when_the_new_one_serves() -> None:
    goal = Goal(1, 1, RollingUpdate(), unwanted=UNWANTED)
    assert actions(plan(goal, at(serving("a")))) == [("start", "")]
    assert actions(plan(goal, at(serving("a"), Replica("b", 1)))) == []
    assert actions(plan(goal, at(serving("a"), serving("b")))) == [("drain", "a")]
    assert plan(goal, at(serving("b"))).done


def test_one_of_many_goes_at_once_where_enough_others_serve() -> None:
    goal = Goal(4, 1, RollingUpdate(), unwanted=UNWANTED)
    assert actions(plan(goal, at(*map(serving, "abcd")))) == [("start", ""), ("drain", "a")]


def test_one_that_serves_nobody_goes_at_once() -> None:
    sick = replace(serving("a"), health="unhealthy")
    goal = Goal(1, 1, RollingUpdate(), unwanted=UNWANTED)
    assert actions(plan(goal, at(sick))) == [("start", ""), ("drain", "a")]


def test_where_a_pool_is_only_scaled_it_goes_first() -> None:
    goal = Goal(1, 1, unwanted=UNWANTED)
    assert actions(plan(goal, at(serving("a")))) == [("drain", "a"), ("start", "")]


def test_a_pool_is_scaled_whichever_serves() -> None:
    canary = replace(serving("b", 2), pool="green")
    assert plan(Goal(1, 2, pool="green"), at(serving("a"), canary)).done
    assert [step.pool for step in plan(Goal(2, 2, pool="green"), at(serving("a"), canary)).steps] == ["green"]


def test_who_is_borne_is_not_blamed() -> None:
    borne = replace(serving("borne"), health="unhealthy")
    seen = Snapshot((borne, Replica("late", 1)), now_s=6.0, last_progress_s=0.0)
    late = plan(Goal(2, 1, progress_deadline_s=5, bear=True), seen)
    assert late.failure is not None
    assert late.failure.replica == "late"


def test_a_rolling_update_out_of_a_canary_begins_with_the_pool_that_bears_more() -> None:
    old = [replace(serving(f"old{number}", 1), pool="blue") for number in range(10)]
    canary = [replace(serving(f"new{number}", 2), pool="green") for number in range(6)]
    seen = replace(at(*old, *canary), green=60)
    steps = plan(Goal(10, 3, RollingUpdate()), seen).steps
    assert [(step.action, step.pool, step.percent) for step in steps if step.action == "weight"] == [
        ("weight", "blue", 100)
    ]
    drained = [step.pool for step in steps if step.action == "drain"]
    assert drained.count("blue") <= 2


def test_going_back_does_not_wait_for_a_replica_that_was_unhealthy_before() -> None:
    old = [replace(serving(name, 1), pool="blue") for name in "ab"]
    sick = replace(serving("sick", 1), pool="blue", health="unhealthy")
    seen = replace(at(*old, sick, replace(serving("new", 2), pool="green")), green=50)
    steps = plan(Goal(3, 1, way_back(Canary()), bear=True), seen).steps
    assert [(step.action, step.pool, step.percent) for step in steps] == [("weight", "blue", 100)]

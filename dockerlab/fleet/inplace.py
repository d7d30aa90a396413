"""Replacing within one pool of the router: Recreate and RollingUpdate. Pure."""

from __future__ import annotations

from dockerlab.fleet.model import Replica
from dockerlab.fleet.steps import Step
from dockerlab.fleet.strategies import RollingUpdate
from dockerlab.fleet.view import View, resize, send_off, start, weigh, worst_first


def merge(view: View) -> list[Step]:
    """Send every request to the pool that serves, where a rollout in two pools was left half done."""
    return [weigh(view, 100, "one pool is to serve alone")] if view.weight < 100 else []


def recreate(view: View) -> list[Step]:
    """Send every old replica off, then start the new ones."""
    if view.old:
        return send_off(view.old, "every old replica goes first")
    if any(r.revision != view.goal.revision for r in view.leaving):
        return []
    return resize(view, view.goal.replicas)


def rolling(view: View, strategy: RollingUpdate) -> list[Step]:
    """Start and send off as many as the bounds of surge and availability leave."""
    wanted = view.goal.replicas
    surge, unavailable = strategy.bounds(wanted)
    steps: list[Step] = []
    total = len(view.new) + len(view.old)
    room = min(wanted - len(view.new), wanted + surge - total)
    if room > 0:
        steps += start(view, room, f"{total} of at most {wanted + surge} replicas are there")
    if len(view.new) > wanted:
        surplus = worst_first(view.new)[: len(view.new) - wanted]
        steps += send_off(surplus, f"more than {wanted} replicas run the new revision")
    # Old replicas that serve nobody cost no availability. Of the rest, as many may go as the bound leaves. One that is
    # not checked yet or waits to be admitted is kept like one that serves: a new router or a new run finds all so.
    serving: list[Replica] = []
    idle: list[Replica] = []
    for replica in view.old:
        serves = replica.health != "unhealthy" and replica.pool == view.pool
        (serving if serves else idle).append(replica)
    floor = wanted - unavailable
    spare = max(0, len(view.available(view.new)) + len(serving) - floor)
    steps += send_off(idle, "it serves nobody")
    steps += send_off(worst_first(serving)[:spare], f"at least {floor} others are available")
    return steps

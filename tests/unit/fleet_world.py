"""A fleet that does what plans tell it, in an order that the test chooses: for the tests of the planner."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from dockerlab.fleet.analysis import Measured
from dockerlab.fleet.model import Pool, Position, Replica, Snapshot
from dockerlab.fleet.plan import plan
from dockerlab.fleet.steps import Goal, Plan, Step

TICK_S = 0.1


def serving(name: str, revision: int = 1, pool: Pool = "blue") -> Replica:
    """Give a replica that serves."""
    return Replica(name, revision, health="healthy", traffic="ready", pool=pool, healthy_since_s=0.0, ever_ready=True)


def at(*replicas: Replica, now_s: float = 10.0) -> Snapshot:
    """Give a snapshot of these."""
    return Snapshot(replicas, now_s=now_s, last_progress_s=now_s)


class World:
    """Replicas that start, become healthy, end their requests and break when the test says so."""

    def __init__(self, replicas: int) -> None:
        self.replicas = {f"old{i}": serving(f"old{i}") for i in range(replicas)}
        self.now_s = 10.0
        self.made = 0
        self.green = 0
        self.position = Position()
        self.measured: dict[Pool, Measured] = {}

    def snapshot(self) -> Snapshot:
        return Snapshot(
            tuple(self.replicas.values()),
            self.now_s,
            self.now_s,
            green=self.green,
            position=self.position,
            measured=dict(self.measured),
        )

    def do(self, step: Step) -> None:
        match step.action:
            case "start":
                self.made += 1
                name = f"new{self.made}"
                self.replicas[name] = Replica(name, step.revision, pool=step.pool)
            case "admit":
                self._change(step, traffic="ready", ever_ready=True, healthy_since_s=self.now_s)
            case "drain":
                self._change(step, traffic="drain", leaving=True, drained_since_s=self.now_s, sessions=1)
            case "weight":
                self.green = step.percent if step.pool == "green" else 100 - step.percent
                self.position = Position(self.position.step, self.now_s)
                self.measured.clear()
            case "advance":
                self.position = Position(self.position.step + 1, self.now_s)
                self.measured.clear()
            case "remove":
                del self.replicas[step.replica]

    def _change(self, step: Step, **changes: object) -> None:
        self.replicas[step.replica] = replace(self.replicas[step.replica], **changes)  # type: ignore[arg-type]

    def happen(self, pick: int) -> None:
        """Let something happen by itself: a check passes, a request ends."""
        waiting = [r for r in self.replicas.values() if r.health == "starting" or r.sessions]
        if waiting:
            replica = waiting[pick % len(waiting)]
            self.replicas[replica.name] = replace(replica, health="healthy", sessions=0)

    def serve(self, requests: int = 5, lost: int = 0) -> None:
        """Let each pool answer some requests."""
        for pool in ("blue", "green"):
            before = self.measured.get(pool, Measured())  # type: ignore[call-overload]
            self.measured[pool] = Measured(before.requests + requests, before.lost + lost)  # type: ignore[index]

    def kill(self, pick: int) -> None:
        """End a replica that has served."""
        running = [r for r in self.replicas.values() if r.state == "running" and r.ever_ready]
        if running:
            dead = running[pick % len(running)]
            self.replicas[dead.name] = replace(dead, state="exited", exit_code=137, health="unhealthy", sessions=0)

    def revisions(self) -> set[int]:
        return {replica.revision for replica in self.replicas.values()}


def roll(
    world: World,
    goal: Goal,
    picks: Sequence[int],
    check: Callable[[Snapshot], None] = lambda _: None,
    tick: Callable[[int], None] = lambda _: None,
) -> Plan:
    """Run the plan until it is done, paused or failed; ``check`` sees every state on the way."""
    for number in range(3000):
        check(world.snapshot())
        result = plan(goal, world.snapshot())
        if result.done or result.paused or result.failure:
            return result
        for step in result.steps:
            world.do(step)
            check(world.snapshot())
        tick(number)
        world.happen(picks[number % len(picks)])
        world.now_s += TICK_S
    raise AssertionError("the rollout does not end")

"""What a rollout would do, worked out before it is done: the planner's own steps where all goes well. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from html import escape

from dockerlab.fleet.analysis import Analysis, Measured
from dockerlab.fleet.model import Position, Replica, Snapshot
from dockerlab.fleet.plan import plan
from dockerlab.fleet.steps import Goal, Plan, Step
from dockerlab.fleet.strategies import BlueGreen, Canary

_ROWS_SHOWN = 200


@dataclass(frozen=True)
class Stage:
    """Steps that are taken side by side, and how the fleet is then.

    Parameters
    ----------
    steps : tuple of Step
    commands : tuple of tuple of str
        For each step, what a person would have typed: to Docker, and to the router.
    total, serving : int
        Replicas that are there, without those on their way out, and those that serve, once the steps are done.
    weight : int
        Percent of the requests that go to the new revision's pool.
    waits_for : str
        What had to happen before the next stage; empty where it followed at once.
    """

    steps: tuple[Step, ...]
    commands: tuple[tuple[str, ...], ...]
    total: int
    serving: int
    weight: int
    waits_for: str


@dataclass(frozen=True)
class Forecast:
    """All stages of a rollout that has not begun. Made by :meth:`dockerlab.Fleet.plan`; nothing has changed by it.

    Parameters
    ----------
    title : str
        What would be done.
    stages : tuple of Stage
    ends : {"Complete", "Paused", "RolledBack"}
        How it would end where every replica becomes healthy and no request is lost.
    """

    title: str
    stages: tuple[Stage, ...]
    ends: str

    @property
    def steps(self) -> tuple[Step, ...]:
        """All steps, in order."""
        return tuple(step for stage in self.stages for step in stage.steps)

    @property
    def commands(self) -> tuple[str, ...]:
        """All commands, in order."""
        return tuple(text for stage in self.stages for texts in stage.commands for text in texts)

    @property
    def most(self) -> int:
        """The largest number of replicas at one time."""
        return max((stage.total for stage in self.stages), default=0)

    @property
    def fewest_serving(self) -> int:
        """The smallest number of replicas that serve at one time."""
        return min((stage.serving for stage in self.stages), default=0)

    def __str__(self) -> str:
        lines = [self._head()]
        for number, stage in enumerate(self.stages, 1):
            lines.append(f"{number:>4}  {stage.total} replicas, {stage.serving} serve")
            lines += [f"        {_what(step):<34} because {step.cause}" for step in stage.steps]
            lines += [f"        then wait for {stage.waits_for}"] if stage.waits_for else []
        return "\n".join(lines)

    __repr__ = __str__

    def _head(self) -> str:
        if not self.steps:
            return f"{self.title}: nothing to do"
        counts = f"{len(self.steps)} steps in {len(self.stages)} stages"
        return f"{self.title}: {counts}, at most {self.most} replicas, at least {self.fewest_serving} serve"

    def _repr_html_(self) -> str:
        rows = []
        for number, stage in enumerate(self.stages, 1):
            for step, commands in zip(stage.steps, stage.commands, strict=True):
                typed = "<br>".join(f"<code>{escape(text)}</code>" for text in commands)
                cells = f"<td>{number}</td><td>{escape(_what(step))}</td><td>{escape(step.cause)}</td><td>{typed}</td>"
                rows.append(f'<tr style="text-align:left">{cells}</tr>')
        more = f"<p>... and {len(rows) - _ROWS_SHOWN} more.</p>" if len(rows) > _ROWS_SHOWN else ""
        heads = "".join(f"<th>{name}</th>" for name in ("stage", "step", "why", "what you would have typed"))
        body = "".join(rows[:_ROWS_SHOWN])
        table = f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>{more}" if rows else ""
        return f"<p>{escape(self._head())}</p>{table}"


def _what(step: Step) -> str:
    if step.action == "weight":
        return f"{step.percent} % of the requests to {step.pool}"
    return "next step" if step.action == "advance" else f"{step.action} {step.replica}"


def forecast(
    goal: Goal,
    snapshot: Snapshot,
    *,
    title: str,
    name: Callable[[int], str],
    commands: Callable[[Step], tuple[str, ...]],
) -> Forecast:
    """Follow the planner from `snapshot` to its end.

    Parameters
    ----------
    goal : Goal
    snapshot : Snapshot
    title : str
    name : callable
        Names the replica that is started as the n-th, counted from 1.
    commands : callable
        Gives what would be typed for a step.

    Returns
    -------
    Forecast
    """
    world = World(goal, snapshot, name)
    stages: list[Stage] = []
    for _, now in world.rounds():
        if now.steps:
            steps = tuple(world.take(step) for step in now.steps)
            texts = tuple(commands(step) for step in steps)
            stages.append(Stage(steps, texts, world.total, world.serving, world.weight, ""))
        elif now.done or now.paused or now.failure:
            ends = "Complete" if now.done else "Paused" if now.paused else "RolledBack"
        elif stages and not stages[-1].waits_for:
            stages[-1] = replace(stages[-1], waits_for=now.waiting_for)
    return Forecast(title, tuple(stages), ends)


class World:
    """Replicas that become healthy and end their requests as soon as nothing else is to be done.

    Parameters
    ----------
    goal : Goal
    snapshot : Snapshot
        How it is at first.
    name : callable
        Names the replica that is started as the n-th.
    """

    def __init__(self, goal: Goal, snapshot: Snapshot, name: Callable[[int], str]) -> None:
        self._goal = goal
        self._name = name
        self._made = 0
        self._replicas = {replica.name: replica for replica in snapshot.replicas}
        self._now_s = snapshot.now_s
        self._green = snapshot.green
        self._position = replace(snapshot.position, since_s=snapshot.now_s)
        self._wait_s = 1.0
        self.weight = 0

    @property
    def total(self) -> int:
        """Replicas without those on their way out."""
        return sum(not r.leaving and r.state == "running" for r in self._replicas.values())

    @property
    def serving(self) -> int:
        """Replicas that serve."""
        return sum(r.available(self._now_s) for r in self._replicas.values())

    def rounds(self) -> Iterator[tuple[Snapshot, Plan]]:
        """Ask the planner again and again; who iterates takes the steps. The last plan is done, paused or failed."""
        while True:
            snapshot = self.snapshot()
            now = plan(self._goal, snapshot)
            yield snapshot, now
            if now.done or now.paused or now.failure:
                return
            if not now.steps:
                self._wait()

    def snapshot(self) -> Snapshot:
        """Give how it is now."""
        analyses = [one for one in self._analyses() if one]
        good = Measured(max((one.min_requests for one in analyses), default=0))
        return Snapshot(
            tuple(self._replicas.values()),
            self._now_s,
            self._now_s,
            green=self._green,
            position=self._position,
            measured={"blue": good, "green": good},
        )

    def _analyses(self) -> list[Analysis | None]:
        strategy = self._goal.strategy
        if isinstance(strategy, BlueGreen):
            return [strategy.analysis]
        return [one for one in strategy.steps if isinstance(one, Analysis)] if isinstance(strategy, Canary) else []

    def take(self, step: Step) -> Step:
        """Do a step; gives it back with the name of what it made."""
        self._wait_s = 1.0
        match step.action:
            case "start":
                self._made += 1
                step = replace(step, replica=self._name(self._made))
                self._replicas[step.replica] = Replica(step.replica, step.revision, pool=step.pool)
            case "admit":
                self._change(step, traffic="ready", ever_ready=True)
            case "drain":
                self._change(step, traffic="drain", leaving=True, drained_since_s=self._now_s, sessions=1)
            case "remove":
                del self._replicas[step.replica]
            case "weight":
                self._green = step.green
                self._position = Position(self._position.step, self._now_s)
                self.weight = step.percent
            case "advance":
                self._position = Position(self._position.step + 1, self._now_s)
        return step

    def _change(self, step: Step, **changes: object) -> None:
        self._replicas[step.replica] = replace(self._replicas[step.replica], **changes)  # type: ignore[arg-type]

    def _wait(self) -> None:
        """Let what is under way come to its end; where nothing is, let more and more time pass."""
        for replica in self._replicas.values():
            if replica.state != "exited" and (replica.health != "healthy" or replica.sessions):
                since_s = self._now_s if replica.healthy_since_s is None else replica.healthy_since_s
                better = replace(replica, state="running", health="healthy", healthy_since_s=since_s, sessions=0)
                self._replicas[replica.name] = better
        self._now_s += self._wait_s
        self._wait_s *= 2

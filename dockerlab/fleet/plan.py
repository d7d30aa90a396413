"""What to do next: from a goal and a snapshot to the steps, each with its cause. Pure.

The acting side carries the steps out, takes a new snapshot and asks again, until the plan is done. A plan never depends
on what was planned before: whatever state the fleet is found in, the next steps follow from it. So resuming after a
crash or a stop needs nothing of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from dockerlab.fleet.model import Replica, Snapshot
from dockerlab.fleet.strategies import Recreate, RollingUpdate, Strategy

_EXITS_ALLOWED = 2
"""So many more than the wanted number may exit; then their program, and not bad luck, is the reason."""


@dataclass(frozen=True)
class Goal:
    """What a fleet should become.

    Parameters
    ----------
    replicas : int
        How many there should be.
    revision : int
        What they should run; new replicas are made from it.
    strategy : Recreate or RollingUpdate or None
        How old revisions are replaced. None only scales: replicas of other revisions stay.
    progress_deadline_s : float
        Seconds without progress after which the plan reports a failure.
    grace_s : float
        Seconds that a leaving replica gets to end its requests.
    """

    replicas: int
    revision: int
    strategy: Strategy | None = None
    progress_deadline_s: float = 60.0
    grace_s: float = 10.0


@dataclass(frozen=True)
class Step:
    """One thing to do.

    Parameters
    ----------
    action : {"start", "admit", "drain", "remove"}
        start: create and start a container and hand it to the router without traffic. admit: give it traffic.
        drain: send it no new requests. remove: take it out of the router, stop and remove the container.
    replica : str
        The replica concerned; empty for "start", whose name is not known yet.
    revision : int
        Its revision.
    cause : str
        Why.
    """

    action: Literal["start", "admit", "drain", "remove"]
    replica: str
    revision: int
    cause: str


@dataclass(frozen=True)
class Failure:
    """Why the goal cannot be reached.

    Parameters
    ----------
    reason : str
        In a sentence.
    replica : str
        The replica that shows it, where there is one.
    """

    reason: str
    replica: str = ""


@dataclass(frozen=True)
class Plan:
    """The next steps towards a goal.

    Parameters
    ----------
    steps : tuple of Step
        May be empty while something is being waited for.
    done : bool
        The goal is reached.
    waiting_for : str
        What is being waited for, in a few words.
    failure : Failure or None
        Set when there is no use in going on.
    """

    steps: tuple[Step, ...] = ()
    done: bool = False
    waiting_for: str = ""
    failure: Failure | None = None


@dataclass
class _View:
    """The snapshot sorted by what planning asks for."""

    goal: Goal
    snapshot: Snapshot
    new: list[Replica] = field(default_factory=list)
    old: list[Replica] = field(default_factory=list)
    leaving: list[Replica] = field(default_factory=list)

    def __post_init__(self) -> None:
        for replica in self.snapshot.replicas:
            if replica.leaving or replica.state == "exited":
                self.leaving.append(replica)
            elif self.goal.strategy is None or replica.revision == self.goal.revision:
                self.new.append(replica)
            else:
                self.old.append(replica)

    @property
    def min_ready_s(self) -> float:
        return self.goal.strategy.min_ready_s if self.goal.strategy else 0.0

    def available(self, replicas: Sequence[Replica]) -> list[Replica]:
        return [r for r in replicas if r.available(self.snapshot.now_s, self.min_ready_s)]


def plan(goal: Goal, snapshot: Snapshot) -> Plan:
    """Work out the next steps from `snapshot` towards `goal`.

    Parameters
    ----------
    goal : Goal
    snapshot : Snapshot

    Returns
    -------
    Plan
        With ``failure`` set where a replica of the goal's revision exited before it was ever ready, or the progress
        deadline has passed.

    Examples
    --------
    >>> [step.action for step in plan(Goal(replicas=2, revision=1), Snapshot((), now_s=0.0)).steps]
    ['start', 'start']
    """
    view = _View(goal, snapshot)
    failure = _failure(view)
    if failure:
        return Plan(failure=failure)
    steps = [*_departures(view), *_admissions(view)]
    match goal.strategy:
        case Recreate():
            steps += _recreate(view)
        case RollingUpdate():
            steps += _rolling(view, goal.strategy)
        case None:
            steps += _resize(view)
    whole = len(view.available(view.new)) == len(view.new) == goal.replicas
    done = whole and not steps and not view.old and not view.leaving
    return Plan(tuple(steps), done=done, waiting_for="" if done else _waiting(view))


def _failure(view: _View) -> Failure | None:
    goal, snapshot = view.goal, view.snapshot
    for replica in snapshot.replicas:
        crashed = replica.state == "exited" and not replica.ever_ready and not replica.leaving
        if crashed and replica.revision == goal.revision:
            code = "" if replica.exit_code is None else f" with exit code {replica.exit_code}"
            return Failure(f"The replica {replica.name} exited{code} before it was ready.", replica.name)
    quiet_s = snapshot.now_s - snapshot.last_progress_s
    if snapshot.exits > goal.replicas + _EXITS_ALLOWED:
        return Failure(f"{snapshot.exits} replicas were started and have exited again.")
    # Draining counts as quiet, and it may take the whole grace period before the container gets another one to stop.
    if quiet_s <= max(goal.progress_deadline_s, 2 * goal.grace_s if view.leaving else 0):
        return None
    waiting = [r for r in view.new if r not in view.available(view.new)]
    if waiting:
        reason = f"The replica {waiting[0].name} did not become healthy within {goal.progress_deadline_s:g} s."
        return Failure(reason, waiting[0].name)
    return Failure(f"Nothing has moved for {goal.progress_deadline_s:g} s (waiting for {_waiting(view)}).")


def _departures(view: _View) -> list[Step]:
    """Those on their way out: no new requests, then wait for those in flight, then remove."""
    steps = []
    for replica in view.leaving:
        if replica.busy:
            continue
        if replica.state == "exited":
            steps.append(Step("remove", replica.name, replica.revision, "its process has ended"))
        elif replica.traffic == "ready":
            steps.append(Step("drain", replica.name, replica.revision, "it is leaving"))
        else:
            since_s = replica.drained_since_s
            waited_s = view.goal.grace_s if since_s is None else view.snapshot.now_s - since_s
            if replica.sessions == 0:
                steps.append(Step("remove", replica.name, replica.revision, "no request is in flight"))
            elif waited_s >= view.goal.grace_s:
                steps.append(Step("remove", replica.name, replica.revision, "the grace period is over"))
    return steps


def _admissions(view: _View) -> list[Step]:
    # An old replica that waits for admission (a paused rollout's leftover) is as good as any while it lasts.
    return [
        Step("admit", replica.name, replica.revision, "its check passes")
        for replica in (*view.new, *view.old)
        if replica.health == "healthy" and replica.traffic == "drain" and not replica.busy
    ]


def _start(view: _View, count: int, cause: str) -> list[Step]:
    return [Step("start", "", view.goal.revision, cause) for _ in range(count)]


def _send_off(replicas: Sequence[Replica], cause: str) -> list[Step]:
    return [Step("drain", replica.name, replica.revision, cause) for replica in replicas if not replica.busy]


def _worst_first(replicas: Sequence[Replica]) -> list[Replica]:
    """Those that serve nobody go first, then the youngest."""
    order = {"unhealthy": 0, "starting": 1, "healthy": 2}
    return sorted(replicas, key=lambda r: (order[r.health], r.traffic == "ready", -(r.healthy_since_s or 0.0), r.name))


def _resize(view: _View) -> list[Step]:
    wanted, have = view.goal.replicas, len(view.new)
    if have < wanted:
        return _start(view, wanted - have, f"{have} of {wanted} replicas are there")
    surplus = _worst_first(view.new)[: have - wanted]
    return _send_off(surplus, f"{have} replicas are there, {wanted} are wanted")


def _recreate(view: _View) -> list[Step]:
    if view.old:
        return _send_off(view.old, "every old replica goes first")
    if any(r.revision != view.goal.revision for r in view.leaving):
        return []
    return _resize(view)


def _rolling(view: _View, strategy: RollingUpdate) -> list[Step]:
    wanted = view.goal.replicas
    surge, unavailable = strategy.bounds(wanted)
    steps: list[Step] = []
    total = len(view.new) + len(view.old)
    room = min(wanted - len(view.new), wanted + surge - total)
    if room > 0:
        steps += _start(view, room, f"{total} of at most {wanted + surge} replicas are there")
    if len(view.new) > wanted:
        surplus = _worst_first(view.new)[: len(view.new) - wanted]
        steps += _send_off(surplus, f"more than {wanted} replicas run the new revision")
    # Old replicas that serve nobody cost no availability. Of the rest, as many may go as the bound leaves.
    idle = [r for r in view.old if not r.available(view.snapshot.now_s)]
    serving = [r for r in view.old if r not in idle]
    floor = wanted - unavailable
    spare = max(0, len(view.available(view.new)) + len(serving) - floor)
    steps += _send_off(idle, "it serves nobody")
    steps += _send_off(_worst_first(serving)[:spare], f"at least {floor} others are available")
    return steps


def _waiting(view: _View) -> str:
    if view.leaving:
        return f"{len(view.leaving)} leaving"
    pending = len(view.new) - len(view.available(view.new))
    return f"{pending} of {len(view.new)} to become ready" if pending else f"{len(view.old)} old to leave"

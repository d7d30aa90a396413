"""What to do next: from a goal and a snapshot to the steps, each with its cause. Pure.

The acting side carries the steps out, takes a new snapshot and asks again, until the plan is done. A plan never depends
on what was planned before: whatever state the fleet is found in, the next steps follow from it. So resuming after a
crash or a stop needs nothing of its own.
"""

from __future__ import annotations

from dockerlab.fleet.apart import Course, blue_green, canary
from dockerlab.fleet.inplace import merge, recreate, rolling
from dockerlab.fleet.model import Snapshot
from dockerlab.fleet.steps import Failure, Goal, Plan
from dockerlab.fleet.strategies import BlueGreen, Canary, Recreate, RollingUpdate
from dockerlab.fleet.view import View, admissions, departures, resize

_EXITS_ALLOWED = 2
"""So many more than the wanted number may exit; then their program, and not bad luck, is the reason."""


def plan(goal: Goal, snapshot: Snapshot) -> Plan:
    """Work out the next steps from `snapshot` towards `goal`.

    Parameters
    ----------
    goal : Goal
    snapshot : Snapshot

    Returns
    -------
    Plan
        With ``failure`` set where a replica of the goal's revision exited before it was ever ready, the progress
        deadline has passed or an analysis has failed; with ``paused`` set where a person has to say how to go on.

    Examples
    --------
    >>> [step.action for step in plan(Goal(replicas=2, revision=1), Snapshot((), now_s=0.0)).steps]
    ['start', 'start']
    """
    view = View(goal, snapshot)
    course = _course(view)
    failure = _crash(view) or course.failure or (None if course.waiting_for else _too_slow(view))
    if failure:
        return Plan(failure=failure)
    going = {step.replica for step in course.steps if step.action == "drain"}
    admitted = [step for step in admissions(view) if step.replica not in going]
    steps = (*departures(view), *admitted, *course.steps)
    if course.paused and not steps and not view.leaving:
        return Plan(waiting_for=course.waiting_for, paused=True)
    alone = goal.strategy is None or view.weight == 100
    done = view.whole() and alone and not steps and not view.old and not view.leaving
    return Plan(steps, done=done, waiting_for="" if done else course.waiting_for or _waiting(view))


def _course(view: View) -> Course:
    match view.goal.strategy:
        case Recreate():
            return Course(merge(view) + recreate(view))
        case RollingUpdate() as strategy:
            return Course(merge(view) + rolling(view, strategy))
        case BlueGreen() as strategy:
            return blue_green(view, strategy)
        case Canary() as strategy:
            return canary(view, strategy)
        case None:
            return Course(resize(view, view.goal.replicas))


def _crash(view: View) -> Failure | None:
    goal, snapshot = view.goal, view.snapshot
    for replica in snapshot.replicas:
        crashed = replica.state == "exited" and not replica.ever_ready and not replica.leaving
        if crashed and replica.revision == goal.revision:
            code = "" if replica.exit_code is None else f" with exit code {replica.exit_code}"
            return Failure(f"The replica {replica.name} exited{code} before it was ready.", replica.name)
    if snapshot.exits > goal.replicas + _EXITS_ALLOWED:
        return Failure(f"{snapshot.exits} replicas were started and have exited again.")
    return None


def _too_slow(view: View) -> Failure | None:
    goal, snapshot = view.goal, view.snapshot
    quiet_s = snapshot.now_s - snapshot.last_progress_s
    # Draining counts as quiet, and it may take the whole grace period before the container gets another one to stop.
    if quiet_s <= max(goal.progress_deadline_s, 2 * goal.grace_s if view.leaving else 0):
        return None
    if pending := view.pending():
        reason = f"The replica {pending[0].name} did not become healthy within {goal.progress_deadline_s:g} s."
        return Failure(reason, pending[0].name)
    return Failure(f"Nothing has moved for {goal.progress_deadline_s:g} s (waiting for {_waiting(view)}).")


def _waiting(view: View) -> str:
    if view.leaving:
        return f"{len(view.leaving)} leaving"
    pending = len(view.pending())
    return f"{pending} of {len(view.new)} to become ready" if pending else f"{len(view.old)} old to leave"

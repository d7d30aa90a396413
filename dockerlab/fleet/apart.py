"""Replacing by a second pool of the router, which takes requests over: BlueGreen and Canary. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from dockerlab.fleet.analysis import Analysis, Measured, Verdict
from dockerlab.fleet.steps import Failure, Step
from dockerlab.fleet.strategies import BlueGreen, Canary, CanaryStep, SetWeight
from dockerlab.fleet.view import View, other, resize, send_off, weigh


@dataclass
class Course:
    """What comes next.

    Attributes
    ----------
    steps : list of Step
    waiting_for : str
        What the rollout waits for on purpose: the progress deadline does not count then. Empty where it does not.
    paused : bool
        It waits for a person.
    failure : Failure or None
    """

    steps: list[Step] = field(default_factory=list)
    waiting_for: str = ""
    paused: bool = False
    failure: Failure | None = None


def blue_green(view: View, strategy: BlueGreen) -> Course:
    """Start the new revision whole, switch, wait, send the old one off."""
    if view.weight == 100:
        return _after_the_switch(view, strategy)
    steps = _clear(view) + _keep_stable(view) + resize(view, view.goal.replicas)
    if steps or not view.whole() or _strangers(view):
        return Course(steps)
    return _switch(view, strategy)


def _switch(view: View, strategy: BlueGreen) -> Course:
    now_s = view.snapshot.now_s
    whole_since_s = max((r.healthy_since_s or 0.0 for r in view.new), default=now_s)
    left_s = strategy.auto_promotion_s - (now_s - whole_since_s)
    if not view.old:
        cause = "no other revision is there"
    elif view.snapshot.position.promoted:
        cause = "it was promoted"
    elif not strategy.auto_promote:
        return Course(waiting_for="somebody to promote it", paused=True)
    elif left_s > 0 and view.new:
        return Course(waiting_for=f"the promotion in {left_s:.1f} s")
    else:
        cause = f"all {view.goal.replicas} new replicas are available"
    return Course([weigh(view, 100, cause)])


def canary(view: View, strategy: Canary) -> Course:
    """Carry out the step that the rollout is at; after the last one, and where nobody else is left, take over all."""
    position = view.snapshot.position
    if position.step >= len(strategy.steps) or not view.old:
        return _take_over(view)
    step = strategy.steps[position.step]
    weight = _weight_at(strategy, position.step)
    if view.weight > weight:
        return Course([weigh(view, weight, f"step {position.step + 1} of {len(strategy.steps)}: {step}")])
    steps = _clear(view) + _keep_stable(view)
    needed = SetWeight(weight).replicas(view.goal.replicas)
    steps += resize(view, needed)
    if steps or len(view.available(view.new)) < needed or _strangers(view):
        return Course(steps)
    if view.weight != weight:
        return Course([weigh(view, weight, f"step {position.step + 1} of {len(strategy.steps)}: {step}")])
    return _carry_out(view, strategy, step)


def _carry_out(view: View, strategy: Canary, step: CanaryStep) -> Course:
    position = view.snapshot.position
    since_s = view.snapshot.now_s - position.since_s
    if isinstance(step, SetWeight):
        return _advance(view, strategy, f"{view.weight} % of the requests go to the new revision")
    if position.promoted:
        return _advance(view, strategy, "it was promoted")
    if isinstance(step, Analysis):
        return _analyse(view, strategy, step)
    if step.duration_s is None:
        return Course(waiting_for="somebody to promote it", paused=True)
    if since_s < step.duration_s:
        return Course(waiting_for=f"the end of the pause in {step.duration_s - since_s:.1f} s")
    return _advance(view, strategy, f"{step.duration_s:g} s are over")


def _analyse(view: View, strategy: Canary, step: Analysis) -> Course:
    verdict = _judge(view, step)
    match verdict.phase:
        case "Failed":
            return Course(failure=Failure(verdict.reason))
        case "Inconclusive":
            return Course(waiting_for=f"somebody to promote it: {verdict.reason}", paused=True)
        case "Running":
            return Course(waiting_for=f"the analysis ({verdict.reason})")
        case "Successful":
            return _advance(view, strategy, verdict.reason)


def _advance(view: View, strategy: Canary, cause: str) -> Course:
    text = f"step {view.snapshot.position.step + 1} of {len(strategy.steps)} is done: {cause}"
    return Course([Step("advance", "", view.goal.revision, text, view.pool)])


def _weight_at(strategy: Canary, index: int) -> int:
    """Give the weight that holds at a step: that of the last SetWeight up to it."""
    return next((one.percent for one in strategy.steps[index::-1] if isinstance(one, SetWeight)), 0)


def _take_over(view: View) -> Course:
    steps = _clear(view) + _keep_stable(view) + resize(view, view.goal.replicas)
    if view.weight == 100:
        steps += send_off(view.old, "the new revision answers every request") if view.whole() else []
    elif not steps and view.whole() and not _strangers(view):
        steps = [weigh(view, 100, f"all {view.goal.replicas} new replicas are available")]
    return Course(steps)


def _after_the_switch(view: View, strategy: BlueGreen) -> Course:
    steps = resize(view, view.goal.replicas)
    if not view.old:
        return Course(steps)
    since_s = view.snapshot.now_s - view.snapshot.position.since_s
    if strategy.analysis:
        verdict = _judge(view, strategy.analysis)
        if verdict.phase == "Failed":
            return Course(failure=Failure(verdict.reason))
        if verdict.phase == "Running":
            return Course(steps, waiting_for=f"the analysis ({verdict.reason})")
    if since_s < strategy.scale_down_delay_s:
        return Course(steps, waiting_for=f"{strategy.scale_down_delay_s - since_s:.1f} s in which to switch back")
    if view.whole():
        steps += send_off(view.old, "the new revision answers every request")
    return Course(steps)


def _judge(view: View, analysis: Analysis) -> Verdict:
    snapshot = view.snapshot
    return analysis.judge(snapshot.measured.get(view.pool, Measured()), snapshot.now_s - snapshot.position.since_s)


def _strangers(view: View) -> bool:
    """Tell whether another revision is in the pool that is to take over."""
    return any(r.pool == view.pool for r in view.old)


def _clear(view: View) -> list[Step]:
    """Get another revision out of the pool that is to take over: no requests to it first, then away."""
    strangers = [r for r in view.old if r.pool == view.pool]
    if not strangers:
        return []
    if view.weight > 0:
        return [weigh(view, 0, "another revision is in this pool")]
    return send_off(strangers, "another revision is to use this pool")


def _keep_stable(view: View) -> list[Step]:
    """Replace what ends in the pool that still serves."""
    goal = view.goal
    staying = [r for r in view.old if r.pool != view.pool]
    missing = goal.replicas - len(staying)
    serves = view.weight < 100 and any(r.revision == goal.stable for r in staying)
    if not goal.stable or not serves or missing <= 0:
        return []
    cause = f"{len(staying)} of {goal.replicas} replicas are there"
    return [Step("start", "", goal.stable, cause, other(view.pool))] * missing

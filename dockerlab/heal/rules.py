"""Which replicas to replace now, and which wait until when. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dockerlab.drift.model import Change
from dockerlab.fleet.model import FleetStatus, ReplicaStatus
from dockerlab.heal.history import Files, History, Streak, Track
from dockerlab.heal.policy import HealingPolicy
from dockerlab.heal.verdict import Action, Decision, HealthState, Verdict

_TOLD = 3
"""So many changed paths are named in a sentence."""


def decide(
    policy: HealingPolicy, history: History, status: FleetStatus, now_s: float, files: Files | None = None
) -> Verdict:
    """Work out which replicas to replace now, and which wait until when.

    Parameters
    ----------
    policy : HealingPolicy
    history : History
        ``History()`` at first, then that of the verdict before, :meth:`History.after` an attempt.
    status : FleetStatus
        What is seen. Nothing is done while its phase is Progressing; while it is Paused, only the dead are replaced.
    now_s : float
        Seconds on any steady clock, the same for all looks.
    files : Files, optional
        What the last look at the files of the replicas found; None where drift is not watched.

    Returns
    -------
    Verdict
    """
    before = history if history.revision == status.revision else History(status.revision)
    # Those of another revision ran well or not all the same.
    known = {track.name: track for track in history.tracks}
    first = history.revision == 0
    tracks: dict[str, Track] = {}
    for row in status.replicas:
        # What serves at the first look has done so for as long as it is there; so had, at best, what ended unseen.
        unseen = Track.found(row, now_s) if row.state != "running" or (first and row.ready) else Track(row.name)
        tracks[row.name] = known.get(row.name, unseen).seen(row, now_s).looked_into(files)
    if status.phase == "Progressing":
        # What ends now is the doing of whatever is under way.
        ends, drifts = (replace(streak, well_since_s=None) for streak in (before.ends, before.drifts))
        idle = History(before.revision, tuple(tracks.values()), ends, drifts, before.exit_code)
        return Verdict(_state(policy, idle, ()), (), idle)
    scene = _sort(policy, status, tracks, files, now_s)
    gone = [track for name, track in known.items() if name not in tracks and not track.counted]
    ends, exit_code = _ends(policy, before, scene, gone)
    drifts = _drifts(policy, before.drifts, scene, files)
    for row in (*scene.ended, *scene.due):
        tracks[row.name] = replace(tracks[row.name], counted=True)
    for row in () if scene.paused else scene.drifted:
        tracks[row.name] = replace(tracks[row.name], drift_counted=True)
    present = History(before.revision, tuple(tracks.values()), ends, drifts, exit_code)
    broken = [] if status.phase == "Healthy" else _dead(policy, present, scene) + _sick(policy, present, scene)
    stray = [] if status.phase in ("Healthy", "Paused") else _stray(present, scene)
    room = policy.at_once(status.desired) - max(scene.lacking, sum(d.action == "replace" for d in broken))
    decisions = (*broken, *stray, *_drifted(policy, present, scene, room))
    return Verdict(_state(policy, present, decisions), decisions, present)


def told(changes: Sequence[Change]) -> str:
    """Name the first few of the paths that were changed.

    Examples
    --------
    >>> told([Change(f"/srv/{number}", "added") for number in range(5)])
    '/srv/0 added, /srv/1 added, /srv/2 added and 2 more'
    """
    text = ", ".join(f"{change.path} {change.how}" for change in changes[:_TOLD])
    return text if len(changes) <= _TOLD else f"{text} and {len(changes) - _TOLD} more"


# What is seen


@dataclass(frozen=True)
class _Scene:
    """A fleet at one moment: what is wrong with its replicas, and what is known of them from before."""

    status: FleetStatus
    tracks: dict[str, Track]
    now_s: float
    staying: list[ReplicaStatus]
    ended: list[ReplicaStatus]
    sick: list[ReplicaStatus]
    due: list[ReplicaStatus]  # those of the sick that have been borne long enough
    drifted: list[ReplicaStatus]
    changes: dict[str, tuple[Change, ...]]

    @property
    def paused(self) -> bool:
        return self.status.phase == "Paused"

    @property
    def missing(self) -> int:
        return max(0, self.status.desired - len(self.staying))

    @property
    def lacking(self) -> int:
        """How many of the wanted replicas do not serve."""
        return max(0, self.status.desired - sum(row.ready for row in self.staying))


def _sort(
    policy: HealingPolicy, status: FleetStatus, tracks: dict[str, Track], files: Files | None, now_s: float
) -> _Scene:
    staying = [row for row in status.replicas if _stays(row, status)]
    sick = [row for row in staying if row.health == "unhealthy"]
    paused = status.phase == "Paused"
    changes = dict(files.changes) if files else {}
    return _Scene(
        status=status,
        tracks=tracks,
        now_s=now_s,
        staying=staying,
        ended=[row for row in status.replicas if row.state == "exited" and not row.leaving],
        sick=sick,
        due=[row for row in sick if not paused and _borne_long_enough(policy, tracks[row.name], now_s)],
        # One that does not serve is replaced or connected for that reason.
        drifted=[row for row in staying if row.ready and changes.get(row.name)],
        changes=changes,
    )


def _stays(row: ReplicaStatus, status: FleetStatus) -> bool:
    right = status.phase == "Paused" or row.revision == status.revision
    return row.state == "running" and not row.leaving and right


def _borne_long_enough(policy: HealingPolicy, track: Track, now_s: float) -> bool:
    return track.looks >= policy.failure_threshold and track.unhealthy_s(now_s) >= policy.unhealthy_after_s


# What is counted


def _ends(policy: HealingPolicy, before: History, scene: _Scene, gone: Sequence[Track]) -> tuple[Streak, int | None]:
    """Count one failure for all that ended since the last attempt; give the last exit code, too."""
    now_s = scene.now_s
    ends, whole = before.ends, scene.status.phase == "Healthy"
    deaths = [scene.tracks[row.name] for row in (*scene.ended, *scene.due) if not scene.tracks[row.name].counted]
    deaths += gone[: max(0, scene.missing - len(scene.ended))]
    if deaths:
        ends = ends.failed(policy, now_s, young=any(track.ran_s(now_s) < policy.reset_after_s for track in deaths))
    ends = ends.seen(policy, now_s, well=whole)
    codes = [row.exit_code for row in scene.ended if row.exit_code is not None]
    known = before.exit_code if ends.failures or not whole else None
    return ends, codes[-1] if codes else known


def _drifts(policy: HealingPolicy, drifts: Streak, scene: _Scene, files: Files | None) -> Streak:
    """Count one failure for all that drifted since the last attempt."""
    if files is None or scene.paused:
        return drifts
    fresh = [track for row in scene.drifted if not (track := scene.tracks[row.name]).drift_counted]
    if fresh:
        young = any(track.clean_for_s < policy.reset_after_s for track in fresh)
        drifts = drifts.failed(policy, scene.now_s, young=young)
    # Only a look at the files tells that all is well: the time counts from look to look, of all while they served.
    clean = all(scene.changes.get(row.name) == () and scene.tracks[row.name].clean_for_s >= 0 for row in scene.staying)
    return drifts.seen(policy, files.time_s, well=clean and scene.status.phase == "Healthy")


def _state(policy: HealingPolicy, history: History, decisions: Sequence[Decision]) -> HealthState:
    if history.ends.failures >= policy.crash_loop_after:
        return "CrashLoopBackOff"
    if history.drifts.failures >= policy.crash_loop_after:
        return "DriftLoopBackOff"
    return "Healing" if decisions else "Healthy"


# What is done


def _backoff(policy: HealingPolicy, failures: int, *, loop: HealthState = "CrashLoopBackOff") -> str:
    row = "1 failure" if failures == 1 else f"{failures} failures in a row"
    mark = f"{loop}: " if failures >= policy.crash_loop_after else ""
    return f"{mark}after {row} the next attempt waits {policy.wait_s(failures):g} s"


def _dead(policy: HealingPolicy, history: History, scene: _Scene) -> list[Decision]:
    due_s = history.ends.due_s
    waits = scene.now_s < due_s
    end = f"; {_backoff(policy, history.ends.failures)}." if waits else "."
    decisions = []
    for row in scene.ended:
        code = "" if row.exit_code is None else f" with exit code {row.exit_code}"
        action: Action = "wait" if waits else "replace"
        why = f"Its process ended{code}{end}"
        decisions.append(Decision(row.name, "exited", action, why, due_s if waits else None))
    # Those that ended are missing too, but have been named.
    for _ in range(scene.missing - len(scene.ended)):
        why = f"Fewer replicas are there than are wanted{end}"
        decisions.append(Decision("", "missing", "wait" if waits else "start", why, due_s if waits else None))
    return decisions


def _sick(policy: HealingPolicy, history: History, scene: _Scene) -> list[Decision]:
    now_s, desired, due_s = scene.now_s, scene.status.desired, history.ends.due_s
    room = policy.at_once(desired)
    decisions = []
    for row in scene.sick:
        for_s = scene.tracks[row.name].unhealthy_s(now_s)
        why = f"Its check has failed for {for_s:.1f} s"
        if scene.paused:
            decisions.append(Decision(row.name, "unhealthy", "wait", f"{why}, but a rollout is paused."))
        elif row not in scene.due:
            until_s = now_s - for_s + policy.unhealthy_after_s
            text = f"{why}; {policy.failure_threshold} looks and {policy.unhealthy_after_s:g} s are borne."
            decisions.append(Decision(row.name, "unhealthy", "wait", text, max(until_s, now_s)))
        elif now_s < due_s:
            text = f"{why}; {_backoff(policy, history.ends.failures)}."
            decisions.append(Decision(row.name, "unhealthy", "wait", text, due_s))
        elif room:
            room -= 1
            decisions.append(Decision(row.name, "unhealthy", "replace", f"{why}."))
        else:
            text = f"{why}, but only {policy.at_once(desired)} of {desired} may be replaced at a time."
            decisions.append(Decision(row.name, "unhealthy", "wait", text))
    return decisions


def _drifted(policy: HealingPolicy, history: History, scene: _Scene, room: int) -> list[Decision]:
    """Decide about what serves, but not as its image says: it goes only while enough others serve."""
    desired = scene.status.desired
    ends, drifts = history.ends, history.drifts
    decisions = []
    for row in scene.drifted:
        why = f"It differs from its image: {told(scene.changes[row.name])}"
        if scene.paused:
            decisions.append(Decision(row.name, "drifted", "wait", f"{why}, but a rollout is paused."))
        elif scene.now_s < max(ends.due_s, drifts.due_s):
            own = _backoff(policy, drifts.failures, loop="DriftLoopBackOff")
            text = own if drifts.due_s >= ends.due_s else _backoff(policy, ends.failures)
            decisions.append(Decision(row.name, "drifted", "wait", f"{why}; {text}.", max(ends.due_s, drifts.due_s)))
        elif room > 0:
            room -= 1
            decisions.append(Decision(row.name, "drifted", "replace", f"{why}."))
        else:
            text = f"{why}, but only {policy.at_once(desired)} of {desired} may be out of service at a time."
            decisions.append(Decision(row.name, "drifted", "wait", text))
    return decisions


def _stray(history: History, scene: _Scene) -> list[Decision]:
    """Decide about what runs without serving, and what nobody wants."""
    waits = scene.now_s < history.ends.due_s
    until_s = history.ends.due_s if waits else None
    decisions = []
    for row in scene.staying:
        if row.health != "unhealthy" and not row.ready:
            why = "It runs, but the router sends it no requests."
            decisions.append(Decision(row.name, "not served", "wait" if waits else "connect", why, until_s))
    for row in scene.status.replicas:
        if row not in scene.staying and (row.state != "exited" or row.leaving):
            why = "It was to go, but is still there."
            decisions.append(Decision(row.name, "left over", "wait" if waits else "remove", why, until_s))
    for _ in range(len(scene.staying) - scene.status.desired):
        why = "More replicas are there than are wanted."
        decisions.append(Decision("", "left over", "wait" if waits else "remove", why, until_s))
    return decisions

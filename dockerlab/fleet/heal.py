"""Which replicas to replace now, and which wait until when. Pure.

Whose numbers: the backoff is that of Docker's restart policy (moby ``restartmanager``: 100 ms doubled up to 1 min, back
to the start after 10 s of running). The long waits of a crash loop are the kubelet's (10 s doubled up to 300 s). How
long a failing check is borne is that of Kubernetes' probes (every 10 s, 3 failures in a row).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from dockerlab.errors import BadInputError
from dockerlab.fleet.model import FleetStatus, ReplicaStatus
from dockerlab.fleet.numbers import not_negative, positive, resolve

Seen = Literal["exited", "missing", "unhealthy", "not served", "left over"]
Action = Literal["replace", "start", "connect", "remove", "wait"]
HealthState = Literal["Healthy", "Healing", "CrashLoopBackOff"]


@dataclass(frozen=True)
class HealingPolicy:
    """The numbers of a reconciler.

    Parameters
    ----------
    failure_threshold : int, default 3
        So many looks in a row must find a replica unhealthy before it is replaced (Kubernetes' probes).
    unhealthy_after_s : float, default 20
        And so long: the first and the third of three probes 10 s apart (Kubernetes).
    backoff_s, max_backoff_s : float, default 0.1 and 60
        Wait after the first failure, doubled with each further one in a row up to the second number (Docker).
    reset_after_s : float, default 10
        A fleet that is whole for so long starts over with the first wait, and a replica that ran well for so long is
        no failure of its version when it ends (Docker).
    crash_loop_after : int, default 5
        After so many failures in a row the fleet is marked CrashLoopBackOff. (The kubelet does so from the first on.)
    crash_loop_s, max_crash_loop_s : float, default 10 and 300
        Wait from then on, doubled with each further failure up to the second number (kubelet).
    max_at_once : int or str, default "25%"
        So many unhealthy replicas are replaced at a time; a share is rounded down, but is at least 1.
    interval_s : float, default 0.5
        Seconds between two looks.

    Raises
    ------
    BadInputError
        Where a number is out of its range.

    Examples
    --------
    >>> [HealingPolicy().wait_s(failures) for failures in (1, 2, 3, 5, 6)]
    [0.1, 0.2, 0.4, 10.0, 20.0]
    """

    failure_threshold: int = 3
    unhealthy_after_s: float = 20.0
    backoff_s: float = 0.1
    max_backoff_s: float = 60.0
    reset_after_s: float = 10.0
    crash_loop_after: int = 5
    crash_loop_s: float = 10.0
    max_crash_loop_s: float = 300.0
    max_at_once: int | str = "25%"
    interval_s: float = 0.5

    def __post_init__(self) -> None:
        for name in ("failure_threshold", "crash_loop_after"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise BadInputError(f"{name} is {value!r}.", "Give a whole number of at least 1.")
        times = ("unhealthy_after_s", "reset_after_s")
        for name in (*times, "backoff_s", "max_backoff_s", "crash_loop_s", "max_crash_loop_s", "interval_s"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise BadInputError(f"{name} is {value!r}.", "Give a number of seconds.")
            (not_negative if name in times else positive)(name, value)
        for low, high in (("backoff_s", "max_backoff_s"), ("crash_loop_s", "max_crash_loop_s")):
            if getattr(self, high) < getattr(self, low):
                raise BadInputError(
                    f"{high} ({getattr(self, high)!r}) is less than {low} ({getattr(self, low)!r}).",
                    f"Give a {high} that is not below {low}.",
                )
        if not isinstance(self.max_at_once, int | str) or isinstance(self.max_at_once, bool) or self.max_at_once == 0:
            raise BadInputError(f"max_at_once is {self.max_at_once!r}.", 'Give a count such as 1, or "25%".')
        self.at_once(1)

    def at_once(self, replicas: int) -> int:
        """Give how many unhealthy replicas of a fleet of `replicas` may be replaced at a time."""
        return max(1, resolve("max_at_once", self.max_at_once, replicas, up=False))

    def away_s(self, attempts: int) -> float:
        """Give the wait after so many attempts in a row that found no engine or no router, in seconds."""
        return _doubled(self.backoff_s, attempts, self.max_backoff_s)

    def wait_s(self, failures: int) -> float:
        """Give the wait after so many failures in a row, in seconds."""
        short_s = _doubled(self.backoff_s, failures, self.max_backoff_s)
        if failures < self.crash_loop_after:
            return short_s
        # Where the short wait has grown past the long one, the longer counts: waits never shrink.
        return max(short_s, _doubled(self.crash_loop_s, failures - self.crash_loop_after + 1, self.max_crash_loop_s))

    def faster(self, factor: float) -> HealingPolicy:
        """Give the same policy with every wait divided by `factor`, for a lesson. The time between looks stays.

        Raises
        ------
        BadInputError
            Where `factor` is not a positive number.
        """
        if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 < factor < math.inf:
            raise BadInputError(f"A policy cannot be {factor!r} times as fast.", "Give a number above 0, such as 10.")
        return replace(
            self,
            unhealthy_after_s=self.unhealthy_after_s / factor,
            backoff_s=self.backoff_s / factor,
            max_backoff_s=self.max_backoff_s / factor,
            reset_after_s=self.reset_after_s / factor,
            crash_loop_s=self.crash_loop_s / factor,
            max_crash_loop_s=self.max_crash_loop_s / factor,
        )


@dataclass(frozen=True)
class Track:
    """What earlier looks found out about one replica.

    Parameters
    ----------
    name : str
    ready_since_s : float or None
        Since when it has run well.
    unhealthy_since_s : float or None
        Since when its check has failed.
    looks : int
        How many looks in a row found it unhealthy.
    counted : bool
        Its end has been counted.
    """

    name: str
    ready_since_s: float | None = None
    unhealthy_since_s: float | None = None
    looks: int = 0
    counted: bool = False


@dataclass(frozen=True)
class History:
    """What earlier looks and attempts left for later ones.

    Parameters
    ----------
    revision : int
        The revision that all of this is about; 0 before the first look.
    tracks : tuple of Track
        One for each replica that was there.
    failures : int
        How many failures there were in a row.
    exit_code : int or None
        The last exit code.
    due_s : float
        Nothing is replaced before.
    well_since_s : float or None
        Since when the fleet has been whole.
    counted : bool
        The present round has had its failure: several replicas that end between two attempts are one.
    """

    revision: int = 0
    tracks: tuple[Track, ...] = ()
    failures: int = 0
    exit_code: int | None = None
    due_s: float = -math.inf
    well_since_s: float | None = None
    counted: bool = False

    def after(self, policy: HealingPolicy, now_s: float, *, failed: bool, exit_code: int | None = None) -> History:
        """Give the history after an attempt to heal, which ended at `now_s`."""
        if not failed:
            return replace(self, counted=False)
        # What a failed attempt removes is no further failure.
        failures = self.failures + 1
        code = self.exit_code if exit_code is None else exit_code
        due_s = now_s + policy.wait_s(failures)
        return replace(self, failures=failures, exit_code=code, due_s=due_s, counted=True)


@dataclass(frozen=True)
class Decision:
    """What is done about one replica.

    Parameters
    ----------
    replica : str
        Its name; empty where it is not there.
    seen : {"exited", "missing", "unhealthy", "not served", "left over"}
        What is wrong with it.
    action : {"replace", "start", "connect", "remove", "wait"}
    why : str
        The cause, in a sentence.
    until_s : float or None
        Until when it waits, on the clock of ``now_s``; None where nothing is waited for, or not for a time.
    """

    replica: str
    seen: Seen
    action: Action
    why: str
    until_s: float | None = None


@dataclass(frozen=True)
class Verdict:
    """What is to be done about a fleet at one moment.

    Parameters
    ----------
    state : {"Healthy", "Healing", "CrashLoopBackOff"}
    decisions : tuple of Decision
        One for each replica with which something is wrong.
    history : History
        For the next look.
    """

    state: HealthState
    decisions: tuple[Decision, ...]
    history: History

    @property
    def acts(self) -> bool:
        """Whether there is something to do now."""
        return any(decision.action != "wait" for decision in self.decisions)

    @property
    def unhealthy(self) -> tuple[str, ...]:
        """Names of the running replicas that are to be replaced now."""
        return tuple(d.replica for d in self.decisions if (d.seen, d.action) == ("unhealthy", "replace"))


def decide(
    policy: HealingPolicy,
    history: History,
    status: FleetStatus,
    now_s: float,
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

    Returns
    -------
    Verdict
    """
    before = history if history.revision == status.revision else History(status.revision)
    # Those of another revision ran well or not all the same.
    known = {track.name: track for track in history.tracks}
    first = history.revision == 0
    tracks = {row.name: _track(known.get(row.name), row, now_s, first=first) for row in status.replicas}
    if status.phase == "Progressing":
        # What ends now is the doing of whatever is under way.
        idle = replace(before, tracks=tuple(tracks.values()), well_since_s=None)
        return Verdict(_state(policy, idle, ()), (), idle)
    paused = status.phase == "Paused"
    staying = [r for r in status.replicas if _stays(r, status)]
    missing = max(0, status.desired - len(staying))
    ended = [r for r in status.replicas if r.state == "exited" and not r.leaving]
    gone = [track for name, track in known.items() if name not in tracks and not track.counted]
    sick = [r for r in staying if r.health == "unhealthy"]
    due = [r for r in sick if not paused and _borne_long_enough(policy, tracks[r.name], now_s)]
    deaths = [tracks[r.name] for r in (*ended, *due) if not tracks[r.name].counted]
    deaths += gone[: max(0, missing - len(ended))]
    for row in (*ended, *due):
        tracks[row.name] = replace(tracks[row.name], counted=True)
    present = replace(before, tracks=tuple(tracks.values()))
    present = _count(policy, present, deaths, now_s)
    last_code = next((r.exit_code for r in reversed(ended) if r.exit_code is not None), None)
    if last_code is not None:
        present = replace(present, exit_code=last_code)
    present = _rest(policy, present, whole=status.phase == "Healthy", now_s=now_s)
    if status.phase == "Healthy":
        return Verdict(_state(policy, present, ()), (), present)
    decisions = [
        *_dead(policy, present, ended, missing, now_s=now_s),
        *_sick(policy, present, status, sick, {r.name for r in due}, now_s=now_s),
        *([] if paused else _stray(present, status, now_s)),
    ]
    return Verdict(_state(policy, present, tuple(decisions)), tuple(decisions), present)


def _doubled(first_s: float, times: int, most_s: float) -> float:
    # Beyond 2 ** 60 every number is cut off anyway.
    return float(min(first_s * 2 ** min(max(times - 1, 0), 60), most_s))


def _stays(row: ReplicaStatus, status: FleetStatus) -> bool:
    right = status.phase == "Paused" or row.revision == status.revision
    return row.state == "running" and not row.leaving and right


def _track(known: Track | None, row: ReplicaStatus, now_s: float, *, first: bool) -> Track:
    if row.state != "running":
        if known:
            return known
        # Nobody saw it run: its age is the best guess.
        return Track(row.name, ready_since_s=now_s - row.age_s)
    track = known or Track(row.name)
    if row.ready:
        # What serves at the first look has done so for as long as it is there.
        since_s = now_s - row.age_s if first else now_s
        kept = track.ready_since_s is not None and track.unhealthy_since_s is None
        return Track(row.name, track.ready_since_s if kept else since_s)
    if row.health == "unhealthy":
        since_s = now_s if track.unhealthy_since_s is None else track.unhealthy_since_s
        return replace(track, unhealthy_since_s=since_s, looks=track.looks + 1)
    return replace(track, unhealthy_since_s=None, looks=0, counted=False)


def _borne_long_enough(policy: HealingPolicy, track: Track, now_s: float) -> bool:
    since_s = now_s if track.unhealthy_since_s is None else track.unhealthy_since_s
    return track.looks >= policy.failure_threshold and now_s >= since_s + policy.unhealthy_after_s


def _count(policy: HealingPolicy, history: History, deaths: list[Track], now_s: float) -> History:
    """Count one failure for all that ended since the last attempt, and wait after it."""
    if not deaths or history.counted:
        return history
    young = any(_ran_s(track, now_s) < policy.reset_after_s for track in deaths)
    # What ran well and ended says nothing about its version, but even then Docker waits once.
    failures = history.failures + 1 if young else max(history.failures, 1)
    return replace(history, failures=failures, due_s=now_s + policy.wait_s(failures), counted=True)


def _ran_s(track: Track, now_s: float) -> float:
    until_s = now_s if track.unhealthy_since_s is None else track.unhealthy_since_s
    return 0.0 if track.ready_since_s is None else until_s - track.ready_since_s


def _rest(policy: HealingPolicy, history: History, *, whole: bool, now_s: float) -> History:
    """Start over once the fleet has been whole long enough."""
    if not whole:
        return replace(history, well_since_s=None)
    since_s = now_s if history.well_since_s is None else history.well_since_s
    if now_s - since_s >= policy.reset_after_s:
        return History(history.revision, history.tracks, well_since_s=since_s)
    return replace(history, well_since_s=since_s, counted=False)


def _state(policy: HealingPolicy, history: History, decisions: tuple[Decision, ...]) -> HealthState:
    if history.failures >= policy.crash_loop_after:
        return "CrashLoopBackOff"
    return "Healing" if decisions else "Healthy"


def _backoff(policy: HealingPolicy, history: History) -> str:
    row = "1 failure" if history.failures == 1 else f"{history.failures} failures in a row"
    loop = "CrashLoopBackOff: " if history.failures >= policy.crash_loop_after else ""
    return f"{loop}after {row} the next attempt waits {policy.wait_s(history.failures):g} s"


def _dead(
    policy: HealingPolicy,
    history: History,
    ended: list[ReplicaStatus],
    missing: int,
    *,
    now_s: float,
) -> list[Decision]:
    waits = now_s < history.due_s
    decisions = []
    for row in ended:
        code = "" if row.exit_code is None else f" with exit code {row.exit_code}"
        why = f"Its process ended{code}"
        action: Action = "wait" if waits else "replace"
        text = f"{why}; {_backoff(policy, history)}." if waits else f"{why}."
        decisions.append(Decision(row.name, "exited", action, text, history.due_s if waits else None))
    # Those that ended are missing too, but have been named.
    for _ in range(missing - len(ended)):
        why = "Fewer replicas are there than are wanted"
        text = f"{why}; {_backoff(policy, history)}." if waits else f"{why}."
        decisions.append(Decision("", "missing", "wait" if waits else "start", text, history.due_s if waits else None))
    return decisions


def _sick(
    policy: HealingPolicy,
    history: History,
    status: FleetStatus,
    sick: list[ReplicaStatus],
    due: set[str],
    *,
    now_s: float,
) -> list[Decision]:
    tracks = {track.name: track for track in history.tracks}
    room = policy.at_once(status.desired)
    decisions = []
    for row in sick:
        since_s = tracks[row.name].unhealthy_since_s
        for_s = 0.0 if since_s is None else now_s - since_s
        why = f"Its check has failed for {for_s:.1f} s"
        if status.phase == "Paused":
            decisions.append(Decision(row.name, "unhealthy", "wait", f"{why}, but a rollout is paused."))
        elif row.name not in due:
            until_s = now_s - for_s + policy.unhealthy_after_s
            text = f"{why}; {policy.failure_threshold} looks and {policy.unhealthy_after_s:g} s are borne."
            decisions.append(Decision(row.name, "unhealthy", "wait", text, max(until_s, now_s)))
        elif now_s < history.due_s:
            text = f"{why}; {_backoff(policy, history)}."
            decisions.append(Decision(row.name, "unhealthy", "wait", text, history.due_s))
        elif room:
            room -= 1
            decisions.append(Decision(row.name, "unhealthy", "replace", f"{why}."))
        else:
            text = f"{why}, but only {policy.at_once(status.desired)} of {status.desired} may be replaced at a time."
            decisions.append(Decision(row.name, "unhealthy", "wait", text))
    return decisions


def _stray(history: History, status: FleetStatus, now_s: float) -> list[Decision]:
    """Decide about what runs without serving, and what nobody wants."""
    waits = now_s < history.due_s
    until_s = history.due_s if waits else None
    decisions = []
    staying = [row for row in status.replicas if _stays(row, status)]
    for row in staying:
        if row.health != "unhealthy" and not row.ready:
            why = "It runs, but the router sends it no requests."
            decisions.append(Decision(row.name, "not served", "wait" if waits else "connect", why, until_s))
    for row in status.replicas:
        if not _stays(row, status) and (row.state != "exited" or row.leaving):
            why = "It was to go, but is still there."
            decisions.append(Decision(row.name, "left over", "wait" if waits else "remove", why, until_s))
    for _ in range(len(staying) - status.desired):
        why = "More replicas are there than are wanted."
        decisions.append(Decision("", "left over", "wait" if waits else "remove", why, until_s))
    return decisions

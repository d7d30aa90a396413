"""The reconciler at work: look at a fleet, ask :mod:`dockerlab.heal.rules`, repair."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import TYPE_CHECKING

from dockerlab.errors import (
    BadInputError,
    EngineError,
    FleetError,
    ImageError,
    PortTakenError,
    ReplicaFailedError,
    RouterError,
)
from dockerlab.fleet.model import FleetStatus
from dockerlab.fleet.table import Table
from dockerlab.fleet.worker import REMOVED, FleetWorker
from dockerlab.heal.history import Files, History
from dockerlab.heal.policy import HealingPolicy
from dockerlab.heal.rules import decide, told
from dockerlab.heal.verdict import Decision, HealthState, Verdict

if TYPE_CHECKING:
    from dockerlab.fleet.fleet import Fleet

_SHORTEST_S = 0.02


@dataclass(frozen=True)
class HealEvent:
    """Something that a reconciler saw, and what it did about it.

    Parameters
    ----------
    time_s : float
        Seconds since the epoch, the clock that traffic results and the fleet's timeline use too.
    replica : str
        Empty where it is none that is there.
    seen : str
        What was seen.
    done : str
        What was done: replaced, started, connected, removed, waits, failed, marked, cleared or ended.
    cause : str
        Why, in a sentence.
    wait_s : float
        How long it waits from this moment on, in seconds; 0 for everything but a wait of known length.
    """

    time_s: float
    replica: str
    seen: str
    done: str
    cause: str
    wait_s: float = 0.0


_DONE = {"replace": "replaced", "start": "started", "connect": "connected", "remove": "removed"}
_LOOPS = {"CrashLoopBackOff": "crash loop", "DriftLoopBackOff": "drift loop"}


class HealEvents(Table[HealEvent]):
    """The log of a reconciler: a tuple that shows itself as a table."""

    __slots__ = ()
    columns = ("time", "replica", "seen", "done", "cause")
    numbers = 1
    nothing = "Nothing had to be healed."

    def _rows(self) -> list[tuple[str, ...]]:
        return [(f"{e.time_s - self[0].time_s:.1f} s", e.replica or "-", e.seen, e.done, e.cause) for e in self]


class Reconciler(FleetWorker):
    """Replaces dead and unhealthy replicas of a fleet while a block of code runs, and on request those that drifted.

    A replica that fails is a failure to count, an engine or a router that is away is waited for (a router is started
    anew), and a fleet that is removed ends the work. An error of any other kind, and an engine or router that is still
    away, is raised at the end of the block.

    Drift is what a replica changed in its own files against its image, by hand or by its program. It is watched only
    on request, as a service that writes beside its volumes would be replaced again and again; such a fleet is marked
    DriftLoopBackOff, and its replicas are replaced less and less often.

    Parameters
    ----------
    fleet : Fleet
    policy : HealingPolicy, optional
        ``HealingPolicy()`` where left out.
    drift : bool, default False
        Replace replicas that differ from their image, too.
    ignore : sequence of str
        Patterns of paths that may differ, besides :data:`dockerlab.drift.IGNORED`, and like those.

    Raises
    ------
    BadInputError
        Where `ignore` is a single text, or drift is not watched.

    Examples
    --------
    >>> with Reconciler(web) as healer:  # doctest: +SKIP
    ...     lab.client.api.kill(web.status().replicas[0].id)
    ...     time.sleep(5)
    >>> healer.events  # doctest: +SKIP
    >>> with Reconciler(web, drift=True, ignore=["/srv/cache"]) as healer:  # doctest: +SKIP
    ...     lab.client.containers.get(web.status().replicas[0].name).exec_run("touch /etc/motd")
    ...     time.sleep(5)
    """

    title = "heal"

    def __init__(
        self, fleet: Fleet, policy: HealingPolicy | None = None, *, drift: bool = False, ignore: Sequence[str] = ()
    ) -> None:
        if isinstance(ignore, str):
            raise BadInputError(f"ignore is the text {ignore!r}.", f"Give a list: ignore=[{ignore!r}].")
        if ignore and not drift:
            raise BadInputError("ignore is about drift, which is not watched.", "Add drift=True.")
        self.policy = policy or HealingPolicy()
        self.drift = drift
        self.ignore = tuple(ignore)
        super().__init__(fleet)

    def _clear(self) -> None:
        super()._clear()
        self._events: list[HealEvent] = []
        self._history = History()
        self._state: HealthState = "Healthy"
        self._waits: set[tuple[str, str, float | None]] = set()
        self._attempts = 0
        self._files: Files | None = None
        self._files_due_s = 0.0

    @property
    def events(self) -> HealEvents:
        """What was seen and done so far, in order of time."""
        return HealEvents(list(self._events))

    @property
    def state(self) -> HealthState:
        """Healthy, Healing, CrashLoopBackOff or DriftLoopBackOff."""
        return self._state

    @property
    def failures(self) -> int:
        """How many failures there were in a row."""
        return self._history.ends.failures

    @property
    def exit_code(self) -> int | None:
        """The last exit code of a replica, where one exited since the fleet was well."""
        return self._history.exit_code

    def _work(self) -> None:
        pause_s = 0.0
        while not self._stop.wait(pause_s) and not self.fleet.removed:
            pause_s = self._turn()
        if self.fleet.removed:
            self._note("", "removed", "ended", REMOVED)

    def _turn(self) -> float:
        """Look, and heal where something is to be done; give the seconds until the next look."""
        try:
            verdict = self._judge()
            if verdict.acts:
                # What is under way in another thread ends first; what it left is looked at anew.
                with self.fleet.turn():
                    verdict = self._judge()
                    if verdict.acts and not self._stop.is_set():
                        self._heal(verdict)
        except RouterError as error:
            return self._missed("router", error)
        except (EngineError, PortTakenError) as error:
            return self._missed("engine" if isinstance(error, EngineError) else "router", error)
        except FleetError:
            if self.fleet.removed:
                return 0.0
            raise
        self._away, self._attempts = None, 0
        left_s = min([d.until_s - time.monotonic() for d in verdict.decisions if d.until_s is not None], default=1e9)
        return min(self.policy.interval_s, max(left_s, _SHORTEST_S))

    def _judge(self) -> Verdict:
        status = self.fleet.status()
        if self.drift and status.phase != "Progressing":
            self._files = self._look_into(status)
        verdict = decide(self.policy, self._history, status, time.monotonic(), self._files)
        self._history = verdict.history
        self._set_state(verdict.state)
        for decision in verdict.decisions:
            self._note_wait(decision)
        if verdict.state == "Healthy":
            self._waits.clear()
        return verdict

    def _look_into(self, status: FleetStatus) -> Files:
        """Look into the files of new replicas, and from time to time into those of all."""
        begun_s = time.monotonic()
        known = self._files if self._files and begun_s < self._files_due_s else Files(begun_s)
        there = [row.name for row in status.replicas if row.state == "running" and not row.leaving]
        new = [name for name in there if name not in known.changes]
        found = self.fleet.drifted(*new, ignore=self.ignore) if new else {}
        if known is not self._files:
            # Of a large fleet it takes long: never more than a fifth of the time.
            now_s = time.monotonic()
            self._files_due_s = now_s + max(self.policy.drift_interval_s, 4 * (now_s - begun_s))
        # Those that are new between two looks count from the look before, which can only make them seem younger.
        return replace(known, changes={**known.changes, **found})

    def _heal(self, verdict: Verdict) -> None:
        failure: FleetError | ImageError | None = None
        try:
            self.fleet.repair(*verdict.to_replace)
        except (RouterError, PortTakenError):
            raise
        except (FleetError, ImageError) as error:
            if self.fleet.removed:
                return
            failure = error
        for decision in verdict.decisions:
            if decision.action != "wait":
                done, cause = ("failed", failure.message) if failure else (_DONE[decision.action], decision.why)
                self._note(decision.replica, decision.seen, done, cause)
        code = failure.exit_code if isinstance(failure, ReplicaFailedError) else None
        now_s = time.monotonic()
        self._history = self._history.after(self.policy, now_s, failed=failure is not None, exit_code=code)

    def _missed(self, what: str, error: EngineError | FleetError) -> float:
        """Wait for an engine or a router that is away; a router is started anew."""
        self._set_state("Healing" if self._state == "Healthy" else self._state)
        if what == "router":
            try:
                self.fleet.repair()
            except (RouterError, PortTakenError, EngineError) as again:
                error = again
            except (FleetError, ImageError):
                # The next look sees what is wrong with the replicas, or that the fleet was removed.
                return _SHORTEST_S
            else:
                self._away, self._attempts = None, 0
                self._note("", "no router", "started", "The router did not answer.")
                return _SHORTEST_S
        self._away = error
        self._attempts += 1
        wait_s = self.policy.away_s(self._attempts)
        self._note("", f"no {what}", "waits", error.message, wait_s)
        return wait_s

    def _set_state(self, state: HealthState) -> None:
        before, self._state = self._state, state
        if state == before:
            return
        if before == "CrashLoopBackOff":
            self._note("", _LOOPS[before], "cleared", "The replicas run well, or another revision is wanted.")
        if before == "DriftLoopBackOff":
            self._note("", _LOOPS[before], "cleared", "The replicas stay as their image, or another one is wanted.")
        if state == "CrashLoopBackOff":
            code = "" if self.exit_code is None else f", the last exit code is {self.exit_code}"
            self._note("", _LOOPS[state], "marked", f"{state}: {self.failures} failures in a row{code}.")
        if state == "DriftLoopBackOff":
            self._note("", _LOOPS[state], "marked", f"{state}: {self._drift_loop()}")

    def _drift_loop(self) -> str:
        changes = self._files.changes.values() if self._files else ()
        paths = told(sorted({change for row in changes for change in row}, key=lambda change: change.path))
        return (
            f"{self._history.drifts.failures} times in a row replicas differed soon after they were made ({paths}). "
            "It seems that their own program writes there: let it write below /tmp, /run or a VOLUME of its image, or "
            "name the path in ignore=[...]."
        )

    def _note_wait(self, decision: Decision) -> None:
        key = (decision.replica, decision.seen, decision.until_s and round(decision.until_s, 1))
        if decision.action == "wait" and key not in self._waits:
            self._waits.add(key)
            wait_s = 0.0 if decision.until_s is None else max(0.0, decision.until_s - time.monotonic())
            self._note(decision.replica, decision.seen, "waits", decision.why, wait_s)

    def _note(self, replica: str, seen: str, done: str, cause: str, wait_s: float = 0.0) -> None:
        self._events.append(HealEvent(time.time(), replica, seen, done, cause, wait_s))

    def __repr__(self) -> str:
        running = "running" if self.running else "not running"
        code = "" if self.exit_code is None else f", exit code {self.exit_code}"
        row = f" ({self.failures} failures in a row{code})" if self.failures else ""
        return f"<Reconciler of {self.fleet.name}: {running}, {self._state}{row}, {len(self._events)} events>"

    def _repr_html_(self) -> str:
        return f"<p>{escape(repr(self))}</p>{self.events._repr_html_()}"

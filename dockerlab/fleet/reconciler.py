"""The reconciler at work: look at a fleet, ask :mod:`dockerlab.fleet.heal`, repair."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from html import escape
from types import TracebackType
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
from dockerlab.fleet.heal import Decision, HealingPolicy, HealthState, History, Verdict, decide
from dockerlab.fleet.worker import Worker

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


class HealEvents(tuple[HealEvent, ...]):
    """The log of a reconciler: a tuple that shows itself as a table."""

    __slots__ = ()

    def _rows(self) -> list[tuple[str, ...]]:
        return [(f"{e.time_s - self[0].time_s:.1f} s", e.replica or "-", e.seen, e.done, e.cause) for e in self]

    def __str__(self) -> str:
        if not self:
            return "Nothing had to be healed."
        head = ("time", "replica", "seen", "done", "cause")
        return "\n".join(
            f"{when:>8}  {name:<28} {seen:<12} {done:<10} {cause}"
            for when, name, seen, done, cause in (head, *self._rows())
        )

    __repr__ = __str__

    def _repr_html_(self) -> str:
        if not self:
            return "<p>Nothing had to be healed.</p>"
        body = "".join(
            "<tr>" + "".join(f'<td style="text-align:left">{escape(cell)}</td>' for cell in row) + "</tr>"
            for row in self._rows()
        )
        names = ("time", "replica", "seen", "done", "cause")
        head = "".join(f'<th scope="col">{name}</th>' for name in names)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


class Reconciler:
    """Replaces dead and unhealthy replicas of a fleet while a block of code runs.

    A replica that fails is a failure to count, an engine or a router that is away is waited for (a router is started
    anew), and a fleet that is removed ends the work. An error of any other kind, and an engine or router that is still
    away, is raised at the end of the block.

    Parameters
    ----------
    fleet : Fleet
    policy : HealingPolicy, optional
        ``HealingPolicy()`` where left out.

    Examples
    --------
    >>> with Reconciler(web) as healer:  # doctest: +SKIP
    ...     lab.client.api.kill(web.status().replicas[0].id)
    ...     time.sleep(5)
    >>> healer.events  # doctest: +SKIP
    """

    def __init__(self, fleet: Fleet, policy: HealingPolicy | None = None) -> None:
        self.fleet = fleet
        self.policy = policy or HealingPolicy()
        self._thread: Worker | None = None
        self._clear()

    def _clear(self) -> None:
        self._stop = threading.Event()
        self._events: list[HealEvent] = []
        self._history = History()
        self._state: HealthState = "Healthy"
        self._waits: set[tuple[str, str, float | None]] = set()
        self._error: BaseException | None = None
        self._away: EngineError | FleetError | None = None
        self._attempts = 0

    @property
    def events(self) -> HealEvents:
        """What was seen and done so far, in order of time."""
        return HealEvents(list(self._events))

    @property
    def state(self) -> HealthState:
        """Healthy, Healing or CrashLoopBackOff."""
        return self._state

    @property
    def failures(self) -> int:
        """How many failures there were in a row."""
        return self._history.failures

    @property
    def exit_code(self) -> int | None:
        """The last exit code of a replica, where one exited since the fleet was well."""
        return self._history.exit_code

    @property
    def running(self) -> bool:
        """Whether it is at work."""
        return self._thread is not None and self._thread.working

    def __enter__(self) -> Reconciler:
        if self._thread is not None:
            raise BadInputError("This reconciler is running already.", "Make another one with dl.Reconciler(...).")
        self._clear()
        self._thread = Worker(self._run, f"heal {self.fleet.name}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stopped = self._end()
        if kind is not None:
            return  # the block's own error is the one to see
        failure = stopped or self._error or self._away
        if failure is not None:
            raise failure

    def _end(self) -> KeyboardInterrupt | None:
        """End the thread, after the repair that is under way: half a step cannot be left behind, even by Stop."""
        self._stop.set()
        stopped = self._thread.wait() if self._thread else None
        self._thread = None
        return stopped

    def _run(self) -> None:
        try:
            pause_s = 0.0
            while not self._stop.wait(pause_s):
                pause_s = self._turn()
                if self.fleet.removed:
                    self._away = None
                    self._note("", "removed", "ended", "The fleet has been removed.")
                    return
        except BaseException as error:  # noqa: BLE001 - it belongs to the thread that has the block
            self._error = error

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
        verdict = decide(self.policy, self._history, status, time.monotonic())
        self._history = verdict.history
        self._set_state(verdict.state)
        for decision in verdict.decisions:
            self._note_wait(decision)
        if verdict.state == "Healthy":
            self._waits.clear()
        return verdict

    def _heal(self, verdict: Verdict) -> None:
        acting = [decision for decision in verdict.decisions if decision.action != "wait"]
        old = {row.name for row in self.fleet.status().replicas}
        failure: FleetError | ImageError | None = None
        try:
            self.fleet.repair(*verdict.unhealthy)
        except (RouterError, PortTakenError):
            raise
        except (FleetError, ImageError) as error:
            if self.fleet.removed:
                return
            failure = error
        # One that was there before and stays unhealthy says nothing about the new ones: repair() has removed it.
        other = isinstance(failure, ReplicaFailedError) and failure.replica in old - set(verdict.unhealthy)
        for decision in acting:
            if failure and not other:
                self._note(decision.replica, decision.seen, "failed", failure.message)
            else:
                self._note(decision.replica, decision.seen, _DONE[decision.action], decision.why)
        code = failure.exit_code if isinstance(failure, ReplicaFailedError) else None
        if other and isinstance(failure, ReplicaFailedError):
            self._note(failure.replica, "unhealthy", "removed", failure.message)
        self._history = self._history.after(
            self.policy, time.monotonic(), failed=failure is not None and not other, exit_code=code
        )

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
        looping = "CrashLoopBackOff"
        if state == looping and self._state != looping:
            history = self._history
            code = "" if history.exit_code is None else f", the last exit code is {history.exit_code}"
            self._note("", "crash loop", "marked", f"{looping}: {history.failures} failures in a row{code}.")
        elif self._state == looping and state != looping:
            self._note("", "crash loop", "cleared", "The replicas run well, or another revision is wanted.")
        self._state = state

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

"""Carrying plans out: look, ask :mod:`dockerlab.fleet.plan` for the next steps, do them side by side, look again."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from dockerlab.errors import DockerlabError, EngineLostError
from dockerlab.fleet.model import Event, Replica, Revision, Traffic
from dockerlab.fleet.plan import plan
from dockerlab.fleet.progress import Progress
from dockerlab.fleet.replicas import WORKERS, Replicas
from dockerlab.fleet.roster import Roster, Tracked
from dockerlab.fleet.steps import Goal, Plan, Step
from dockerlab.router import RuntimeApi

POLL_S = 0.02

Emit = Callable[[Event], None]


class Driver:
    """Moves one fleet towards a goal.

    Parameters
    ----------
    roster : Roster
        What is known of the replicas.
    replicas : Replicas
        The engine's side.
    router : RuntimeApi
        The router's side.
    progress : Progress
        How far a rollout has come; changed in place.
    save : callable
        Writes it down.
    """

    def __init__(
        self,
        roster: Roster,
        replicas: Replicas,
        router: RuntimeApi,
        progress: Progress,
        save: Callable[[], None],
    ) -> None:
        self._roster = roster
        self._replicas = replicas
        self._router = router
        self._progress = progress
        self._save = save
        self._futures: dict[Future[None], str] = {}

    def run(self, goal: Goal, revisions: Mapping[int, Revision], emit: Emit, halt: threading.Event) -> Plan:
        """Work towards `goal` until it is reached or cannot be.

        Parameters
        ----------
        goal : Goal
        revisions : mapping of int to Revision
            At least the goal's own.
        emit : callable
            Called with each event, in this thread or a worker's.
        halt : threading.Event
            Set by somebody who wants a pause.

        Returns
        -------
        Plan
            Done, or paused, or with a failure.

        Raises
        ------
        DockerlabError
            Where the engine or the router refuses a step. What is under way is finished first.
        KeyboardInterrupt
            After Stop; the fleet is left whole: replicas serve or are gone.
        """
        self._futures.clear()
        self._roster.begin()
        with ThreadPoolExecutor(WORKERS, thread_name_prefix="dockerlab") as pool:
            try:
                while True:
                    now = plan(goal, self._roster.look())
                    if now.failure:
                        self._finish()
                        return now
                    if (now.done or now.paused) and not self._futures:
                        return now
                    if halt.is_set():
                        self._leave_whole(emit)
                        return Plan(waiting_for="somebody to resume, promote or abort it", paused=True)
                    for step in now.steps:
                        self._take(step, revisions, emit, pool)
                    self._pause()
            except BaseException:
                self._leave_whole(emit)
                raise

    def _leave_whole(self, emit: Emit) -> None:
        for future in self._futures:
            future.cancel()
        self._finish()
        with contextlib.suppress(DockerlabError):
            self._roster.look()  # Stop may have come after the router did something and before it was noted here
        self._settle(emit)

    def settle(self, emit: Emit, *, bear: bool = False) -> None:
        """Leave the fleet whole after a failure: what is healthy serves, the rest is removed; see ``Goal.bear``."""
        self._roster.look(anew=True)
        self._settle(emit, bear=bear)

    def _pause(self) -> None:
        """Wait for a step to end, or a moment; let the error of a failed step out."""
        if not self._futures:
            time.sleep(POLL_S)
            return
        done, _ = wait(self._futures, timeout=POLL_S, return_when=FIRST_COMPLETED)
        for future in done:
            del self._futures[future]
            if not future.cancelled():
                future.result()

    # Acting

    def _take(self, step: Step, revisions: Mapping[int, Revision], emit: Emit, pool: ThreadPoolExecutor) -> None:
        if step.action == "start":
            name = self._replicas.new_name()
            if self._progress.pools.get(step.revision) != step.pool:
                self._progress.pools[step.revision] = step.pool
                self._save()
            made = Replica(name, step.revision, state="creating", traffic="none", pool=step.pool, busy=True)
            begun = self._roster.put(made, mine=True)
            self._futures[pool.submit(self._start, begun, revisions[step.revision], step, emit)] = name
            return
        if step.action in ("weight", "advance"):
            self._go_on(step, emit)
            return
        name = step.replica
        tracked = self._roster[name]
        if step.action == "admit":
            self._admit(tracked, step, emit)
        elif step.action == "drain":
            self._router.drain(name, tracked.replica.pool)
            self._roster.change(tracked, traffic="drain", leaving=True, drained_since_s=time.monotonic())
            self._emit(emit, "drained", f"{name} gets no new requests", step, name)
        else:
            self._roster.exits += tracked.mine and tracked.replica.state == "exited"
            self._roster.change(tracked, leaving=True, busy=True)
            self._futures[pool.submit(self._remove, tracked, step, emit)] = name

    def _go_on(self, step: Step, emit: Emit) -> None:
        """Change the weight, or go on to the next step of a canary. The router first, what is kept second."""
        progress = self._progress
        if step.action == "weight":
            self._router.weigh(step.green)
            progress.green = step.green
            self._emit(emit, "weight", f"{step.percent} % of the requests go to revision {step.revision}", step, "")
        else:
            progress.step += 1
            self._emit(emit, "step", f"on to step {progress.step + 1}", step, "")
        progress.promoted = False
        self._save()
        self._roster.mark()

    def _admit(self, tracked: Tracked, step: Step, emit: Emit) -> None:
        self._router.admit(step.replica, tracked.replica.pool)
        self._roster.change(tracked, traffic="ready", ever_ready=True, leaving=False, drained_since_s=None)
        self._roster.moved()
        self._emit(emit, "ready", f"{step.replica} gets requests", step, step.replica)

    def _start(self, tracked: Tracked, revision: Revision, step: Step, emit: Emit) -> None:
        name = tracked.replica.name
        try:
            tracked.container = container = self._replicas.start(name, revision)
            if container.address:
                self._router.add(name, container.address, tracked.replica.pool)
        except BaseException:
            if tracked.container is None:
                self._roster.forget(name)
            else:
                self._roster.change(tracked, busy=False)
            raise
        self._emit(emit, "started", f"{name} runs {revision.image}", step, name)
        traffic: Traffic = "drain" if container.address else "none"
        self._roster.change(tracked, state=container.state, exit_code=container.exit_code, traffic=traffic, busy=False)

    def _remove(self, tracked: Tracked, step: Step, emit: Emit) -> None:
        name = tracked.replica.name
        self._router.remove(name, tracked.replica.pool)
        if tracked.container:
            self._replicas.remove(tracked.container.id)
        self._roster.forget(name)
        self._roster.moved()
        self._emit(emit, "removed", f"{name} is gone", step, name)

    def _emit(self, emit: Emit, kind: str, text: str, step: Step, name: str) -> None:
        emit(Event(time.time(), kind, text, name, step.revision, step.cause))

    # Leaving it whole

    def _finish(self) -> None:
        """Wait for the steps that are under way; their errors have no one left to tell."""
        wait(self._futures)
        self._futures.clear()

    def _settle(self, emit: Emit, *, bear: bool = False) -> None:
        """Leave every replica serving or gone: what is healthy serves (again), the rest is removed."""
        for tracked in self._roster.all():
            replica = tracked.replica
            step = Step("remove", replica.name, replica.revision, "the work was stopped")
            try:
                # A router that was just started has not checked yet what served before: that is no reason to remove it.
                unchecked = replica.health == "starting" and not tracked.mine
                borne = bear and replica.ever_ready and replica.health == "unhealthy" and not replica.leaving
                if replica.state != "running" or not (replica.health == "healthy" or unchecked or borne):
                    self._remove(tracked, step, emit)
                elif not borne and (replica.traffic != "ready" or replica.leaving):
                    self._roster.change(tracked, busy=False)
                    self._put_back(tracked, step, emit)
            except EngineLostError:
                return  # the next look finds the containers by their labels
            except DockerlabError:
                continue

    def _put_back(self, tracked: Tracked, step: Step, emit: Emit) -> None:
        """Give a replica traffic again, also where it was taken out of the router already."""
        if tracked.container and step.replica not in self._router.servers():
            self._router.add(step.replica, tracked.container.address, tracked.replica.pool)
        self._admit(tracked, step, emit)

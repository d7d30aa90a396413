"""Carrying plans out: look, ask :mod:`dockerlab.fleet.plan` for the next steps, do them side by side, look again."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import Any

from dockerlab.errors import DockerlabError, EngineLostError
from dockerlab.fleet.analysis import Measured
from dockerlab.fleet.model import Event, Pool, Position, Replica, Revision, Snapshot, Traffic
from dockerlab.fleet.plan import plan
from dockerlab.fleet.progress import Progress
from dockerlab.fleet.replicas import WORKERS, Container, Replicas
from dockerlab.fleet.steps import Goal, Plan, Step
from dockerlab.router import Look, RuntimeApi, Server

POLL_S = 0.02
RELIST_S = 0.5

Emit = Callable[[Event], None]


@dataclass
class _Tracked:
    """What the driver knows of one replica, beside what the engine and the router say."""

    replica: Replica
    container: Container | None = None
    mine: bool = False  # started by the present run


class Driver:
    """Moves one fleet towards a goal.

    Parameters
    ----------
    replicas : Replicas
        The engine's side.
    router : RuntimeApi
        The router's side.
    progress : Progress
        How far a rollout has come; changed in place.
    save : callable
        Writes it down.
    clock : callable
        Steady seconds, for durations.
    wall_clock : callable
        Seconds since the epoch, for events.
    """

    def __init__(
        self,
        replicas: Replicas,
        router: RuntimeApi,
        progress: Progress,
        save: Callable[[], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._replicas = replicas
        self._router = router
        self._progress = progress
        self._save = save
        self._clock = clock
        self._wall_clock = wall_clock
        self._lock = threading.Lock()  # guards every change of a tracked replica: workers and the loop both make them
        self._tracked: dict[str, _Tracked] = {}
        self._futures: dict[Future[None], str] = {}
        self._listed_s = float("-inf")
        self._progress_s = clock()
        self._exits = 0
        self._since_s = clock()
        self._before: dict[Pool, Measured] = {}  # what had been counted when the present step began

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
        self._progress_s = self._clock()
        self._listed_s = float("-inf")
        self._start_afresh()
        self._mark()
        with ThreadPoolExecutor(WORKERS, thread_name_prefix="dockerlab") as pool:
            try:
                while True:
                    snapshot = self._look()
                    now = plan(goal, snapshot)
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
            self._look()  # Stop may have come after the router did something and before it was noted here
        self._settle(emit)

    def _start_afresh(self) -> None:
        """Drop what an earlier run that was cut short left: nothing of it is under way any more."""
        self._futures.clear()
        with self._lock:
            self._tracked = {name: tracked for name, tracked in self._tracked.items() if tracked.container}
            for tracked in self._tracked.values():
                tracked.replica = replace(tracked.replica, busy=False)
                tracked.mine = False
        self._exits = 0

    def settle(self, emit: Emit, *, bear: bool = False) -> None:
        """Leave the fleet whole after a failure: what is healthy serves, the rest is removed; see ``Goal.bear``."""
        self._listed_s = float("-inf")
        self._look()
        self._settle(emit, bear=bear)

    def available(self, pool: Pool | None = None) -> int:
        """Count the replicas that serve, in one pool or in both."""
        snapshot = self._look()
        return sum(replica.available(snapshot.now_s) and pool in (None, replica.pool) for replica in snapshot.replicas)

    def count(self, revision: int, pool: Pool) -> int:
        """Count the replicas of a revision in a pool, those that have ended too."""
        self._listed_s = float("-inf")
        return sum((replica.revision, replica.pool) == (revision, pool) for replica in self._look().replicas)

    def container_of(self, name: str) -> Container | None:
        """Give the container behind a replica, where there is one."""
        tracked = self._tracked.get(name)
        return tracked.container if tracked else None

    def replica_of(self, name: str) -> Replica | None:
        """Give what is known of a replica, where it is known."""
        tracked = self._tracked.get(name)
        return tracked.replica if tracked else None

    def replace_one(self, name: str) -> bool:
        """Make the next run put a new replica in the place of `name`; tell whether there is such a replica."""
        self._listed_s = float("-inf")
        self._look()
        tracked = self._tracked.get(name)
        if tracked:
            self._change(tracked, leaving=True)
        return tracked is not None

    # Looking

    def _look(self) -> Snapshot:
        now_s = self._clock()
        look = self._router.look()
        if now_s - self._listed_s >= RELIST_S:
            self._relist(look)
            self._listed_s = now_s
            look = self._router.look()  # it may have put some back or taken some out
        progress = self._progress
        with self._lock:
            for tracked in self._tracked.values():
                tracked.replica = merge(tracked.replica, look.servers.get(tracked.replica.name), now_s)
            return Snapshot(
                tuple(t.replica for t in self._tracked.values()),
                now_s,
                self._progress_s,
                exits=self._exits,
                green=look.green,
                position=Position(progress.step, self._since_s, progress.promoted),
                measured={pool: _since(self._before.get(pool), counted) for pool, counted in look.counted.items()},
            )

    def _mark(self) -> None:
        """Begin a step of the rollout: time and requests count from here."""
        self._since_s = self._progress_s = self._clock()
        self._before = self._router.look().counted

    def _relist(self, look: Look) -> None:
        """Bring what is tracked in line with the engine: adopt what a killed process left, notice what died."""
        servers = look.servers
        with self._lock:
            # Whatever a worker has in hand may change while the engine answers: only the settled ones are judged.
            known = set(self._tracked)
            settled = {name for name, tracked in self._tracked.items() if not tracked.replica.busy}
        listed = {c.name: c for c in self._replicas.list() if c.name in settled or c.name not in known}
        for name, container in listed.items():
            if name not in known:
                # Of one that ended while nobody looked it is not known whether it ever served: it is replaced, and if
                # its image is bad, the new one shows it.
                served = container.state == "exited" or (name in servers and servers[name].traffic == "ready")
                pool = servers[name].pool if name in servers else self._progress.pool_of(container.revision)
                self._put(name, Replica(name, container.revision, pool=pool, ever_ready=served))
            tracked = self._tracked[name]
            tracked.container = container
            # Created and never started: a process was killed between the two calls. Nothing is lost with it.
            leaving = tracked.replica.leaving or container.state == "created"
            self._change(tracked, state=container.state, exit_code=container.exit_code, leaving=leaving)
            server = servers.get(name)
            if server and container.state == "running" and server.address != container.address:
                # Restarted by hand: its free port is another one now.
                self._router.remove(name, server.pool)
                server = None
            if container.state == "running" and server is None and container.address:
                self._router.add(name, container.address, tracked.replica.pool)
        for name in settled - set(listed):
            self._forget(name)
            if name in servers:
                # Its address may be somebody else's soon.
                self._router.remove(name, servers[name].pool)
        for name in set(servers) - known - set(listed):
            self._router.remove(name, servers[name].pool)

    def _put(self, name: str, replica: Replica, *, mine: bool = False) -> None:
        with self._lock:
            self._tracked[name] = _Tracked(replica, mine=mine)

    def _change(self, tracked: _Tracked, **changes: Any) -> None:
        with self._lock:
            tracked.replica = replace(tracked.replica, **changes)

    def _forget(self, name: str) -> None:
        with self._lock:
            self._tracked.pop(name, None)

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
            self._put(name, made, mine=True)
            self._futures[pool.submit(self._start, name, revisions[step.revision], step, emit)] = name
            return
        if step.action in ("weight", "advance"):
            self._go_on(step, emit)
            return
        tracked = self._tracked[step.replica]
        name = step.replica
        if step.action == "admit":
            self._admit(tracked, step, emit)
        elif step.action == "drain":
            self._router.drain(name, tracked.replica.pool)
            self._change(tracked, traffic="drain", leaving=True, drained_since_s=self._clock())
            self._emit(emit, "drained", f"{name} gets no new requests", step, name)
        else:
            self._exits += tracked.mine and tracked.replica.state == "exited"
            self._change(tracked, leaving=True, busy=True)
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
        self._mark()

    def _admit(self, tracked: _Tracked, step: Step, emit: Emit) -> None:
        self._router.admit(step.replica, tracked.replica.pool)
        self._change(tracked, traffic="ready", ever_ready=True, leaving=False, drained_since_s=None)
        self._progress_s = self._clock()
        self._emit(emit, "ready", f"{step.replica} gets requests", step, step.replica)

    def _start(self, name: str, revision: Revision, step: Step, emit: Emit) -> None:
        tracked = self._tracked[name]
        try:
            tracked.container = container = self._replicas.start(name, revision)
            if container.address:
                self._router.add(name, container.address, tracked.replica.pool)
        except BaseException:
            if tracked.container is None:
                self._forget(name)
            else:
                self._change(tracked, busy=False)
            raise
        self._emit(emit, "started", f"{name} runs {revision.image}", step, name)
        traffic: Traffic = "drain" if container.address else "none"
        self._change(tracked, state=container.state, exit_code=container.exit_code, traffic=traffic, busy=False)

    def _remove(self, tracked: _Tracked, step: Step, emit: Emit) -> None:
        name = tracked.replica.name
        self._router.remove(name, tracked.replica.pool)
        if tracked.container:
            self._replicas.remove(tracked.container.id)
        self._forget(name)
        self._progress_s = self._clock()
        self._emit(emit, "removed", f"{name} is gone", step, name)

    def _emit(self, emit: Emit, kind: str, text: str, step: Step, name: str) -> None:
        emit(Event(self._wall_clock(), kind, text, name, step.revision, step.cause))

    # Leaving it whole

    def _finish(self) -> None:
        """Wait for the steps that are under way; their errors have no one left to tell."""
        wait(self._futures)
        self._futures.clear()

    def _settle(self, emit: Emit, *, bear: bool = False) -> None:
        """Leave every replica serving or gone: what is healthy serves (again), the rest is removed."""
        for tracked in list(self._tracked.values()):
            replica = tracked.replica
            step = Step("remove", replica.name, replica.revision, "the work was stopped")
            try:
                # A router that was just started has not checked yet what served before: that is no reason to remove it.
                unchecked = replica.health == "starting" and not tracked.mine
                borne = bear and replica.ever_ready and replica.health == "unhealthy" and not replica.leaving
                if replica.state != "running" or not (replica.health == "healthy" or unchecked or borne):
                    self._remove(tracked, step, emit)
                elif not borne and (replica.traffic != "ready" or replica.leaving):
                    self._change(tracked, busy=False)
                    self._put_back(tracked, step, emit)
            except EngineLostError:
                return  # the next look finds the containers by their labels
            except DockerlabError:
                continue

    def _put_back(self, tracked: _Tracked, step: Step, emit: Emit) -> None:
        """Give a replica traffic again, also where it was taken out of the router already."""
        if tracked.container and step.replica not in self._router.servers():
            self._router.add(step.replica, tracked.container.address, tracked.replica.pool)
        self._admit(tracked, step, emit)


def merge(replica: Replica, server: Server | None, now_s: float) -> Replica:
    """Put what the router says into what is known of a replica."""
    if replica.busy or server is None:
        return replica
    healthy = server.health == "healthy" and replica.state == "running"
    since_s = (replica.healthy_since_s if replica.healthy_since_s is not None else now_s) if healthy else None
    return replace(
        replica,
        health=server.health,
        traffic=server.traffic,
        pool=server.pool,
        sessions=server.sessions,
        healthy_since_s=since_s,
        ever_ready=replica.ever_ready or (healthy and server.traffic == "ready"),
    )


def _since(before: Measured | None, now: Measured) -> Measured:
    """Give what was counted since `before`; a router that was started anew counts from 0."""
    if before is None or now.requests < before.requests:
        return now
    return Measured(now.requests - before.requests, now.lost - before.lost, now.latency_s)

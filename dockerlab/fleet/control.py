"""Bringing one fleet to its record: its router, its replicas and the driver that moves them."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import docker

from dockerlab.connect import Engine
from dockerlab.errors import DockerlabError, EngineLostError, FleetError, PortTakenError, ReplicaFailedError
from dockerlab.fleet.apply import Driver, merge
from dockerlab.fleet.forecast import Forecast, forecast
from dockerlab.fleet.model import Event, FleetStatus, Phase, Position, Replica, ReplicaStatus, Revision, Snapshot
from dockerlab.fleet.replicas import FLEET_LABEL, Container, Replicas
from dockerlab.fleet.rollout import Rollout, RolloutStatus
from dockerlab.fleet.state import TIMELINE_LIMIT, FleetRecord
from dockerlab.fleet.steps import Failure, Goal, Plan
from dockerlab.fleet.strategies import Canary, RollingUpdate, Strategy, way_back
from dockerlab.ownership import OWNER_LABEL
from dockerlab.router import Look, Router, Server, find_router, open_router


@dataclass(frozen=True)
class Place:
    """Where a fleet lives.

    Parameters
    ----------
    engine : Engine
    lab : str
        Name of the lab.
    labels : mapping
        Labels by which the lab finds what is its own.
    made : mapping
        Labels of what it makes; those and perhaps more.
    folder : callable
        Makes and gives the private folder for the router's socket.
    save : callable
        Writes the lab's state file.
    collect : callable
        Removes images that no revision of the lab needs any more; gives their names.
    """

    engine: Engine
    lab: str
    labels: Mapping[str, str]
    made: Mapping[str, str]
    folder: Callable[[], Path]
    save: Callable[[], None]
    collect: Callable[[Collection[str]], Collection[str]]


@dataclass(frozen=True)
class _UnderWay:
    """A rollout that was begun: what its result needs."""

    before: int
    number: int
    strategy: Strategy
    started_s: float
    first_event: int


class Control:
    """Carries out what is asked of one fleet, and keeps its record. Knows nothing of turns and titles.

    Parameters
    ----------
    place : Place
    record : FleetRecord
        Changed in place, and saved.
    port : int or None
        Port of a new router on loopback; None takes a free one.
    ready_timeout_s : float
        Seconds without progress after which scaling has failed.
    """

    def __init__(self, place: Place, record: FleetRecord, *, port: int | None, ready_timeout_s: float) -> None:
        self._place = place
        self.record = record
        self._ready_timeout_s = ready_timeout_s
        self._events: list[Event] = []
        self._halt = threading.Event()
        self._connect(self._find_router() or self._new_router(port))

    @property
    def client(self) -> docker.DockerClient:
        """The client of the engine."""
        return self._place.engine.client

    def save(self) -> None:
        """Write the record."""
        self._place.save()

    def clear(self) -> None:
        """Remove what carries the labels of a fleet that is only now made: an attempt was cut off from the engine."""
        self._replicas.remove_all()

    def remove(self) -> None:
        """Remove the replicas and the router."""
        self._replicas.remove_all()
        self.router.stop()

    def mark_for_replacement(self, name: str) -> bool:
        """Make the next :meth:`reach_size` replace the replica `name`; tell whether there is such a one."""
        self._ensure_router()
        return self._driver.replace_one(name)

    def status(self, *, working: bool) -> FleetStatus:
        """Look at the engine and the router; `working` says that a change is under way."""
        record = self.record
        servers = self.router.api.servers()
        now_s = time.time()
        rows = [self._row(container, servers.get(container.name), now_s) for container in self._replicas.list()]
        rows.sort(key=lambda row: (row.revision, row.name))
        target = record.revisions[record.target]
        right = all(row.ready and row.revision == target.number for row in rows) and len(rows) == record.replicas
        rest: Phase = "Healthy" if right else "Paused" if record.half_way else "Degraded"
        phase: Phase = "Progressing" if working else rest
        url = f"http://127.0.0.1:{self.router.record.port}"
        return FleetStatus(record.name, url, record.replicas, target.number, target.image, phase, tuple(rows))

    def _row(self, container: Container, server: Server | None, now_s: float) -> ReplicaStatus:
        revision = self.record.revisions.get(container.revision)
        # Out of the router, but not yet gone: the driver still knows how it was.
        known = self._driver.replica_of(container.name)
        health = server.health if server else known.health if known else "starting"
        return ReplicaStatus(
            name=container.name,
            id=container.id,
            image=revision.image if revision else "",
            revision=container.revision,
            state=container.state,
            health="unhealthy" if container.state == "exited" else health,
            traffic=server.traffic if server else "none",
            address=container.address,
            sessions=server.sessions if server else 0,
            age_s=max(0.0, now_s - container.created_s),
            leaving=known.leaving if known else False,
            exit_code=container.exit_code,
        )

    def number(self, wanted: Revision) -> int:
        """Give the number of an equal revision, or the next one."""
        revisions = self.record.revisions
        for revision in revisions.values():
            if revision.same_as(wanted):
                # The name may have moved: an image can have several.
                revisions[revision.number] = replace(wanted, number=revision.number)
                return revision.number
        number = max(revisions) + 1
        revisions[number] = replace(wanted, number=number)
        return number

    def forecast(self, wanted: Revision, strategy: Strategy) -> Forecast:
        """Work out what a rollout would do; nothing is changed."""
        record = self.record
        known = [one.number for one in record.revisions.values() if one.same_as(wanted)]
        revision = replace(wanted, number=known[0] if known else max(record.revisions) + 1)
        revisions = {**record.revisions, revision.number: revision}
        goal = Goal(record.replicas, revision.number, strategy, strategy.progress_deadline_s, record.stop_grace_s)
        return forecast(
            replace(goal, stable=record.revision),
            self._picture(),
            title=f"{record.name} to revision {revision.number} ({revision.image}) by {type(strategy).__name__}",
            name=lambda number: f"{self._place.lab}-{record.name}-new{number}",
            commands=lambda step: self._replicas.commands(step, revisions[step.revision]),
        )

    def _picture(self) -> Snapshot:
        """Look at what is there without touching it."""
        look = self.router.api.look() if self.router.answers() else Look({}, self.record.progress.green, {})
        rows = []
        for container in self._replicas.list():
            replica = Replica(
                container.name,
                container.revision,
                state=container.state,
                pool=self.record.progress.pool_of(container.revision),
                ever_ready=True,
            )
            server = look.servers.get(container.name)
            rows.append(merge(replica, server, 0.0))
        progress = self.record.progress
        return Snapshot(tuple(rows), 0.0, green=look.green, position=Position(progress.step, 0.0, progress.promoted))

    def resize(self, replicas: int) -> None:
        """Want so many replicas, and get there; see :meth:`dockerlab.Fleet.scale`."""
        record = self.record
        if record.replicas != replicas:
            self.note("scaled", f"from {record.replicas} to {replicas} replicas", record.target)
        record.replicas = replicas
        self.save()
        self.reach_size()

    def reach_size(self, *, insist: bool = False) -> None:
        """Start what is missing, remove what is too many or dead; with `insist`, see :meth:`Fleet.repair`."""
        self._ensure_router()
        record = self.record
        # While a rollout is stopped half-way both revisions stay; otherwise what is of another one is a leftover.
        strategy = None if record.half_way else RollingUpdate(progress_deadline_s=self._ready_timeout_s)
        apart = record.progress.pool_of(record.target) != record.progress.pool_of(record.revision)
        # A canary that waits in a pool of its own is no part of what serves.
        revision = record.revision if apart else record.target
        goal = Goal(record.replicas, revision, strategy, self._ready_timeout_s, record.stop_grace_s, bear=insist)
        self._halt.clear()
        try:
            failure = self._driver.run(goal, record.revisions, self._emit, self._halt).failure
            if failure:
                error = self._explain(failure)
                self.note("failed", failure.reason, record.target)
                self._driver.settle(self._emit, bear=insist)
                raise error
        except EngineLostError:
            raise
        except BaseException:
            if insist:
                raise
            # Stopped, or a replica failed: what serves now is what is wanted, so that the fleet is whole as it stands.
            with contextlib.suppress(DockerlabError):
                record.replicas = self._driver.available()
                self.save()
            raise

    def halt(self) -> None:
        """Make the rollout that is under way pause."""
        self._halt.set()

    def promote(self, *, full: bool) -> Rollout:
        """Go on where a rollout waits for a person; with `full`, past every step that is left."""
        record = self.record
        record.progress.promoted = True
        if full and isinstance(record.strategy, Canary):
            record.progress.step = len(record.strategy.steps)
        return self.resume()

    def resume(self) -> Rollout:
        """Go on with a rollout that was stopped."""
        record = self.record
        return self.deploy(record.target, record.strategy or RollingUpdate())

    def abort(self) -> Rollout:
        """Go back to the revision before the rollout that was stopped."""
        record = self.record
        strategy = record.strategy or RollingUpdate()
        under_way = _UnderWay(record.revision, record.target, strategy, time.time(), len(self._events))
        self._ensure_router()
        failure = Failure("It was aborted.")
        self._put_back(under_way, failure)
        self._end()
        return self._result(under_way, "RolledBack", failure.reason)

    def deploy(self, number: int, strategy: Strategy) -> Rollout:
        """Bring every replica to revision `number`; see :meth:`dockerlab.Fleet.rollout`."""
        self._ensure_router()
        record = self.record
        before = record.revision
        under_way = _UnderWay(before, number, strategy, time.time(), len(self._events))
        image = record.revisions[number].image
        if record.half_way and (record.target, record.strategy) == (number, strategy):
            self.note("resumed", f"on to revision {number} ({image})", number)
        elif number != before or record.half_way:
            record.progress.begin()
            self.note("rollout", f"to revision {number} ({image}) by {type(strategy).__name__}", number)
        record.target, record.strategy = number, strategy
        self.save()
        outcome = self._attempt(number, strategy, stable=before)
        if outcome.paused:
            self.note("paused", f"waiting for {outcome.waiting_for}", number)
            self.save()
            return self._result(under_way, "Paused", outcome.waiting_for)
        failure = outcome.failure
        if failure:
            self._put_back(under_way, failure)
        else:
            if record.history[-1] != number:
                record.deployed(number)
                self.note("complete", f"all replicas run revision {number} ({image})", number)
            record.revision = number
        self._end()
        if failure:
            return self._result(under_way, "RolledBack", failure.reason)
        return self._result(under_way, "Complete", "")

    def _end(self) -> None:
        """Note that no rollout is under way any more."""
        record = self.record
        record.strategy = None
        record.progress.begin()
        old = {n: r for n, r in record.revisions.items() if n not in {*record.history, record.target}}
        record.revisions = {n: r for n, r in record.revisions.items() if n not in old}
        record.progress.pools = {record.revision: record.progress.pool_of(record.revision)}
        self.save()
        for name in self._place.collect({revision.image_id for revision in old.values()}):
            text = f"the image {name} is gone: {record.history_limit} old revisions are kept"
            self.note("collected", text, record.revision)
        self.save()

    def _result(self, under_way: _UnderWay, status: RolloutStatus, reason: str) -> Rollout:
        return Rollout(
            fleet=self.record.name,
            from_revision=under_way.before,
            to_revision=under_way.number,
            strategy=type(under_way.strategy).__name__,
            status=status,
            reason=reason,
            started_s=under_way.started_s,
            ended_s=time.time(),
            events=tuple(self._events[under_way.first_event :]),
        )

    def _put_back(self, under_way: _UnderWay, failure: Failure) -> None:
        record, before = self.record, under_way.before
        self.note("failed", failure.reason, record.target)
        # A rollback is never rolled back: when it fails too, that is an error.
        back = failure if before == record.target else None
        record.target = before
        self.save()
        back = back or self._attempt(before, way_back(under_way.strategy)).failure
        if back:
            raise FleetError(
                f"{failure.reason} Going back to revision {before} failed as well: {back.reason}",
                f"Look at {record.name}.status() and roll a good image out.",
            )
        self.note("rolled back", f"to revision {before} ({record.revisions[before].image})", before)

    def _attempt(self, number: int, strategy: Strategy, *, stable: int = 0) -> Plan:
        record = self.record
        goal = Goal(record.replicas, number, strategy, strategy.progress_deadline_s, record.stop_grace_s, stable)
        halt = self._halt if stable else threading.Event()  # going back is not interrupted
        halt.clear()
        try:
            outcome = self._driver.run(goal, record.revisions, self._emit, halt)
        except ReplicaFailedError as error:
            return Plan(failure=Failure(error.message, error.replica))
        if outcome.failure and outcome.failure.replica:
            return Plan(failure=Failure(self._explain(outcome.failure).message, outcome.failure.replica))
        return outcome

    def _explain(self, failure: Failure) -> FleetError:
        record = self.record
        container = self._driver.container_of(failure.replica)
        if container is None:
            return FleetError(failure.reason, f"Look at {record.name}.status(), and run the cell again.")
        code, logs = self._replicas.last_words(container.id)
        target = record.revisions[record.target]
        silent = f" Its {target.health_path} has not answered with success on port {target.target_port}."
        reason = failure.reason + (silent if code is None else "")
        return ReplicaFailedError(reason, replica=failure.replica, exit_code=code, logs=logs)

    def _ensure_router(self) -> None:
        """Start the router anew where it has died; its servers are put back with the next look."""
        if not self.router.answers():
            self._connect(self._find_router() or self._new_router(None))

    def _connect(self, router: Router) -> None:
        place, record = self._place, self.record
        self.router = router
        self._replicas = Replicas(
            place.engine,
            {**place.labels, FLEET_LABEL: record.name},
            made=place.made,
            prefix=f"{place.lab}-{record.name}",
            network=router.record.network,
            stop_grace_s=record.stop_grace_s,
            init=record.init,
        )
        self._driver = Driver(self._replicas, router.api, record.progress, self.save)

    def _find_router(self) -> Router | None:
        """Give the router of the record, started again on its port where it has died; None where there is none."""
        record = self.record.router
        if record is None:
            return None
        old = find_router(self._place.engine, record)
        if old.answers():
            return old
        old.stop()
        try:
            return self._new_router(record.port)
        except PortTakenError:
            if record.port_chosen:
                raise
            # Ports that nobody chose come from the same range as those of containers: it may be somebody's by now.
            return None

    def _new_router(self, port: int | None) -> Router:
        place, record = self._place, self.record
        router = open_router(
            place.engine,
            place.folder(),
            place.made,
            name=f"{place.lab}-{record.name}-router-{place.labels[OWNER_LABEL][:4]}",
            fleet=record.name,
            port=port,
            health_path=record.revisions[record.target].health_path,
            green=record.progress.green,
        )
        chosen = bool(record.router.port_chosen) if record.router else port is not None
        record.router = router.record = replace(router.record, port_chosen=chosen)
        self.save()
        return router

    def note(self, kind: str, text: str, revision: int) -> None:
        """Add an event of the whole fleet to the timeline."""
        self._emit(Event(time.time(), kind, text, "", revision))

    def _emit(self, event: Event) -> None:
        self._events.append(event)
        self.record.timeline.append(event)
        del self.record.timeline[:-TIMELINE_LIMIT]

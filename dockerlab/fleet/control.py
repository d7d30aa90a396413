"""Bringing one fleet to what is asked of it: its size, and its rollouts."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import docker

from dockerlab.drift.model import Change
from dockerlab.errors import DockerlabError, EngineLostError, FleetError, ReplicaFailedError
from dockerlab.fleet import seen
from dockerlab.fleet.forecast import Forecast
from dockerlab.fleet.model import FleetStatus, Revision
from dockerlab.fleet.rollout import Rollout, RolloutStatus
from dockerlab.fleet.site import Place, Site
from dockerlab.fleet.state import FleetRecord
from dockerlab.fleet.steps import Failure, Goal, Plan
from dockerlab.fleet.strategies import Canary, RollingUpdate, Strategy, way_back
from dockerlab.router import Router


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
        self.record = record
        self._site = Site(place, record, port=port)
        self._ready_timeout_s = ready_timeout_s
        self._halt = threading.Event()

    @property
    def client(self) -> docker.DockerClient:
        """The client of the engine."""
        return self._site.place.engine.client

    @property
    def router(self) -> Router:
        """The router, as it is now: one that died is replaced by another."""
        return self._site.router

    def status(self, *, working: bool) -> FleetStatus:
        """Look at the engine and the router; `working` says that a change is under way."""
        return seen.status(self._site, working=working)

    def names(self) -> list[str]:
        """Name the replicas that are there."""
        return sorted(container.name for container in self._site.replicas.list())

    def drifted(self, names: Collection[str], ignore: Sequence[str]) -> dict[str, tuple[Change, ...]]:
        """Give what each running replica has changed; of some or of all."""
        return seen.changes(self._site, names, ignore)

    def forecast(self, wanted: Revision, strategy: Strategy) -> Forecast:
        """Work out what a rollout would do; nothing is changed."""
        return seen.foresee(self._site, wanted, strategy)

    def clear(self) -> None:
        """Remove what carries the labels of a fleet that is only now made: an attempt was cut off from the engine."""
        self._site.replicas.remove_all()

    def remove(self) -> None:
        """Remove the replicas and the router."""
        self._site.replicas.remove_all()
        self._site.router.stop()

    def number(self, wanted: Revision) -> int:
        """Give the number of an equal revision, or the next one."""
        number = self.record.number_of(wanted)
        # Also where there is one: the name may have moved, as an image can have several.
        self.record.revisions[number] = replace(wanted, number=number)
        return number

    def resize(self, replicas: int) -> None:
        """Want so many replicas, and get there; see :meth:`dockerlab.Fleet.scale`."""
        record = self.record
        before = record.replicas
        if before != replicas:
            self._site.note("scaled", f"from {before} to {replicas} replicas", record.target)
        record.replicas = replicas
        self._site.save()
        self.reach_size(before=before)

    def reach_size(self, unwanted: Collection[str] = (), *, insist: bool = False, before: int = 0) -> None:
        """Start what is missing, remove what is too many or dead.

        Parameters
        ----------
        unwanted : collection of str
            Names of replicas that are to be replaced; those that are gone already are fine.
        insist : bool
            See :meth:`Fleet.repair`.
        before : int
            How many replicas were wanted until now, where that has changed: a revision that waits in a pool of its own
            grows and shrinks in the same proportion.
        """
        self._site.ensure_router()
        self._halt.clear()
        for goal in self._kept(insist=insist, before=before):
            self._reach(replace(goal, unwanted=frozenset(unwanted)))

    def _kept(self, *, insist: bool, before: int) -> list[Goal]:
        """Give what is to be there as long as no rollout goes on."""
        record = self.record
        base = Goal(record.replicas, record.target, None, self._ready_timeout_s, record.stop_grace_s, bear=insist)
        if not record.half_way:
            # What is of another revision is a leftover.
            return [replace(base, strategy=RollingUpdate(progress_deadline_s=self._ready_timeout_s))]
        old, new = (record.progress.pool_of(number) for number in (record.revision, record.target))
        if old == new:
            return [base]  # stopped half-way in one pool: both revisions stay
        if record.progress.weight(new) == 100:
            return [replace(base, pool=new)]
        there = self._site.roster.count(record.target, new)
        waiting = -(-there * record.replicas // before) if before else there
        return [replace(base, revision=record.revision, pool=old), replace(base, replicas=waiting, pool=new)]

    def _reach(self, goal: Goal) -> None:
        record = self.record
        try:
            failure = self._site.driver.run(goal, record.revisions, self._site.emit, self._halt).failure
            if failure:
                error = self._site.explain(failure)
                self._site.note("failed", failure.reason, goal.revision)
                self._site.driver.settle(self._site.emit, bear=goal.bear)
                raise error
        except EngineLostError:
            raise
        except BaseException:
            if goal.bear or (goal.pool and goal.revision == record.target and record.progress.weight(goal.pool) < 100):
                raise
            # Stopped, or a replica failed: what serves now is what is wanted, so that the fleet is whole as it stands.
            with contextlib.suppress(DockerlabError):
                record.replicas = self._site.roster.available(goal.pool)
                self._site.save()
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
        under_way = _UnderWay(record.revision, record.target, strategy, time.time(), len(self._site.events))
        self._site.ensure_router()
        failure = Failure("It was aborted.")
        self._put_back(under_way, failure)
        self._end()
        return self._result(under_way, "RolledBack", failure.reason)

    def deploy(self, number: int, strategy: Strategy) -> Rollout:
        """Bring every replica to revision `number`; see :meth:`dockerlab.Fleet.rollout`."""
        self._site.ensure_router()
        record = self.record
        before = record.revision
        under_way = _UnderWay(before, number, strategy, time.time(), len(self._site.events))
        image = record.revisions[number].image
        if record.half_way and (record.target, record.strategy) == (number, strategy):
            self._site.note("resumed", f"on to revision {number} ({image})", number)
        elif number != before or record.half_way:
            record.progress.begin()
            self._site.note("rollout", f"to revision {number} ({image}) by {type(strategy).__name__}", number)
        record.target, record.strategy = number, strategy
        self._site.save()
        outcome = self._attempt(number, strategy, stable=before)
        if outcome.paused:
            self._site.note("paused", f"waiting for {outcome.waiting_for}", number)
            self._site.save()
            return self._result(under_way, "Paused", outcome.waiting_for)
        failure = outcome.failure
        if failure:
            self._put_back(under_way, failure)
        else:
            if record.history[-1] != number:
                record.deployed(number)
                self._site.note("complete", f"all replicas run revision {number} ({image})", number)
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
        self._site.save()
        for name in self._site.place.collect({revision.image_id for revision in old.values()}):
            text = f"the image {name} is gone: {record.history_limit} old revisions are kept"
            self._site.note("collected", text, record.revision)
        self._site.save()

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
            events=tuple(self._site.events[under_way.first_event :]),
        )

    def _put_back(self, under_way: _UnderWay, failure: Failure) -> None:
        record, before = self.record, under_way.before
        self._site.note("failed", failure.reason, record.target)
        # A rollback is never rolled back: when it fails too, that is an error.
        back = failure if before == record.target else None
        record.target = before
        self._site.save()
        back = back or self._attempt(before, way_back(under_way.strategy)).failure
        if back:
            raise FleetError(
                f"{failure.reason} Going back to revision {before} failed as well: {back.reason}",
                f"Look at {record.name}.status() and roll a good image out.",
            )
        self._site.note("rolled back", f"to revision {before} ({record.revisions[before].image})", before)

    def _attempt(self, number: int, strategy: Strategy, *, stable: int = 0) -> Plan:
        record = self.record
        goal = Goal(record.replicas, number, strategy, strategy.progress_deadline_s, record.stop_grace_s, stable)
        # Going back is not interrupted, and does not wait until what was unhealthy before is well again.
        goal, halt = (goal, self._halt) if stable else (replace(goal, bear=True), threading.Event())
        halt.clear()
        try:
            outcome = self._site.driver.run(goal, record.revisions, self._site.emit, halt)
        except ReplicaFailedError as error:
            return Plan(failure=Failure(error.message, error.replica))
        if outcome.failure and outcome.failure.replica:
            return Plan(failure=Failure(self._site.explain(outcome.failure).message, outcome.failure.replica))
        return outcome

"""One fleet where it is: its engine's side, its router, the driver between them, and its record."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from dockerlab.connect import Engine
from dockerlab.errors import FleetError, PortTakenError, ReplicaFailedError
from dockerlab.fleet.apply import Driver
from dockerlab.fleet.model import Event
from dockerlab.fleet.replicas import FLEET_LABEL, Replicas
from dockerlab.fleet.roster import Roster
from dockerlab.fleet.state import TIMELINE_LIMIT, FleetRecord
from dockerlab.fleet.steps import Failure
from dockerlab.ownership import OWNER_LABEL
from dockerlab.router import Router, find_router, open_router


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


class Site:
    """A fleet's router, replicas and driver, made anew where the router has died.

    Parameters
    ----------
    place : Place
    record : FleetRecord
        Changed in place.
    port : int or None
        Port of a new router on loopback; None takes a free one.

    Attributes
    ----------
    router : Router
    replicas : Replicas
    roster : Roster
    driver : Driver
    events : list of Event
        What this process has seen; the record's timeline holds the last of them.
    """

    router: Router
    replicas: Replicas
    roster: Roster
    driver: Driver

    def __init__(self, place: Place, record: FleetRecord, *, port: int | None) -> None:
        self.place = place
        self.record = record
        self.events: list[Event] = []
        self._connect(self._find_router() or self._new_router(port))

    def save(self) -> None:
        """Write the record."""
        self.place.save()

    def note(self, kind: str, text: str, revision: int) -> None:
        """Add an event of the whole fleet to the timeline."""
        self.emit(Event(time.time(), kind, text, "", revision))

    def emit(self, event: Event) -> None:
        """Add an event to the timeline."""
        self.events.append(event)
        self.record.timeline.append(event)
        del self.record.timeline[:-TIMELINE_LIMIT]

    def explain(self, failure: Failure) -> FleetError:
        """Make an error of a failure, with the last words of the replica that shows it."""
        record = self.record
        tracked = self.roster.get(failure.replica)
        container = tracked.container if tracked else None
        if container is None:
            return FleetError(failure.reason, f"Look at {record.name}.status(), and run the cell again.")
        code, logs = self.replicas.last_words(container.id)
        target = record.revisions[record.target]
        silent = f" Its {target.health_path} has not answered with success on port {target.target_port}."
        reason = failure.reason + (silent if code is None else "")
        return ReplicaFailedError(reason, replica=failure.replica, exit_code=code, logs=logs)

    def ensure_router(self) -> None:
        """Start the router anew where it has died; its servers are put back with the next look."""
        if not self.router.answers():
            self._connect(self._find_router() or self._new_router(None))

    def _connect(self, router: Router) -> None:
        place, record = self.place, self.record
        self.router = router
        self.replicas = Replicas(
            place.engine,
            {**place.labels, FLEET_LABEL: record.name},
            made=place.made,
            prefix=f"{place.lab}-{record.name}",
            network=router.record.network,
            stop_grace_s=record.stop_grace_s,
            init=record.init,
        )
        self.roster = Roster(self.replicas, router.api, record.progress)
        self.driver = Driver(self.roster, self.replicas, router.api, record.progress, self.save)

    def _find_router(self) -> Router | None:
        """Give the router of the record, started again on its port where it has died; None where there is none."""
        record = self.record.router
        if record is None:
            return None
        old = find_router(self.place.engine, record)
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
        place, record = self.place, self.record
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

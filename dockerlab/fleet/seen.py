"""Looking at a fleet without touching it: how it is, and what a rollout would do."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import replace

from dockerlab.drift.look import drifted, side_by_side
from dockerlab.drift.model import Change
from dockerlab.fleet.forecast import Forecast, forecast
from dockerlab.fleet.model import FleetStatus, Phase, Position, Replica, ReplicaStatus, Revision, Snapshot
from dockerlab.fleet.replicas import Container
from dockerlab.fleet.roster import merge
from dockerlab.fleet.site import Site
from dockerlab.fleet.steps import Goal
from dockerlab.fleet.strategies import Strategy
from dockerlab.router import Look, Server


def status(site: Site, *, working: bool) -> FleetStatus:
    """Look at the engine and the router; `working` says that a change is under way."""
    record = site.record
    servers = site.router.api.servers()
    now_s = time.time()
    rows = [_row(site, container, servers.get(container.name), now_s) for container in site.replicas.list()]
    rows.sort(key=lambda row: (row.revision, row.name))
    target = record.revisions[record.target]
    right = all(row.ready and row.revision == target.number for row in rows) and len(rows) == record.replicas
    rest: Phase = "Healthy" if right else "Paused" if record.half_way else "Degraded"
    phase: Phase = "Progressing" if working else rest
    url = f"http://127.0.0.1:{site.router.record.port}"
    return FleetStatus(record.name, url, record.replicas, target.number, target.image, phase, tuple(rows))


def _row(site: Site, container: Container, server: Server | None, now_s: float) -> ReplicaStatus:
    revision = site.record.revisions.get(container.revision)
    # Out of the router, but not yet gone: the roster still knows how it was.
    tracked = site.roster.get(container.name)
    known = tracked.replica if tracked else None
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


def changes(site: Site, names: Collection[str], ignore: Sequence[str]) -> dict[str, tuple[Change, ...]]:
    """Give what each running replica has changed against its image; of some or of all."""
    there = [one for one in site.replicas.list() if one.state == "running" and (not names or one.name in names)]
    found = side_by_side(lambda one: drifted(site.place.engine.client, one.id, ignore=ignore), there)
    return {one.name: changed for one, changed in zip(there, found, strict=True)}


def foresee(site: Site, wanted: Revision, strategy: Strategy) -> Forecast:
    """Work out what a rollout would do; nothing is changed."""
    record = site.record
    revision = replace(wanted, number=record.number_of(wanted))
    revisions = {**record.revisions, revision.number: revision}
    goal = Goal(record.replicas, revision.number, strategy, strategy.progress_deadline_s, record.stop_grace_s)
    return forecast(
        replace(goal, stable=record.revision),
        _picture(site),
        title=f"{record.name} to revision {revision.number} ({revision.image}) by {type(strategy).__name__}",
        name=lambda number: f"{site.place.lab}-{record.name}-new{number}",
        commands=lambda step: site.replicas.commands(step, revisions[step.revision]),
    )


def _picture(site: Site) -> Snapshot:
    """Look at what is there without touching it."""
    shown = site.router.api.look() if site.router.answers() else Look({}, site.record.progress.green, {})
    rows = []
    for container in site.replicas.list():
        replica = Replica(
            container.name,
            container.revision,
            state=container.state,
            pool=site.record.progress.pool_of(container.revision),
            ever_ready=True,
        )
        server = shown.servers.get(container.name)
        rows.append(merge(replica, server, 0.0))
    progress = site.record.progress
    return Snapshot(tuple(rows), 0.0, green=shown.green, position=Position(progress.step, 0.0, progress.promoted))

"""What is known of a fleet's replicas: the engine's list, the router's servers, and what this process did to each."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from typing import Any

from dockerlab.fleet.analysis import Measured
from dockerlab.fleet.model import Pool, Position, Replica, Snapshot
from dockerlab.fleet.progress import Progress
from dockerlab.fleet.replicas import Container, Replicas
from dockerlab.router import Look, RuntimeApi, Server

RELIST_S = 0.5


@dataclass
class Tracked:
    """What is known of one replica.

    Attributes
    ----------
    replica : Replica
    container : Container or None
        None before it is made.
    mine : bool
        Started by the present run.
    """

    replica: Replica
    container: Container | None = None
    mine: bool = False


class Roster:
    """The replicas of one fleet.

    Parameters
    ----------
    replicas : Replicas
        The engine's side.
    router : RuntimeApi
        The router's side.
    progress : Progress
        How far a rollout has come; read only.

    Attributes
    ----------
    exits : int
        How many replicas of the present run have exited.
    """

    def __init__(self, replicas: Replicas, router: RuntimeApi, progress: Progress) -> None:
        self._replicas = replicas
        self._router = router
        self._progress = progress
        self._lock = threading.Lock()  # guards every change of a tracked replica: workers and the loop both make them
        self._tracked: dict[str, Tracked] = {}
        self._listed_s = float("-inf")
        self._progress_s = self._since_s = time.monotonic()
        self._before: dict[Pool, Measured] = {}  # what had been counted when the present step began
        self.exits = 0

    def begin(self) -> None:
        """Begin a run: drop what an earlier one that was cut short left, as nothing of it is under way any more."""
        with self._lock:
            self._tracked = {name: tracked for name, tracked in self._tracked.items() if tracked.container}
            for tracked in self._tracked.values():
                # Of one that ended before this run nobody says that it never served: it is replaced.
                served = tracked.replica.ever_ready or tracked.replica.state == "exited"
                tracked.replica = replace(tracked.replica, busy=False, ever_ready=served)
                tracked.mine = False
        self.exits = 0
        self._listed_s = float("-inf")
        self.mark()

    def mark(self) -> None:
        """Begin a step of the rollout: time and requests count from here."""
        self._since_s = self._progress_s = time.monotonic()
        self._before = self._router.look().counted

    def moved(self) -> None:
        """Note that something has moved: the progress deadline begins anew."""
        self._progress_s = time.monotonic()

    # Reading

    def look(self, *, anew: bool = False) -> Snapshot:
        """Ask the router, and now and then the engine; with `anew` the engine in any case."""
        now_s = time.monotonic()
        settled, look = self._settled(), self._router.look()
        if anew or now_s - self._listed_s >= RELIST_S:
            self._relist(look)
            self._listed_s = now_s
            settled, look = self._settled(), self._router.look()  # it may have put some back or taken some out
        progress = self._progress
        with self._lock:
            for name, tracked in self._tracked.items():
                if name in settled:  # of the others the router may have told something half done
                    tracked.replica = merge(tracked.replica, look.servers.get(name), now_s)
            return Snapshot(
                tuple(t.replica for t in self._tracked.values()),
                now_s,
                self._progress_s,
                exits=self.exits,
                green=look.green,
                position=Position(progress.step, self._since_s, progress.promoted),
                measured={pool: _since(self._before.get(pool), counted) for pool, counted in look.counted.items()},
            )

    def available(self, pool: Pool | None = None) -> int:
        """Count the replicas that serve, in one pool or in both."""
        snapshot = self.look()
        return sum(replica.available(snapshot.now_s) and pool in (None, replica.pool) for replica in snapshot.replicas)

    def count(self, revision: int, pool: Pool) -> int:
        """Count the replicas of a revision in a pool, those that have ended too."""
        return sum((replica.revision, replica.pool) == (revision, pool) for replica in self.look(anew=True).replicas)

    def get(self, name: str) -> Tracked | None:
        """Give what is known of a replica, where it is known."""
        return self._tracked.get(name)

    def __getitem__(self, name: str) -> Tracked:
        return self._tracked[name]

    def all(self) -> list[Tracked]:
        """Give all of them."""
        return list(self._tracked.values())

    # Writing

    def put(self, replica: Replica, *, mine: bool = False) -> Tracked:
        """Know one more."""
        with self._lock:
            tracked = self._tracked[replica.name] = Tracked(replica, mine=mine)
        return tracked

    def change(self, tracked: Tracked, **changes: Any) -> None:
        """Change fields of one, see :class:`dockerlab.fleet.model.Replica`."""
        with self._lock:
            tracked.replica = replace(tracked.replica, **changes)

    def forget(self, name: str) -> None:
        """Know one less."""
        with self._lock:
            self._tracked.pop(name, None)

    def _settled(self) -> set[str]:
        """Name those that no worker has in hand: only they are judged by what is asked for from now on."""
        with self._lock:
            return {name for name, tracked in self._tracked.items() if not tracked.replica.busy}

    def _relist(self, look: Look) -> None:
        """Bring what is tracked in line with the engine: adopt what a killed process left, notice what died."""
        servers = look.servers
        with self._lock:
            known = set(self._tracked)
        settled = self._settled()
        listed = {c.name: c for c in self._replicas.list() if c.name in settled or c.name not in known}
        for name, container in listed.items():
            if name not in known:
                # Of one that ended while nobody looked it is not known whether it ever served: it is replaced, and if
                # its image is bad, the new one shows it.
                served = container.state == "exited" or (name in servers and servers[name].traffic == "ready")
                pool = servers[name].pool if name in servers else self._progress.pool_of(container.revision)
                self.put(Replica(name, container.revision, pool=pool, ever_ready=served))
            tracked = self._tracked[name]
            tracked.container = container
            # Created and never started: a process was killed between the two calls. Nothing is lost with it.
            leaving = tracked.replica.leaving or container.state == "created"
            self.change(tracked, state=container.state, exit_code=container.exit_code, leaving=leaving)
            server = servers.get(name)
            if server and container.state == "running" and server.address != container.address:
                # Restarted by hand: its free port is another one now.
                self._router.remove(name, server.pool)
                server = None
            if container.state == "running" and server is None and container.address:
                self._router.add(name, container.address, tracked.replica.pool)
        for name in settled - set(listed):
            self.forget(name)
            if name in servers:
                # Its address may be somebody else's soon.
                self._router.remove(name, servers[name].pool)
        for name in set(servers) - known - set(listed):
            self._router.remove(name, servers[name].pool)


def merge(replica: Replica, server: Server | None, now_s: float) -> Replica:
    """Put what the router says into what is known of a replica."""
    if server is None:
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

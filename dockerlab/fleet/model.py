"""What a fleet is made of, as plain frozen values.

Nothing here talks to an engine. The acting modules fill these values in, :mod:`dockerlab.fleet.plan` reads them,
plots and panels show them.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from dockerlab.fleet.analysis import Measured

State = Literal["creating", "created", "running", "exited"]
Health = Literal["starting", "healthy", "unhealthy"]
Traffic = Literal["none", "drain", "ready", "maint"]
Pool = Literal["blue", "green"]
Phase = Literal["Healthy", "Progressing", "Paused", "Degraded"]


@dataclass(frozen=True)
class Revision:
    """One version of what a fleet runs: an image, pinned by id, and its configuration.

    Parameters
    ----------
    number : int
        Counts up from 1 within a fleet.
    image_id : str
        Full id of the image (``sha256:...``): the name may move on, the id cannot.
    image : str
        The name under which it was deployed, such as ``web:1``.
    env : tuple of (str, str)
        Environment variables, sorted by name.
    target_port : int
        Port on which the service listens inside the container.
    health_path : str
        Path that answers 2xx or 3xx when the replica is healthy.
    """

    number: int
    image_id: str
    image: str
    env: tuple[tuple[str, str], ...] = ()
    target_port: int = 80
    health_path: str = "/healthz"

    def same_as(self, other: Revision) -> bool:
        """Tell whether both stand for the same containers, whatever their numbers and names."""
        mine = (self.image_id, self.env, self.target_port, self.health_path)
        return mine == (other.image_id, other.env, other.target_port, other.health_path)


@dataclass(frozen=True)
class Replica:
    """One replica as it was when the snapshot was taken.

    Parameters
    ----------
    name : str
        Name of its container, and of its server in the router.
    revision : int
        Number of the revision that it was made from.
    state : {"creating", "created", "running", "exited"}
        State of the container; "creating" while the engine still makes it.
    health : {"starting", "healthy", "unhealthy"}
        What the router's check says.
    traffic : {"none", "drain", "ready", "maint"}
        What the router does with it: "ready" gets new requests, "drain" only ends those in flight.
    pool : {"blue", "green"}
        The router's group of servers that it is in.
    leaving : bool
        It has been told to go.
    busy : bool
        A step on it is under way.
    sessions : int
        Requests that it is answering now.
    healthy_since_s : float or None
        When the check first passed, on the snapshot's clock.
    drained_since_s : float or None
        When the router stopped sending it requests.
    ever_ready : bool
        It has served traffic before.
    exit_code : int or None
        Exit code of a container that has exited.
    """

    name: str
    revision: int
    state: State = "running"
    health: Health = "starting"
    traffic: Traffic = "drain"
    pool: Pool = "blue"
    leaving: bool = False
    busy: bool = False
    sessions: int = 0
    healthy_since_s: float | None = None
    drained_since_s: float | None = None
    ever_ready: bool = False
    exit_code: int | None = None

    def available(self, now_s: float, min_ready_s: float = 0.0) -> bool:
        """Tell whether it serves traffic and has been healthy for `min_ready_s` seconds."""
        if self.leaving or self.state != "running" or self.health != "healthy" or self.traffic != "ready":
            return False
        return self.healthy_since_s is not None and now_s - self.healthy_since_s >= min_ready_s


@dataclass(frozen=True)
class Position:
    """How far a rollout in steps has come: the part of it that engine and router cannot tell.

    Parameters
    ----------
    step : int
        Index of the canary's step.
    since_s : float
        When that step began, or the requests were switched, on the snapshot's clock.
    promoted : bool
        Somebody has said that it shall go on.
    """

    step: int = 0
    since_s: float = 0.0
    promoted: bool = False


@dataclass(frozen=True)
class Snapshot:
    """All replicas of a fleet at one moment.

    Parameters
    ----------
    replicas : tuple of Replica
    now_s : float
        The moment, in seconds of any steady clock.
    last_progress_s : float
        When a replica last became available or went away, on the same clock.
    exits : int
        How many replicas were started for the present goal and have exited since.
    green : int
        The share of the requests that the router sends to the pool "green", in percent; "blue" gets the rest.
    position : Position
    measured : dict of Pool to Measured
        What the router has counted in each pool since ``position.since_s``.
    """

    replicas: tuple[Replica, ...]
    now_s: float
    last_progress_s: float = 0.0
    exits: int = 0
    green: int = 0
    position: Position = Position()
    measured: Mapping[Pool, Measured] = field(default_factory=dict)

    def weight(self, pool: Pool) -> int:
        """Give the share of the requests that a pool gets, in percent."""
        return share(pool, self.green)


def share(pool: Pool, green: int) -> int:
    """Give the share of the requests that a pool gets, in percent, where the green one gets `green`."""
    return green if pool == "green" else 100 - green


@dataclass(frozen=True)
class Event:
    """Something that happened to a fleet, and why.

    Parameters
    ----------
    time_s : float
        Seconds since the epoch, the clock that traffic results use too.
    kind : str
        One of started, ready, drained, removed, weight, step, scaled, rollout, paused, resumed, failed, complete,
        collected, rolled back.
    text : str
        What happened, in a short sentence.
    replica : str
        The replica concerned, empty where it is the whole fleet.
    revision : int
        The revision concerned.
    cause : str
        Why it was done.
    """

    time_s: float
    kind: str
    text: str
    replica: str = ""
    revision: int = 0
    cause: str = ""


@dataclass(frozen=True)
class ReplicaStatus:
    """One replica as a person sees it.

    Parameters
    ----------
    name : str
        Name of the container.
    id : str
        Full id of the container.
    image : str
        Name of the image, such as ``web:1``.
    revision : int
        Number of the revision.
    state : str
        State of the container: creating, created, running or exited.
    health : str
        starting, healthy or unhealthy, by the router's check.
    traffic : str
        ready, drain, maint or none.
    address : str
        ``host:port`` where the router reaches it.
    sessions : int
        Requests that it is answering now.
    age_s : float
        Seconds since the container was made.
    leaving : bool
        It has been told to go.
    exit_code : int or None
        Exit code of a container that has exited.
    """

    name: str
    id: str
    image: str
    revision: int
    state: str
    health: str
    traffic: str
    address: str
    sessions: int
    age_s: float
    leaving: bool = False
    exit_code: int | None = None

    @property
    def ready(self) -> bool:
        """Whether it serves requests."""
        return self.state == "running" and self.health == "healthy" and self.traffic == "ready"


@dataclass(frozen=True)
class FleetStatus:
    """A fleet as a person sees it.

    Parameters
    ----------
    name : str
        Name of the fleet.
    url : str
        Address of its router on this machine.
    desired : int
        Replicas that are wanted.
    revision : int
        The revision that is wanted.
    image : str
        Name of that revision's image.
    phase : {"Healthy", "Progressing", "Paused", "Degraded"}
        Healthy: exactly the wanted replicas, all ready. Progressing: a change is under way. Paused: a rollout waits to
        be resumed, promoted or aborted. Degraded: none of these.
    replicas : tuple of ReplicaStatus
        Sorted by revision, then name.
    """

    name: str
    url: str
    desired: int
    revision: int
    image: str
    phase: Phase
    replicas: tuple[ReplicaStatus, ...]

    @property
    def ready(self) -> int:
        """How many replicas serve requests."""
        return sum(replica.ready for replica in self.replicas)

    def __str__(self) -> str:
        head = f"{self.name}: {self.ready} of {self.desired} replicas ready, {self.phase}, {self.image}, {self.url}"
        rows = [
            f"  {r.name:<28} {r.image:<12} {r.state:<8} {r.health:<9} {r.traffic:<6} {r.address}" for r in self.replicas
        ]
        return "\n".join([head, *rows])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        cells = [(r.name, r.image, str(r.revision), r.state, r.health, r.traffic, r.address) for r in self.replicas]
        body = "".join("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>" for row in cells)
        names = ("replica", "image", "revision", "container", "health", "traffic", "address")
        head = "".join(f"<th>{name}</th>" for name in names)
        return (
            f"<p><b>{html.escape(self.name)}</b>: {self.ready} of {self.desired} replicas ready, "
            f"{self.phase}, <code>{html.escape(self.image)}</code> at "
            f'<a href="{html.escape(self.url)}" target="_blank">{html.escape(self.url)}</a></p>'
            f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        )

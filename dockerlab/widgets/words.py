"""The words, signs and shapes in which panels speak. Colour repeats what they say; it never says it alone."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from dockerlab.errors import DockerlabError, FleetError
from dockerlab.fleet.model import FleetStatus, ReplicaStatus

SHAPES = ("●", "■", "▲", "◆", "▼")
"""One for each colour of the palette; revisions take them in turn."""

PHASES: Mapping[str, tuple[str, str]] = {
    "Healthy": ("✓", "Healthy"),
    "Progressing": ("↻", "Changing"),
    "Paused": ("‖", "Paused"),
    "Degraded": ("!", "Not as wanted"),
}
HEALTH: Mapping[str, tuple[str, str]] = {
    "healthy": ("✓", "healthy"),
    "starting": ("…", "starting"),
    "unhealthy": ("✕", "unhealthy"),
}
TRAFFIC: Mapping[str, str] = {
    "ready": "gets requests",
    "drain": "gets no new requests",
    "maint": "taken out of traffic",
    "none": "not in the router",
}
STATES: Mapping[str, str] = {
    "creating": "being made",
    "created": "not started",
    "running": "running",
    "exited": "stopped",
}

WAITING = "Looking at the fleet…"
LAST_SEEN = "As it was when it was last seen:"
NO_REPLICAS = "There are no replicas: nothing answers. Scale up to have some."
CHOOSE = "Choose a replica…"
CHOOSE_FIRST = "Choose a replica first, then press Replace."
CLOSED = "This panel is closed. Run its cell again to open it."


def hue(revision: int) -> int:
    """Give the place of a revision's colour and shape in the palette, from 0."""
    return (revision - 1) % len(SHAPES)


def short(name: str) -> str:
    """Give the part of a container's name that tells replicas apart."""
    return name.rpartition("-")[2] or name


def requests(count: int) -> str:
    """Say how many requests are being answered."""
    return f"{count} request{'' if count == 1 else 's'} now"


def replicas(count: int) -> str:
    """Say how many replicas."""
    return f"{count} replica{'' if count == 1 else 's'}"


def condition(replica: ReplicaStatus) -> tuple[str, str]:
    """Give sign and words for how a replica is: its container first, then its health."""
    outside = replica.traffic == "none"  # on its way in or out, and so not checked by the router
    if replica.state == "exited":
        return "…" if outside else "✕", STATES["exited"]
    if replica.state != "running" or outside:
        return "…", STATES.get(replica.state, replica.state)
    return HEALTH.get(replica.health, ("?", replica.health))


def traffic(replica: ReplicaStatus) -> str:
    """Say what the router does with a replica: whatever it was told, one that is not healthy gets nothing."""
    if replica.traffic == "ready" and not replica.ready:
        return "gets no requests"
    return TRAFFIC.get(replica.traffic, replica.traffic)


def headline(status: FleetStatus) -> str:
    """Say how many replicas serve and of which image."""
    return f"{status.ready} of {replicas(status.desired)} ready"


def trouble(error: Exception) -> str:
    """Say what went wrong with an operation, and what to do next."""
    if isinstance(error, DockerlabError):
        return str(error)
    return f"Something unexpected went wrong: {type(error).__name__}: {error}"


def loss(fleet: str, error: Exception) -> str:
    """Say why the fleet cannot be looked at."""
    if isinstance(error, FleetError):
        return (
            f"The fleet {fleet} does not answer any more: it was removed, or its router has stopped.\n"
            "Run the cell that makes the fleet again, and then this one."
        )
    return trouble(error)


def text(value: object) -> str:
    """Make anything safe to stand in HTML, also within quotes."""
    return escape(str(value), quote=True)

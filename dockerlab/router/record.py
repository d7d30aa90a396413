"""What is kept of a router, so that it is found again."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class RouterRecord:
    """What is kept of a router, enough to find it again.

    Parameters
    ----------
    kind : {"process", "container"}
    port : int
        Port on loopback where the fleet answers.
    control : str
        Address of the run-time API.
    pid : int
        Process id; 0 for a container.
    created_s : float
        When the process was made, see Process: a pid alone may be somebody else's by now.
    container_id : str
        Id of the container; empty for a process.
    preview_port : int
        Port on loopback where the pool answers that gets fewer requests; 0 where the record is older than that.
    network : str
        Network that it shares with the replicas; empty for a process.
    port_chosen : bool
        The port was asked for, so no other one will do.
    """

    kind: Literal["process", "container"]
    port: int
    control: str
    pid: int = 0
    created_s: float = 0.0
    container_id: str = ""
    network: str = ""
    port_chosen: bool = False
    preview_port: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Give the record as JSON values."""
        return asdict(self)

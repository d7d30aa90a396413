"""What a rollout did: its result and its timeline, as a frozen value."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import Literal

from dockerlab.fleet.model import Event

RolloutStatus = Literal["Complete", "RolledBack", "Paused"]


@dataclass(frozen=True)
class Rollout:
    """The result of one rollout. A rollback by itself is a result too, not an error.

    Parameters
    ----------
    fleet : str
        Name of the fleet.
    from_revision, to_revision : int
        The revisions before and after, had it succeeded.
    strategy : str
        How it was done.
    status : {"Complete", "RolledBack", "Paused"}
        RolledBack: the new revision failed or was aborted, and the old one was put back. Paused: it waits for somebody
        to resume, promote or abort it.
    reason : str
        Why it was rolled back, or what it waits for; empty where it is complete.
    started_s, ended_s : float
        Seconds since the epoch.
    events : tuple of Event
        What happened, in order of time.
    """

    fleet: str
    from_revision: int
    to_revision: int
    strategy: str
    status: RolloutStatus
    reason: str
    started_s: float
    ended_s: float
    events: tuple[Event, ...]

    @property
    def duration_s(self) -> float:
        """How long it took, in seconds."""
        return self.ended_s - self.started_s

    def __str__(self) -> str:
        head = (
            f"{self.fleet}: revision {self.from_revision} to {self.to_revision} by {self.strategy}: "
            f"{self.status} in {self.duration_s:.1f} s, {len(self.events)} events"
        )
        return f"{head}\n{self.reason}" if self.reason else head

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{event.time_s - self.started_s:.2f}</td><td>{html.escape(event.kind)}</td>"
            f"<td>{html.escape(event.text)}</td><td>{html.escape(event.cause)}</td></tr>"
            for event in self.events
        )
        return (
            f"<p>{html.escape(str(self))}</p><details><summary>Timeline</summary><table><thead><tr><th>seconds</th>"
            f"<th>event</th><th>what happened</th><th>why</th></tr></thead><tbody>{rows}</tbody></table></details>"
        )

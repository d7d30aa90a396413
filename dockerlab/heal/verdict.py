"""What a reconciler decides: about each replica, and about the fleet as a whole. Pure values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dockerlab.heal.history import History

Seen = Literal["exited", "missing", "unhealthy", "drifted", "not served", "left over"]
Action = Literal["replace", "start", "connect", "remove", "wait"]
HealthState = Literal["Healthy", "Healing", "CrashLoopBackOff", "DriftLoopBackOff"]


@dataclass(frozen=True)
class Decision:
    """What is done about one replica.

    Parameters
    ----------
    replica : str
        Its name; empty where it is not there.
    seen : {"exited", "missing", "unhealthy", "drifted", "not served", "left over"}
        What is wrong with it.
    action : {"replace", "start", "connect", "remove", "wait"}
    why : str
        The cause, in a sentence.
    until_s : float or None
        Until when it waits, on the clock of ``now_s``; None where nothing is waited for, or not for a time.
    """

    replica: str
    seen: Seen
    action: Action
    why: str
    until_s: float | None = None


@dataclass(frozen=True)
class Verdict:
    """What is to be done about a fleet at one moment.

    Parameters
    ----------
    state : {"Healthy", "Healing", "CrashLoopBackOff", "DriftLoopBackOff"}
    decisions : tuple of Decision
        One for each replica with which something is wrong.
    history : History
        For the next look.
    """

    state: HealthState
    decisions: tuple[Decision, ...]
    history: History

    @property
    def acts(self) -> bool:
        """Whether there is something to do now."""
        return any(decision.action != "wait" for decision in self.decisions)

    @property
    def to_replace(self) -> tuple[str, ...]:
        """Names of the running replicas that are to be replaced now."""
        return tuple(d.replica for d in self.decisions if d.action == "replace" and d.seen in ("unhealthy", "drifted"))

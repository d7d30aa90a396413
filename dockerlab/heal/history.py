"""What a reconciler remembers from look to look: each replica, and how many failures there were in a row. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from dockerlab.drift.model import Change
from dockerlab.fleet.model import ReplicaStatus
from dockerlab.heal.policy import HealingPolicy


@dataclass(frozen=True)
class Files:
    """What a look at the files of the replicas found.

    Parameters
    ----------
    time_s : float
        When the look began, on the clock of the decisions; single replicas may have been looked at since.
    changes : mapping of str to tuple of Change
        For each replica that was looked at, by its name; empty where it is as its image.
    """

    time_s: float
    changes: Mapping[str, tuple[Change, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Track:
    """What earlier looks found out about one replica.

    Parameters
    ----------
    name : str
    ready_since_s : float or None
        Since when it has run well.
    unhealthy_since_s : float or None
        Since when its check has failed.
    looks : int
        How many looks in a row found it unhealthy.
    counted : bool
        Its end has been counted.
    clean_s : float or None
        When its files were last found as its image has them.
    drift_counted : bool
        Its drift has been counted.
    """

    name: str
    ready_since_s: float | None = None
    unhealthy_since_s: float | None = None
    looks: int = 0
    counted: bool = False
    clean_s: float | None = None
    drift_counted: bool = False

    @classmethod
    def found(cls, row: ReplicaStatus, now_s: float) -> Track:
        """Begin with a replica that nobody saw run: its age is the best guess at how long it did."""
        return cls(row.name, ready_since_s=now_s - row.age_s)

    def seen(self, row: ReplicaStatus, now_s: float) -> Track:
        """Go on with what is seen of it now."""
        if row.state != "running":
            return self
        if row.ready:
            kept = self.ready_since_s is not None and self.unhealthy_since_s is None
            since_s = self.ready_since_s if kept else now_s
            return replace(self, ready_since_s=since_s, unhealthy_since_s=None, looks=0, counted=False)
        if row.health == "unhealthy":
            since_s = now_s if self.unhealthy_since_s is None else self.unhealthy_since_s
            return replace(self, unhealthy_since_s=since_s, looks=self.looks + 1)
        return replace(self, unhealthy_since_s=None, looks=0, counted=False)

    def looked_into(self, files: Files | None) -> Track:
        """Go on with what the last look at the files found."""
        if files is None or files.changes.get(self.name) != ():
            return self
        return replace(self, clean_s=files.time_s, drift_counted=False)

    def unhealthy_s(self, now_s: float) -> float:
        """Give for how long its check has failed."""
        return 0.0 if self.unhealthy_since_s is None else now_s - self.unhealthy_since_s

    def ran_s(self, now_s: float) -> float:
        """Give for how long it ran well before it failed."""
        return 0.0 if self.ready_since_s is None else now_s - self.unhealthy_s(now_s) - self.ready_since_s

    @property
    def clean_for_s(self) -> float:
        """For how long it is known to have served as its image has it: between two looks nobody knows."""
        return 0.0 if self.clean_s is None or self.ready_since_s is None else self.clean_s - self.ready_since_s


@dataclass(frozen=True)
class Streak:
    """Failures in a row, and how long they make the next attempt wait.

    Parameters
    ----------
    failures : int
    due_s : float
        Nothing is replaced before.
    well_since_s : float or None
        Since when nothing has been wrong.
    counted : bool
        The present round has had its failure: several replicas that fail between two attempts are one.
    """

    failures: int = 0
    due_s: float = -math.inf
    well_since_s: float | None = None
    counted: bool = False

    def failed(self, policy: HealingPolicy, now_s: float, *, young: bool) -> Streak:
        """Count a failure, and wait after it; `young` says that a replica failed soon after it was made."""
        if self.counted:
            return self
        # What ran well before says nothing about its version, but even then Docker waits once.
        failures = self.failures + 1 if young else max(self.failures, 1)
        return replace(self, failures=failures, due_s=now_s + policy.wait_s(failures), counted=True)

    def seen(self, policy: HealingPolicy, now_s: float, *, well: bool) -> Streak:
        """Start over once all has been well for long enough."""
        if not well:
            return replace(self, well_since_s=None)
        since_s = now_s if self.well_since_s is None else self.well_since_s
        if now_s - since_s >= policy.reset_after_s:
            return Streak(well_since_s=since_s)
        return replace(self, well_since_s=since_s, counted=False)


@dataclass(frozen=True)
class History:
    """What earlier looks and attempts left for later ones.

    Parameters
    ----------
    revision : int
        The revision that all of this is about; 0 before the first look.
    tracks : tuple of Track
        One for each replica that was there.
    ends : Streak
        Of replicas that ended or became unhealthy, and of attempts that failed.
    drifts : Streak
        Of replicas that drifted. Apart from the others: a program that writes must not delay what has died.
    exit_code : int or None
        The last exit code.
    """

    revision: int = 0
    tracks: tuple[Track, ...] = ()
    ends: Streak = Streak()
    drifts: Streak = Streak()
    exit_code: int | None = None

    def after(self, policy: HealingPolicy, now_s: float, *, failed: bool, exit_code: int | None = None) -> History:
        """Give the history after an attempt to heal, which ended at `now_s`."""
        ends = replace(self.ends, counted=False)
        if not failed:
            return replace(self, ends=ends, drifts=replace(self.drifts, counted=False))
        # What a failed attempt removes is no further failure.
        code = self.exit_code if exit_code is None else exit_code
        return replace(self, ends=ends.failed(policy, now_s, young=True), exit_code=code)

"""A load and the events of a rollout on one time axis, in seconds from the first request."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from dockerlab.plots.placing import Label, Swarm, placed, swarm
from dockerlab.traffic.results import Results

# These happen once for every replica: as lines they would hide the data, so they get a row of ticks for each kind.
_OF_REPLICAS = ("started", "ready", "drained", "removed")


class Event(Protocol):
    """What a figure needs of an event of a fleet."""

    @property
    def time_s(self) -> float:
        """Epoch seconds."""

    @property
    def kind(self) -> str:
        """Such as rollout, ready or complete."""

    @property
    def revision(self) -> int:
        """Number of the fleet's revision, 0 for none."""


@dataclass(frozen=True)
class Timeline:
    """The columns of a load and the events near it.

    Parameters
    ----------
    due, latency : tuple of float
        Seconds from the first request; seconds from due to answered.
    version, lost_kind : tuple of str
        As in `Results`.
    limit : float
        Latency from which a request is lost.
    end, left, right : float
        End of the load; edges of the panels.
    events : tuple of (time, kind, revision)
        In order of time.
    left_out : int
        Events too far from the load to show.
    """

    due: tuple[float, ...]
    latency: tuple[float, ...]
    version: tuple[str, ...]
    lost_kind: tuple[str, ...]
    limit: float
    end: float
    left: float
    right: float
    events: tuple[tuple[float, str, int], ...]
    left_out: int

    @cached_property
    def versions(self) -> list[str]:
        """Versions that answered well, 9 before 10: the same ones have the same colours in every figure."""
        answered = {version for version, kind in zip(self.version, self.lost_kind, strict=True) if not kind}
        return sorted(answered, key=lambda version: [(len(part), part) for part in re.split(r"(\d+)", version)])

    @property
    def numbered(self) -> list[tuple[int, str]]:
        """The versions, each with the number of its look: version 2 looks alike in every plot of a lesson."""
        if all(version.isdecimal() and int(version) > 0 for version in self.versions):
            return [(int(version) - 1, version) for version in self.versions]
        return list(enumerate(self.versions))

    @cached_property
    def lost(self) -> dict[str, int]:
        """Lost requests by kind, the most frequent first."""
        return dict(Counter(kind for kind in self.lost_kind if kind).most_common())

    @cached_property
    def swarms(self) -> list[tuple[str, Swarm]]:
        """The lost requests as marks, a swarm for each kind."""
        pairs = list(zip(self.due, self.lost_kind, strict=True))
        span = self.right - self.left
        return [(kind, swarm([due for due, name in pairs if name == kind], span=span)) for kind in self.lost]

    @cached_property
    def event_rows(self) -> list[tuple[str, list[float]]]:
        """Times of the events that each replica has, a row a kind."""
        rows = [(kind, [time for time, name, _ in self.events if name == kind]) for kind in _OF_REPLICAS]
        return [(kind, times) for kind, times in rows if times]

    @cached_property
    def labels(self) -> list[Label]:
        """Words for all other events."""
        events = [
            (time, f"{kind}, revision {revision}" if kind == "rollout" and revision else kind)
            for time, kind, revision in self.events
            if kind not in _OF_REPLICAS
        ]
        return placed(events, left=self.left, right=self.right)

    def answered(self, version: str) -> tuple[list[float], list[float]]:
        """Return times and latencies of a version's good answers."""
        rows = zip(self.due, self.latency, self.version, self.lost_kind, strict=True)
        points = [(due, latency) for due, latency, name, kind in rows if name == version and not kind]
        return [due for due, _ in points], [latency for _, latency in points]


def timeline(results: Results, events: Sequence[Event]) -> Timeline:
    """Put a load and events on one time axis.

    Parameters
    ----------
    results : Results
        Of a load.
    events : sequence of Event
        In any order.

    Returns
    -------
    Timeline
        A rollout may begin a little before the load or end after it; what happened further away than a quarter of the
        load's length would squeeze the picture and is left out.
    """
    start = results.scheduled_s[0] if len(results) else min((event.time_s for event in events), default=0.0)
    due = tuple(time - start for time in results.scheduled_s)
    gap = due[-1] / (len(due) - 1) if len(due) > 1 else 1.0
    end = (due[-1] if due else 0.0) + max(gap, 1e-3)
    margin = end / 4 if due else math.inf
    near = sorted((event.time_s - start, event.kind, event.revision) for event in events)
    near = [event for event in near if -margin <= event[0] <= end + margin]
    left, right = min([0.0, *(time for time, *_ in near)]), max([end, *(time for time, *_ in near)])
    pad = (right - left) / 60
    return Timeline(
        due=due,
        latency=results.latency_s,
        version=results.version,
        lost_kind=results.lost_kind,
        limit=results.limit_s,
        end=end,
        left=left - pad,
        right=right + pad,
        events=tuple(near),
        left_out=len(events) - len(near),
    )

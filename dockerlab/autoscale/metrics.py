"""What an autoscaler makes of the router's numbers: a value for each replica, and what they cost. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from dockerlab.autoscale.policy import Reading
from dockerlab.fleet.model import Event

Metric = Literal["in_flight", "rate", "latency"]
Servers = Mapping[str, tuple[bool, int, int]]
"""What the router tells of each server: whether it gets requests, how many are in flight, how many it got so far."""


def readings(metric: Metric, samples: Sequence[tuple[float, Servers]]) -> tuple[Reading, ...]:
    """Make a value for each replica out of what the router told during an interval.

    Parameters
    ----------
    metric : {"in_flight", "rate", "latency"}
    samples : sequence of (time_s, servers)
        In order of time. The replicas are those of the last one.

    Returns
    -------
    tuple of Reading
        Over the samples in which the replica was ready.

    Examples
    --------
    >>> readings("rate", [(0.0, {"a": (True, 1, 40)}), (2.0, {"a": (True, 3, 100)})])
    (Reading(replica='a', value=30.0, ready=True),)
    """
    if not samples:
        return ()
    found = []
    for name, (ready, _, _) in sorted(samples[-1][1].items()):
        rows = [(time_s, *servers[name][1:]) for time_s, servers in samples if name in servers and servers[name][0]]
        found.append(Reading(name, _value(metric, rows) if ready else None, ready))
    return tuple(found)


def _value(metric: Metric, rows: Sequence[tuple[float, int, int]]) -> float | None:
    in_flight = sum(row[1] for row in rows) / len(rows)
    if metric == "in_flight":
        return in_flight
    span_s = rows[-1][0] - rows[0][0]
    if span_s <= 0:
        return None
    rate = (rows[-1][2] - rows[0][2]) / span_s
    if metric == "rate":
        return rate
    return in_flight / rate if rate > 0 else None


def replica_seconds(events: Iterable[Event], serving: Iterable[str], *, since_s: float, until_s: float) -> float:
    """Add up how long each replica served: what a fleet costs.

    Parameters
    ----------
    events : iterable of Event
        The fleet's timeline, in order of time.
    serving : iterable of str
        Names of the replicas that serve now.
    since_s, until_s : float
        The window, in seconds since the epoch.

    Returns
    -------
    float
        In seconds.

    Examples
    --------
    >>> replica_seconds([Event(4.0, "ready", "", "b")], ["a", "b"], since_s=0, until_s=10)
    16.0
    """
    total = 0.0
    begun: dict[str, float] = {}
    known: set[str] = set()
    for event in events:
        name = event.replica
        if event.kind == "ready":
            begun.setdefault(name, event.time_s)
        elif event.kind in ("drained", "removed") and (name in begun or name not in known):
            # What is not known to have started served before the timeline begins.
            total += _overlap_s(begun.pop(name, -math.inf), event.time_s, since_s, until_s)
        known.add(name)
    for name in serving:
        total += _overlap_s(begun.get(name, -math.inf), math.inf, since_s, until_s)
    return total


def _overlap_s(start_s: float, end_s: float, since_s: float, until_s: float) -> float:
    return max(0.0, min(end_s, until_s) - max(start_s, since_s))

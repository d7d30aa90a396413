"""The autoscaler at work: watch the router, ask :mod:`dockerlab.fleet.autoscale`, scale the fleet."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from html import escape
from types import TracebackType
from typing import TYPE_CHECKING, Literal, get_args

from dockerlab.errors import BadInputError, FleetError, RouterError
from dockerlab.fleet.autoscale import AutoscalePolicy, Decision, History, Observation, Reading, decide
from dockerlab.fleet.model import Event, FleetStatus
from dockerlab.fleet.worker import Worker

if TYPE_CHECKING:
    from dockerlab.fleet.fleet import Fleet

Metric = Literal["in_flight", "rate", "latency"]
Servers = Mapping[str, tuple[bool, int, int]]
"""What the router tells of each server: whether it gets requests, how many are in flight, how many it got so far."""

_SAMPLES = 20  # in each interval
_SHORTEST_S, _LONGEST_S = 0.02, 0.5  # between two samples


class Decisions(tuple[Decision, ...]):
    """The log of an autoscaler: a tuple that shows itself as a table.

    Decisions that repeat the one before are left out of the table, not of the tuple.
    """

    __slots__ = ()

    def _rows(self) -> list[tuple[str, ...]]:
        rows: list[tuple[str, ...]] = []
        last: Decision | None = None
        for decision in self:
            if decision.changes or last is None or decision.rule != last.rule or last.changes:
                rows.append(
                    (
                        f"{decision.time_s - self[0].time_s:.1f} s",
                        f"{decision.current}",
                        "none" if decision.metric is None else f"{decision.metric:.3g}",
                        f"{decision.recommended}",
                        f"{decision.replicas}" if decision.changes else "no change",
                        decision.why,
                    )
                )
            last = decision
        return rows

    def __str__(self) -> str:
        if not self:
            return "No decision yet."
        lines = [
            f"{time:>8}{current:>10}{metric:>8}{asked:>7}{done:>11}  {why}"
            for time, current, metric, asked, done, why in (
                ("time", "replicas", "metric", "asked", "decision", "why"),
                *self._rows(),
            )
        ]
        return "\n".join([self._head(), *lines])

    __repr__ = __str__

    def _head(self) -> str:
        left_out = len(self) - len(self._rows())
        text = f"{len(self)} decisions, {sum(decision.changes for decision in self)} of them change the fleet"
        return f"{text}; {left_out} that repeat the one before are not shown" if left_out else text

    def _repr_html_(self) -> str:
        if not self:
            return "<p>No decision yet.</p>"
        body = "".join(
            "<tr>"
            + "".join(f'<td style="text-align:right">{escape(cell)}</td>' for cell in numbers)
            + f'<td style="text-align:left">{escape(why)}</td></tr>'
            for *numbers, why in self._rows()
        )
        names = ("time", "replicas", "metric", "asked for", "decision", "why")
        head = "".join(f'<th scope="col">{name}</th>' for name in names)
        return (
            f'<table><caption style="text-align:left">{escape(self._head())}</caption>'
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        )


class Autoscaler:
    """Scales a fleet by a metric of its router while a block of code runs.

    The fleet is scaled in a thread of its own; until that is done, the metric is watched and nothing is decided. When
    scaling fails, the autoscaler ends, and the error is raised at the end of the block. Other fleets are not touched.

    Parameters
    ----------
    fleet : Fleet
    policy : AutoscalePolicy
    metric : {"in_flight", "rate", "latency"}
        What is held against ``policy.target``, each as an average over the replicas: requests in flight (waiting ones
        too); requests a second; seconds until an answer. All are taken over a whole interval, as one look is noise.
        The latency is in flight divided by rate (Little's law): HAProxy's own is an average over the last 1024
        requests, which is minutes for a small service. Without requests there is no latency.

    Raises
    ------
    BadInputError
        Where there is no such metric.

    Examples
    --------
    >>> policy = AutoscalePolicy(target=2).faster(30)
    >>> with Autoscaler(web, policy) as scaler, lab.traffic(web.url, rate=[(20, 5), (80, 10)]):  # doctest: +SKIP
    ...     time.sleep(15)
    >>> scaler.decisions  # doctest: +SKIP
    """

    def __init__(self, fleet: Fleet, policy: AutoscalePolicy, *, metric: Metric = "in_flight") -> None:
        if metric not in get_args(Metric):
            raise BadInputError(f"There is no metric {metric!r}.", f"Choose one of: {', '.join(get_args(Metric))}.")
        self.fleet = fleet
        self.policy = policy
        self.metric = metric
        self._thread: Worker | None = None
        self._clear()

    def _clear(self) -> None:
        self._stop = threading.Event()
        self._decisions: list[Decision] = []
        self._history = History()
        self._error: BaseException | None = None
        self._blind: RouterError | None = None
        self._serving: frozenset[str] = frozenset()
        self._begun_s = self._ended_s = math.nan

    @property
    def decisions(self) -> Decisions:
        """What was decided so far, in order of time."""
        return Decisions(list(self._decisions))

    @property
    def running(self) -> bool:
        """Whether it is at work."""
        return self._thread is not None

    @property
    def replica_seconds(self) -> float:
        """How long all replicas served, added up, from the beginning of the block to its end: what it cost."""
        if math.isnan(self._begun_s):
            return 0.0
        until_s = time.time() if self.running else self._ended_s
        return replica_seconds(self.fleet.events, self._serving, since_s=self._begun_s, until_s=until_s)

    def __enter__(self) -> Autoscaler:
        if self._thread is not None:
            raise BadInputError("This autoscaler is running already.", "Make another one with dl.Autoscaler(...).")
        self._clear()
        self._begun_s = time.time()
        self._thread = Worker(self._run, f"autoscale {self.fleet.name}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stopped = self._end()
        if kind is not None:
            return  # the block's own error is the one to see
        if stopped is not None:
            raise stopped
        failure = self._error or self._blind
        if failure is not None:
            raise failure

    def _end(self) -> KeyboardInterrupt | None:
        """End the threads, after the scaling that is under way: half a step cannot be left behind, even by Stop."""
        self._stop.set()
        stopped = self._thread.wait() if self._thread else None
        self._thread = None
        self._ended_s = time.time()
        return stopped

    def _run(self) -> None:
        try:
            with ThreadPoolExecutor(1, thread_name_prefix=f"autoscale {self.fleet.name}") as pool:
                self._watch(pool)
        except BaseException as error:  # noqa: BLE001 - it belongs to the thread that has the block
            self._error = error

    def _watch(self, pool: ThreadPoolExecutor) -> None:
        interval_s = self.policy.interval_s
        pause_s = min(max(interval_s / _SAMPLES, _SHORTEST_S), _LONGEST_S)
        # Steady, whatever happens to the clock of the machine, and yet on the time scale of loads and events.
        offset_s = time.time() - time.monotonic()
        next_s = time.monotonic() + interval_s
        samples: list[tuple[float, Servers]] = []
        scaling: Future[FleetStatus] | None = None
        while not self._stop.wait(pause_s):
            now_s = time.monotonic()
            self._look(samples, now_s)
            if scaling is not None and scaling.done():
                scaling.result()
                scaling = None
            if now_s < next_s:
                continue
            next_s = max(next_s + interval_s, now_s)
            if scaling is None:
                decision = self._decide(samples, now_s + offset_s)
                if decision.changes:
                    scaling = pool.submit(self.fleet.scale, decision.replicas)
            del samples[:-1]
        if scaling is not None:
            scaling.result()
            self._look(samples, time.monotonic())

    def _look(self, samples: list[tuple[float, Servers]], now_s: float) -> None:
        if self.fleet.removed:
            raise FleetError(f"The fleet {self.fleet.name} has been removed.", "Run the cell that makes it again.")
        try:
            servers = self.fleet.load()
        except RouterError as error:
            # The next operation on the fleet starts the router anew. Until then there is no metric.
            self._blind = error
            samples.clear()
        else:
            self._blind = None
            samples.append((now_s, servers))
            self._serving = frozenset(name for name, (ready, _, _) in servers.items() if ready)

    def _decide(self, samples: Sequence[tuple[float, Servers]], now_s: float) -> Decision:
        observation = Observation(self.fleet.replicas, readings(self.metric, samples))
        decision = decide(self.policy, self._history, observation, now_s)
        self._history = self._history.after(self.policy, decision)
        self._decisions.append(decision)
        return decision

    def __repr__(self) -> str:
        state = "running" if self.running else "not running"
        changes = sum(decision.changes for decision in self._decisions)
        return f"<Autoscaler of {self.fleet.name}: {state}, {len(self._decisions)} decisions, {changes} changes>"


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

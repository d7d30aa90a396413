"""The autoscaler at work: watch the router, ask :mod:`dockerlab.autoscale.rule`, scale the fleet."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, get_args

from dockerlab.autoscale.metrics import Metric, Servers, readings, replica_seconds
from dockerlab.autoscale.policy import AutoscalePolicy, Decision, History, Observation
from dockerlab.autoscale.rule import decide
from dockerlab.errors import BadInputError, RouterError
from dockerlab.fleet.model import FleetStatus
from dockerlab.fleet.table import Table
from dockerlab.fleet.worker import FleetWorker

if TYPE_CHECKING:
    from dockerlab.fleet.fleet import Fleet

_SAMPLES = 20  # in each interval
_SHORTEST_S, _LONGEST_S = 0.02, 0.5  # between two samples


class Decisions(Table[Decision]):
    """The log of an autoscaler: a tuple that shows itself as a table.

    Decisions that repeat the one before are left out of the table, not of the tuple.
    """

    __slots__ = ()
    columns = ("time", "replicas", "metric", "asked for", "decision", "why")
    numbers = 5
    nothing = "No decision yet."

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

    def _caption(self) -> str:
        left_out = len(self) - len(self._rows())
        text = f"{len(self)} decisions, {sum(decision.changes for decision in self)} of them change the fleet"
        return f"{text}; {left_out} that repeat the one before are not shown" if left_out else text


class Autoscaler(FleetWorker):
    """Scales a fleet by a metric of its router while a block of code runs.

    The fleet is scaled in a thread of its own; until that is done, the metric is watched and nothing is decided. When
    scaling fails, the autoscaler ends, and the error is raised at the end of the block. It also ends, without an error,
    when the fleet is removed: ``ended`` says so. Other fleets are not touched.

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

    title = "autoscale"

    def __init__(self, fleet: Fleet, policy: AutoscalePolicy, *, metric: Metric = "in_flight") -> None:
        if metric not in get_args(Metric):
            raise BadInputError(f"There is no metric {metric!r}.", f"Choose one of: {', '.join(get_args(Metric))}.")
        self.policy = policy
        self.metric = metric
        super().__init__(fleet)

    def _clear(self) -> None:
        super()._clear()
        self._decisions: list[Decision] = []
        self._history = History()
        self._serving: frozenset[str] = frozenset()
        self._begun_s = self._ended_s = math.nan

    @property
    def decisions(self) -> Decisions:
        """What was decided so far, in order of time."""
        return Decisions(list(self._decisions))

    @property
    def replica_seconds(self) -> float:
        """How long all replicas served, added up, while the autoscaler was at work: what it cost."""
        if math.isnan(self._begun_s):
            return 0.0
        until_s = time.time() if math.isnan(self._ended_s) else self._ended_s
        return replica_seconds(self.fleet.events, self._serving, since_s=self._begun_s, until_s=until_s)

    def _work(self) -> None:
        self._begun_s = time.time()
        try:
            with ThreadPoolExecutor(1, thread_name_prefix=f"{self.title} {self.fleet.name}") as pool:
                self._watch(pool)
        finally:
            self._ended_s = time.time()

    def _watch(self, pool: ThreadPoolExecutor) -> None:
        interval_s = self.policy.interval_s
        pause_s = min(max(interval_s / _SAMPLES, _SHORTEST_S), _LONGEST_S)
        # Steady, whatever happens to the clock of the machine, and yet on the time scale of loads and events.
        offset_s = time.time() - time.monotonic()
        next_s = time.monotonic() + interval_s
        samples: list[tuple[float, Servers]] = []
        scaling: Future[FleetStatus] | None = None
        while not self._stop.wait(pause_s) and not self.fleet.removed:
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
        try:
            servers = self.fleet.load()
        except RouterError as error:
            # The next operation on the fleet starts the router anew. Until then there is no metric.
            self._away = error
            samples.clear()
        else:
            self._away = None
            samples.append((now_s, servers))
            self._serving = frozenset(name for name, (ready, _, _) in servers.items() if ready)

    def _decide(self, samples: Sequence[tuple[float, Servers]], now_s: float) -> Decision:
        observation = Observation(self.fleet.replicas, readings(self.metric, samples))
        decision = decide(self.policy, self._history, observation, now_s)
        self._history = self._history.after(self.policy, decision)
        self._decisions.append(decision)
        return decision

    def __repr__(self) -> str:
        state = "running" if self.running else self.ended.rstrip(".") or "not running"
        changes = sum(decision.changes for decision in self._decisions)
        return f"<Autoscaler of {self.fleet.name}: {state}, {len(self._decisions)} decisions, {changes} changes>"

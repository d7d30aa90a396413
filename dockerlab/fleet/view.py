"""A snapshot sorted by what planning asks for, and the steps that all strategies share. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from dockerlab.fleet.model import Pool, Replica, Snapshot
from dockerlab.fleet.steps import Goal, Step
from dockerlab.fleet.strategies import BlueGreen, Canary


@dataclass
class View:
    """The replicas of a snapshot by their part in reaching a goal.

    Attributes
    ----------
    pool : {"blue", "green"}
        Where the goal's replicas are: the pool that serves, or for BlueGreen and Canary the one that takes over.
    new, old : list of Replica
        Those that the goal wants in the end, and those that it does not.
    aside : list of Replica
        In the other pool, where the goal is about one pool only.
    leaving : list of Replica
        On their way out, or ended.
    """

    goal: Goal
    snapshot: Snapshot
    pool: Pool = "blue"
    new: list[Replica] = field(default_factory=list)
    old: list[Replica] = field(default_factory=list)
    aside: list[Replica] = field(default_factory=list)
    leaving: list[Replica] = field(default_factory=list)

    def __post_init__(self) -> None:
        goal = self.goal
        staying: list[Replica] = []
        for replica in self.snapshot.replicas:
            # Where one pool is only scaled there is no surge: what is unwanted goes first.
            unwanted = goal.strategy is None and replica.name in goal.unwanted
            # The router was just about to let go of what is in "maint": the process that removed it was killed then.
            gone = replica.leaving or replica.state == "exited" or replica.traffic == "maint" or unwanted
            (self.leaving if gone else staying).append(replica)
        self.pool = self._choose_pool(staying)
        for replica in staying:
            here = replica.pool == self.pool
            right = replica.revision == goal.revision and replica.name not in goal.unwanted
            if here and (goal.strategy is None or right):
                self.new.append(replica)
            else:
                (self.aside if goal.strategy is None else self.old).append(replica)

    @property
    def weight(self) -> int:
        """The share of the requests that ``pool`` gets, in percent."""
        return self.snapshot.weight(self.pool)

    @property
    def min_ready_s(self) -> float:
        """Seconds that a new replica must be healthy before it counts."""
        return self.goal.strategy.min_ready_s if self.goal.strategy else 0.0

    def available(self, replicas: Sequence[Replica]) -> list[Replica]:
        """Give those of `replicas` that serve and have done so long enough."""
        return [r for r in replicas if r.available(self.snapshot.now_s, self.min_ready_s)]

    def pending(self) -> list[Replica]:
        """Give those of the new that are neither available nor borne."""
        ready = {r.name for r in self.available(self.new)}
        borne = {r.name for r in self.new if self.goal.bear and r.ever_ready and r.health == "unhealthy"}
        return [r for r in self.new if r.name not in ready | borne]

    def whole(self) -> bool:
        """Tell whether exactly the wanted replicas are there, all available or borne."""
        return len(self.new) == self.goal.replicas and not self.pending()

    def _choose_pool(self, staying: Sequence[Replica]) -> Pool:
        serving: Pool = self.goal.pool or ("green" if self.snapshot.green > 50 else "blue")
        if self.goal.strategy is None:
            return serving
        if not isinstance(self.goal.strategy, BlueGreen | Canary):
            # In the middle of a canary both serve, and one is to take all: the one that bears more.
            bearing = Counter(r.pool for r in self.available(staying))
            both = 0 < self.snapshot.weight(serving) < 100
            return other(serving) if both and bearing[other(serving)] > bearing[serving] else serving
        with_old = {r.pool for r in staying if r.revision != self.goal.revision}
        with_new = {r.pool for r in staying if r.revision == self.goal.revision}
        # The two never share a pool. Where both pools have old replicas, the idle one is cleared first.
        free = [pool for pool in (serving, other(serving)) if pool not in with_old]
        taken = [pool for pool in free if pool in with_new]
        if taken:
            return taken[0]
        return serving if free == [serving] or not staying else other(serving)


def other(pool: Pool) -> Pool:
    """Give the pool that is not this one."""
    return "blue" if pool == "green" else "green"


def start(view: View, count: int, cause: str) -> list[Step]:
    """Start replicas of the goal's revision."""
    return [Step("start", "", view.goal.revision, cause, view.pool)] * count


def send_off(replicas: Sequence[Replica], cause: str) -> list[Step]:
    """Begin to remove replicas."""
    return [Step("drain", r.name, r.revision, cause, r.pool) for r in replicas if not r.busy]


def weigh(view: View, percent: int, cause: str) -> Step:
    """Send a share of the requests to the pool of the goal's replicas."""
    return Step("weight", "", view.goal.revision, cause, view.pool, percent)


def worst_first(replicas: Sequence[Replica]) -> list[Replica]:
    """Sort: those that serve nobody go first, then the youngest."""
    order = {"unhealthy": 0, "starting": 1, "healthy": 2}
    return sorted(replicas, key=lambda r: (order[r.health], r.traffic == "ready", -(r.healthy_since_s or 0.0), r.name))


def resize(view: View, wanted: int) -> list[Step]:
    """Start what is missing, send off what is too many."""
    have = len(view.new)
    if have < wanted:
        return start(view, wanted - have, f"{have} of {wanted} replicas are there")
    surplus = worst_first(view.new)[: have - wanted]
    return send_off(surplus, f"{have} replicas are there, {wanted} are wanted")


def departures(view: View) -> list[Step]:
    """Take those on their way out further: no new requests, then wait for those in flight, then remove."""
    steps = []
    for replica in view.leaving:
        if replica.busy:
            continue
        cause = ""
        if replica.state == "exited":
            cause = "its process has ended"
        elif replica.traffic == "ready":
            steps.append(Step("drain", replica.name, replica.revision, "it is leaving", replica.pool))
        elif replica.sessions == 0:
            cause = "no request is in flight"
        elif _drained_s(view, replica) >= view.goal.grace_s:
            cause = "the grace period is over"
        if cause:
            steps.append(Step("remove", replica.name, replica.revision, cause, replica.pool))
    return steps


def _drained_s(view: View, replica: Replica) -> float:
    since_s = replica.drained_since_s
    return view.goal.grace_s if since_s is None else view.snapshot.now_s - since_s


def admissions(view: View) -> list[Step]:
    """Give traffic to those whose check passes; an old one that waits for it is as good as any while it lasts."""
    return [
        Step("admit", replica.name, replica.revision, "its check passes", replica.pool)
        for replica in (*view.new, *view.old, *view.aside)
        if replica.health == "healthy" and replica.traffic == "drain" and not replica.busy
    ]

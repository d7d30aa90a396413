"""A fleet that does what plans tell it, in an order that the test chooses: for the tests of the planner."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from dockerlab.fleet.analysis import Measured
from dockerlab.fleet.model import Pool, Position, Replica, Snapshot
from dockerlab.fleet.plan import plan
from dockerlab.fleet.steps import Goal, Plan, Step

TICK_S = 0.1


def serving(name: str, revision: int = 1, pool: Pool = "blue") -> Replica:
    """Give a replica that serves."""
    return Replica(name, revision, health="healthy", traffic="ready", pool=pool, healthy_since_s=0.0, ever_ready=True)


def at(*replicas: Replica, now_s: float = 10.0) -> Snapshot:
    """Give a snapshot of these."""
    return Snapshot(replicas, now_s=now_s, last_progress_s=now_s)


class World:
    """Replicas that start, become healthy, end their requests and break when the test says so."""

    def __init__(self, replicas: int) -> None:
        self.replicas = {f"old{i}": serving(f"old{i}") for i in range(replicas)}
        self.now_s = 10.0
        self.made = 0
        self.green = 0
        self.position = Position()
        self.measured: dict[Pool, Measured] = {}

    def snapshot(self) -> Snapshot:
        return Snapshot(
            tuple(self.replicas.values()),
            self.now_s,
            self.now_s,
            green=self.green,
            position=self.position,
            measured=dict(self.measured),
        )

    def do(self, step: Step) -> None:
        match step.action:
            case "start":
                self.made += 1
                name = f"new{self.made}"
                self.replicas[name] = Replica(name, step.revision, pool=step.pool)
            case "admit":
                self._change(step, traffic="ready", ever_ready=True, healthy_since_s=self.now_s)
            case "drain":
                self._change(step, traffic="drain", leaving=True, drained_since_s=self.now_s, sessions=1)
            case "weight":
                self.green = step.percent if step.pool == "green" else 100 - step.percent
                self.position = Position(self.position.step, self.now_s)
                self.measured.clear()
            case "advance":
                self.position = Position(self.position.step + 1, self.now_s)
                self.measured.clear()
            case "remove":
                del self.replicas[step.replica]

    def _change(self, step: Step, **changes: object) -> None:
        self.replicas[step.replica] = replace(self.replicas[step.replica], **changes)  # type: ignore[arg-type]

    def happen(self, pick: int) -> None:
        """Let something happen by itself: a check passes, a request ends."""
        waiting = [r for r in self.replicas.values() if r.health == "starting" or r.sessions]
        if waiting:
            replica = waiting[pick % len(waiting)]
            self.replicas[replica.name] = replace(replica, health="healthy", sessions=0)

    def serve(self, requests: int = 5, lost: int = 0) -> None:
        """Let each pool answer some requests."""
        for pool in ("blue", "green"):
            before = self.measured.get(pool, Measured())  # type: ignore[call-overload]
            self.measured[pool] = Measured(before.requests + requests, before.lost + lost)  # type: ignore[index]

    def kill(self, pick: int) -> None:
        """End a replica that has served."""
        running = [r for r in self.replicas.values() if r.state == "running" and r.ever_ready]
        if running:
            dead = running[pick % len(running)]
            self.replicas[dead.name] = replace(dead, state="exited", exit_code=137, health="unhealthy", sessions=0)

    def revisions(self) -> set[int]:
        return {replica.revision for replica in self.replicas.values()}


def roll(
    world: World,
    goal: Goal,
    picks: Sequence[int],
    check: Callable[[Snapshot], None] = lambda _: None,
    tick: Callable[[int], None] = lambda _: None,
) -> Plan:
    """Run the plan until it is done, paused or failed; ``check`` sees every state on the way."""
    for number in range(3000):
        check(world.snapshot())
        result = plan(goal, world.snapshot())
        if result.done or result.paused or result.failure:
            return result
        for step in result.steps:
            world.do(step)
            check(world.snapshot())
        tick(number)
        world.happen(picks[number % len(picks)])
        world.now_s += TICK_S
    raise AssertionError("the rollout does not end")


class RoughWorld(World):
    """One in which starts and removals take their time and things go wrong, seen as the driver would see it."""

    def __init__(self, replicas: int) -> None:
        super().__init__(replicas)
        self.pools: dict[int, Pool] = {1: "blue"}
        self.mine: set[str] = set()
        self.sound = set(self.replicas)  # have served and would again, whether the driver knows it or not
        self.hopeless: set[str] = set()  # will not pass their check again
        self.clinging: set[str] = set()  # have a request that does not end
        self.crashing: set[str] = set()  # end as soon as they run
        self.bad: list[set[str]] = []  # which of these sets the next ones to be made of revision 2 belong to
        self.lost: set[str] = set()
        self.excused = False  # something has happened that a rollout may fail of
        self.exits = 0
        self.progress_s = self.now_s

    def snapshot(self) -> Snapshot:
        return replace(super().snapshot(), last_progress_s=self.progress_s, exits=self.exits)

    def do(self, step: Step) -> None:
        name = step.replica
        before = self.replicas.get(name)
        assert before is None or not before.busy, f"{step} while another step on it is under way"
        if step.action == "start":
            super().do(step)
            name = f"new{self.made}"
            self.replicas[name] = replace(self.replicas[name], state="creating", traffic="none", busy=True)
            self.mine.add(name)
            if self.bad and step.revision == 2:
                self.bad.pop().add(name)
                self.excused = True
            self.pools[step.revision] = step.pool
        elif step.action == "remove":
            self.exits += name in self.mine and self.replicas[name].state == "exited"
            self._change(step, leaving=True, busy=True)
            self.sound.discard(name)
        else:
            since_s = before.healthy_since_s if before else None
            super().do(step)
            if step.action == "admit":
                self._change(step, healthy_since_s=since_s, leaving=False, drained_since_s=None)
                self.sound.add(name)
            if step.action != "drain":
                self.progress_s = self.now_s

    def happen(self, pick: int) -> None:
        """Let some of what is under way come to its end."""
        waiting = [r for r in self.replicas.values() if r.busy or self._may_change(r)]
        for number in range(min(len(waiting), 1 + len(waiting) // 6)):
            self._end(waiting.pop((pick + number) % len(waiting)))

    def _may_change(self, replica: Replica) -> bool:
        if replica.state != "running" or replica.traffic == "maint":
            return False
        for_good = {"starting": False, "unhealthy": replica.name in self.hopeless, "healthy": True}[replica.health]
        return not for_good or bool(replica.sessions and replica.name not in self.clinging)

    def _end(self, replica: Replica) -> None:
        if not replica.busy:
            health = "unhealthy" if replica.name in self.hopeless else "healthy"
            since_s = (replica.healthy_since_s or self.now_s) if health == "healthy" else None
            sessions = replica.sessions if replica.name in self.clinging else 0
            self._set(replica, health=health, healthy_since_s=since_s, sessions=sessions)
            if replica.ever_ready and health == "healthy":
                self.sound.add(replica.name)
        elif replica.leaving:
            del self.replicas[replica.name]
            self.progress_s = self.now_s
        else:
            self._set(replica, state="running", traffic="drain", busy=False)
            if replica.name in self.crashing:
                self._die(replica)

    def _set(self, replica: Replica, **changes: object) -> None:
        self.replicas[replica.name] = replace(replica, **changes)  # type: ignore[arg-type]

    def ready(self, revision: int | None = None, pool: Pool | None = None, min_ready_s: float = 0.0) -> int:
        """Count those that serve, of one revision or of all, in one pool or in both."""
        return sum(
            revision in (None, r.revision) and pool in (None, r.pool) and r.available(self.now_s, min_ready_s)
            for r in self.replicas.values()
        )

    def staying(self) -> list[Replica]:
        return [r for r in self.replicas.values() if not r.leaving and r.state != "exited"]

    # Troubles

    def dies(self, pick: int) -> None:
        if running := [r for r in self.replicas.values() if r.state == "running" and not r.busy]:
            self._die(running[pick % len(running)])

    def _die(self, dead: Replica) -> None:
        self.excused |= not dead.ever_ready or len(self.lost) >= 2
        self.lost.add(dead.name)
        self._set(dead, state="exited", exit_code=1, health="unhealthy", sessions=0, busy=False)
        self.sound.discard(dead.name)

    def sickens(self, pick: int) -> str:
        healthy = [r for r in self.replicas.values() if r.health == "healthy" and r.state == "running" and not r.busy]
        if not healthy:
            return ""
        sick = healthy[pick % len(healthy)]
        self._set(sick, health="unhealthy", healthy_since_s=None)
        self.sound.discard(sick.name)
        return sick.name

    def sickens_for_good(self, pick: int) -> None:
        self.hopeless.add(self.sickens(pick))
        self.excused = True

    def never_passes(self, pick: int) -> None:
        self.bad.append(self.hopeless)

    def never_runs(self, pick: int) -> None:
        self.bad.append(self.crashing)

    def clings(self, pick: int) -> None:
        self.clinging.update(list(self.replicas)[pick % 10 :: 10])

    def killed(self, pick: int) -> None:
        """End the driver's process: the next one knows what engine and router show, and the record."""
        for replica in list(self.replicas.values()):
            self._adopt(replica, pick)
        self.start_afresh()

    def router_restarts(self, pick: int) -> None:
        """Start the router anew: no server has been checked, the weight is the saved one. The driver goes with it."""
        self.killed(pick)
        for replica in list(self.replicas.values()):
            dead = replica.state == "exited"
            fresh = Replica(replica.name, replica.revision, replica.state, pool=self.pools[replica.revision])
            self._set(fresh, leaving=replica.leaving, ever_ready=dead, exit_code=replica.exit_code)

    def _adopt(self, replica: Replica, pick: int) -> None:
        state = replica.state
        if replica.busy:  # a start or a removal was under way: it came to its end, to half of it or to nothing
            if pick % 3 == 0:
                del self.replicas[replica.name]
                return
            half, removed = pick % 3 == 1, replica.leaving
            if state == "creating":
                state = "created" if half else "running"
            replica = Replica(replica.name, replica.revision, pool=replica.pool, exit_code=replica.exit_code)
            if half and removed:  # the router was to take it out next
                replica = replace(replica, traffic="maint", health="unhealthy")
        self._set(
            replica,
            state=state,
            leaving=state == "created",
            healthy_since_s=self.now_s if replica.health == "healthy" else None,
            drained_since_s=None,
            ever_ready=state == "exited" or replica.traffic == "ready",
        )

    def stopped(self, pick: int) -> None:
        """Stop the driver, which leaves every replica serving or gone, and let it go on."""
        for replica in list(self.replicas.values()):
            unchecked = replica.health == "starting" and replica.name not in self.mine
            if replica.busy or replica.state != "running" or not (replica.health == "healthy" or unchecked):
                del self.replicas[replica.name]
                self.sound.discard(replica.name)
            else:
                self._set(replica, traffic="ready", leaving=False, drained_since_s=None, ever_ready=True)
        self.start_afresh()

    def get_well(self, revision: int) -> None:
        """Let the replicas of a revision pass their check again."""
        self.hopeless.difference_update(r.name for r in self.replicas.values() if r.revision == revision)
        self.start_afresh()

    def start_afresh(self) -> None:
        """Begin another run: of what has ended before it, nobody says that it never served."""
        for replica in list(self.replicas.values()):
            if replica.busy:
                self._end(replica)
            elif replica.state == "exited":
                self._set(replica, ever_ready=True)
        self.mine.clear()
        self.exits = 0
        self.progress_s = self.now_s
        self.position = replace(self.position, since_s=self.now_s)
        self.measured.clear()

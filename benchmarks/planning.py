"""How long does one decision take for a fleet of 1,000 replicas? Each strategy is followed through a whole rollout.

The peer is the limit: 50 ms, for the slowest decision of the slowest strategy.
"""

from __future__ import annotations

import sys
import time

from _bench import report

from dockerlab.fleet.forecast import World
from dockerlab.fleet.model import Replica, Snapshot
from dockerlab.fleet.plan import plan
from dockerlab.fleet.steps import Goal
from dockerlab.fleet.strategies import BlueGreen, Canary, Recreate, RollingUpdate

REPLICAS, ROUNDS, LIMIT_S = 1000, 5, 0.05
STRATEGIES = (Recreate(), RollingUpdate(), RollingUpdate(max_surge=1, max_unavailable=0), BlueGreen(), Canary())


def slowest(strategy: Recreate | RollingUpdate | BlueGreen | Canary, stages: int) -> float:
    """Give the seconds of the slowest decision in the first `stages` stages of a rollout."""
    replicas = tuple(
        Replica(f"web-{n}", 1, health="healthy", traffic="ready", healthy_since_s=0.0, ever_ready=True)
        for n in range(REPLICAS)
    )
    goal = Goal(REPLICAS, 2, strategy, stable=1)
    world = World(goal, Snapshot(replicas, 10.0, 10.0), lambda n: f"new-{n}")
    seen = []
    for snapshot, now in world.rounds():
        seen.append(snapshot)
        for step in now.steps:
            world.take(step)
    worst_s = 0.0
    for snapshot in seen[:: max(1, len(seen) // stages)]:
        begun_s = time.perf_counter()
        plan(goal, snapshot)
        worst_s = max(worst_s, time.perf_counter() - begun_s)
    return worst_s


def main() -> int:
    """Measure and print."""
    worst = [max(slowest(strategy, 200) for strategy in STRATEGIES) for _ in range(ROUNDS)]
    held = report("slowest decision for 1,000 replicas", worst, [LIMIT_S] * ROUNDS, limit=1.0)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())

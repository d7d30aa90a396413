"""How far a rollout has come: what neither the engine's labels nor a router that died can tell."""

from __future__ import annotations

from dataclasses import dataclass, field

from dockerlab.fleet.model import Pool, share


@dataclass
class Progress:
    """What is kept of the rollout that is under way or was stopped, and of where each revision is.

    Parameters
    ----------
    step : int
        Index of the canary's step.
    promoted : bool
        Somebody has said that it shall go on.
    green : int
        Percent of the requests that go to the router's green pool.
    pools : dict of int to Pool
        The pool of each revision.
    """

    step: int = 0
    promoted: bool = False
    green: int = 0
    pools: dict[int, Pool] = field(default_factory=dict)

    def pool_of(self, revision: int) -> Pool:
        """Give where the replicas of a revision are; the pool that serves where it has none yet."""
        return self.pools.get(revision, "green" if self.green > 50 else "blue")

    def weight(self, pool: Pool) -> int:
        """Give the percent of the requests that a pool gets."""
        return share(pool, self.green)

    def begin(self) -> None:
        """Be at the first step."""
        self.step, self.promoted = 0, False

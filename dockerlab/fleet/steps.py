"""What is planned: the goal, the steps towards it, and why it may be out of reach. Pure values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dockerlab.fleet.model import Pool
from dockerlab.fleet.strategies import Strategy


@dataclass(frozen=True)
class Goal:
    """What a fleet should become.

    Parameters
    ----------
    replicas : int
        How many there should be.
    revision : int
        What they should run; new replicas are made from it.
    strategy : Strategy or None
        How old revisions are replaced. None only scales one pool: replicas of other revisions stay.
    progress_deadline_s : float
        Seconds without progress after which the plan reports a failure.
    grace_s : float
        Seconds that a leaving replica gets to end its requests.
    stable : int
        The revision that is kept whole until the new one, in a pool of its own, has taken over; 0 for none.
    bear : bool
        A replica that has served and is unhealthy now counts as there: whoever heals decides when it goes.
    unwanted : frozenset of str
        Names of replicas that are to be replaced, whatever they run.
    pool : {"blue", "green"} or None
        The pool that is scaled where there is no strategy; None is the one that serves.
    """

    replicas: int
    revision: int
    strategy: Strategy | None = None
    progress_deadline_s: float = 60.0
    grace_s: float = 10.0
    stable: int = 0
    bear: bool = False
    unwanted: frozenset[str] = frozenset()
    pool: Pool | None = None


Action = Literal["start", "admit", "drain", "remove", "weight", "advance"]


@dataclass(frozen=True)
class Step:
    """One thing to do.

    Parameters
    ----------
    action : {"start", "admit", "drain", "remove", "weight", "advance"}
        start: create and start a container and hand it to the router without traffic. admit: give it traffic.
        drain: send it no new requests. remove: take it out of the router, stop and remove the container.
        weight: send a share of the requests to a pool. advance: go on to the next step of a canary.
    replica : str
        The replica concerned; empty for "start", whose name is not known yet, and where it is a whole pool.
    revision : int
        Its revision.
    cause : str
        Why.
    pool : {"blue", "green"}
        The pool concerned.
    percent : int
        The share, for "weight".
    """

    action: Action
    replica: str
    revision: int
    cause: str
    pool: Pool = "blue"
    percent: int = 0

    @property
    def green(self) -> int:
        """The percent of the requests that the green pool gets, for "weight": blue has the rest."""
        return self.percent if self.pool == "green" else 100 - self.percent


@dataclass(frozen=True)
class Failure:
    """Why the goal cannot be reached.

    Parameters
    ----------
    reason : str
        In a sentence.
    replica : str
        The replica that shows it, where there is one.
    """

    reason: str
    replica: str = ""


@dataclass(frozen=True)
class Plan:
    """The next steps towards a goal.

    Parameters
    ----------
    steps : tuple of Step
        May be empty while something is being waited for.
    done : bool
        The goal is reached.
    waiting_for : str
        What is being waited for, in a few words.
    failure : Failure or None
        Set when there is no use in going on.
    paused : bool
        Nothing goes on by itself: somebody has to promote or to abort.
    """

    steps: tuple[Step, ...] = ()
    done: bool = False
    waiting_for: str = ""
    failure: Failure | None = None
    paused: bool = False

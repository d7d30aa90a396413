"""When each request is due: an open loop, which does not wait for answers.

Real visitors do not wait for each other. A load that sends the next request only after the last answer slows down
together with the service and so hides every stall; one that keeps to a schedule does not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dockerlab.errors import BadInputError

MAX_RATE_RPS = 2000.0
"""More than one small sender process can keep up with."""


@dataclass(frozen=True)
class Step:
    """A stretch of constant rate.

    Parameters
    ----------
    rate_rps : float
        Requests a second, above 0 and at most 2000.
    duration_s : float
        Length in seconds; infinity where the load runs until it is stopped.

    Raises
    ------
    BadInputError
        If a number is out of its range.
    """

    rate_rps: float
    duration_s: float = math.inf

    def __post_init__(self) -> None:
        if not 0 < self.rate_rps <= MAX_RATE_RPS:
            raise BadInputError(
                f"A rate of {self.rate_rps} requests a second cannot be sent.",
                f"Choose a rate above 0 and at most {MAX_RATE_RPS:g}.",
            )
        if not self.duration_s > 0:
            raise BadInputError(
                f"A load cannot last {self.duration_s} seconds.",
                "Choose a duration above 0, or leave it out and stop the load yourself.",
            )


@dataclass(frozen=True)
class Schedule:
    """One or more stretches of constant rate, one after the other.

    Parameters
    ----------
    steps : tuple of Step
        In order of time; only the last may be without an end.

    Raises
    ------
    BadInputError
        If there is no step, or a step follows one that never ends.

    Examples
    --------
    >>> [round(due, 2) for due in constant(4, duration_s=1).offsets_s()]
    [0.0, 0.25, 0.5, 0.75]
    """

    steps: tuple[Step, ...]

    def __post_init__(self) -> None:
        if not self.steps:
            raise BadInputError("A load needs at least one rate.", "Give a number such as rate=100.")
        if any(math.isinf(step.duration_s) for step in self.steps[:-1]):
            raise BadInputError("A step follows one that never ends.", "Give every step but the last a duration.")

    @property
    def duration_s(self) -> float:
        """Length in seconds, infinity if it never ends."""
        return sum(step.duration_s for step in self.steps)

    def offsets_s(self) -> Iterator[float]:
        """Yield when each request is due, in seconds from the start, in order.

        Each offset is computed from its step's start, not from the one before, so that no rounding error adds up.
        """
        start_s = 0.0
        for step in self.steps:
            number = 0
            # The small allowance keeps 0.1 * 10 requests at 10, whatever the last bit of the product says.
            while number < step.duration_s * step.rate_rps - 1e-9:
                yield start_s + number / step.rate_rps
                number += 1
            start_s += step.duration_s


def constant(rate_rps: float, *, duration_s: float | None = None) -> Schedule:
    """Make a schedule of one constant rate.

    Parameters
    ----------
    rate_rps : float
        Requests a second, above 0 and at most 2000.
    duration_s : float, optional
        Length in seconds; without it the load runs until it is stopped.

    Returns
    -------
    Schedule
        Of one step.

    Raises
    ------
    BadInputError
        If a number is out of its range.
    """
    return Schedule((Step(rate_rps, math.inf if duration_s is None else duration_s),))


def steps(pairs: Sequence[tuple[float, float]]) -> Schedule:
    """Make a schedule whose rate changes.

    Parameters
    ----------
    pairs : sequence of (rate_rps, duration_s)
        Requests a second and seconds, in order of time.

    Returns
    -------
    Schedule
        Of as many steps as there are pairs.

    Raises
    ------
    BadInputError
        If there is no pair or a number is out of its range.

    Examples
    --------
    >>> steps([(10, 5), (50, 5)]).duration_s
    10
    """
    try:
        known = [(rate_rps, duration_s) for rate_rps, duration_s in pairs]
    except (TypeError, ValueError) as error:
        advice = "Give a number without quotes, or pairs such as [(10, 5), (50, 5)]."
        raise BadInputError(f"A rate of {pairs!r} cannot be sent.", advice) from error
    return Schedule(tuple(Step(rate_rps, duration_s) for rate_rps, duration_s in known))

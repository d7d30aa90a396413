"""Is the new revision good? Judged by its requests, as the router counts them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dockerlab.errors import BadInputError
from dockerlab.fleet.numbers import positive


@dataclass(frozen=True)
class Measured:
    """What the router has counted of the new revision's requests since a step began.

    Parameters
    ----------
    requests : int
        How many were answered, or should have been.
    lost : int
        How many of them were answered with a 5xx, by the service or by the router in its place.
    latency_s : float
        Mean seconds from request to answer of those that were answered.
    """

    requests: int = 0
    lost: int = 0
    latency_s: float = 0.0


@dataclass(frozen=True)
class Verdict:
    """What an analysis says.

    Parameters
    ----------
    phase : {"Running", "Successful", "Failed", "Inconclusive"}
        As in Argo Rollouts.
    reason : str
        In a sentence.
    """

    phase: Literal["Running", "Successful", "Failed", "Inconclusive"]
    reason: str


@dataclass(frozen=True)
class Analysis:
    """A step that looks at the requests of the new revision, as the router counts them.

    It fails as soon as `min_requests` were seen and more than the share that is borne were lost, or they were too slow.

    Parameters
    ----------
    duration_s : float, default 5
        Seconds that are looked at.
    max_lost : float, default 0.01
        The share of lost requests that is borne, from 0 to 1.
    max_latency_s : float or None
        The mean latency that is borne, in seconds; None looks at losses only.
    min_requests : int, default 20
        Fewer are inconclusive: the rollout pauses then.

    Raises
    ------
    BadInputError
        Where a number is out of range.
    """

    duration_s: float = 5.0
    max_lost: float = 0.01
    max_latency_s: float | None = None
    min_requests: int = 20

    def __post_init__(self) -> None:
        positive("duration_s", self.duration_s)
        if not 0 <= self.max_lost <= 1:
            raise BadInputError(f"max_lost is {self.max_lost!r}.", "Give a share from 0 to 1, such as 0.01 for 1 %.")
        if self.max_latency_s is not None:
            positive("max_latency_s", self.max_latency_s)
        if isinstance(self.min_requests, bool) or not isinstance(self.min_requests, int) or self.min_requests < 1:
            raise BadInputError(f"min_requests is {self.min_requests!r}.", "Give a whole number from 1 on.")

    def judge(self, measured: Measured, since_s: float) -> Verdict:
        """Say what `measured` means, `since_s` seconds after the step began."""
        counted, lost, slow_s = measured.requests, measured.lost, self.max_latency_s
        if counted >= self.min_requests:
            if lost > self.max_lost * counted:
                return Verdict("Failed", f"{lost} of {counted} requests to the new revision were lost.")
            if slow_s is not None and measured.latency_s > slow_s:
                text = f"{measured.latency_s:.3f} s on average, at most {slow_s:g} s are borne"
                return Verdict("Failed", f"The new revision answers in {text}.")
        if since_s < self.duration_s:
            return Verdict("Running", f"{lost} of {counted} requests lost so far")
        if counted < self.min_requests:
            return Verdict("Inconclusive", f"only {counted} requests were seen, {self.min_requests} are needed")
        return Verdict("Successful", f"{lost} of {counted} requests were lost")

    def __str__(self) -> str:
        return f"analyse {self.duration_s:g} s"

"""The numbers of a reconciler: what is borne, and how long it waits. Pure.

Whose they are: the backoff is that of Docker's restart policy (moby ``restartmanager``: 100 ms doubled up to 1 min,
back to the start after 10 s of running). The long waits of a crash loop are the kubelet's (10 s doubled up to 300 s).
How long a failing check is borne is that of Kubernetes' probes (every 10 s, 3 failures in a row).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from dockerlab.errors import BadInputError
from dockerlab.fleet.numbers import in_order, not_negative, positive, resolve, speed, whole


@dataclass(frozen=True)
class HealingPolicy:
    """The numbers of a reconciler.

    Parameters
    ----------
    failure_threshold : int, default 3
        So many looks in a row must find a replica unhealthy before it is replaced (Kubernetes' probes).
    unhealthy_after_s : float, default 20
        And so long: the first and the third of three probes 10 s apart (Kubernetes).
    backoff_s, max_backoff_s : float, default 0.1 and 60
        Wait after the first failure, doubled with each further one in a row up to the second number (Docker).
    reset_after_s : float, default 10
        A fleet that is whole for so long starts over with the first wait, and a replica that ran well for so long is
        no failure of its version when it ends or drifts (Docker).
    crash_loop_after : int, default 5
        After so many failures in a row the fleet is marked CrashLoopBackOff, or DriftLoopBackOff where its replicas
        run but do not stay as their image. (The kubelet does so from the first on.)
    crash_loop_s, max_crash_loop_s : float, default 10 and 300
        Wait from then on, doubled with each further failure up to the second number (kubelet).
    max_at_once : int or str, default "25%"
        So many unhealthy or drifted replicas are replaced at a time; a share is rounded down, but is at least 1.
    interval_s : float, default 0.5
        Seconds between two looks.
    drift_interval_s : float, default 2
        Seconds between two looks at the files of all replicas, where drift is watched; more where a look takes long.

    Raises
    ------
    BadInputError
        Where a number is out of its range.

    Examples
    --------
    >>> [HealingPolicy().wait_s(failures) for failures in (1, 2, 3, 5, 6)]
    [0.1, 0.2, 0.4, 10.0, 20.0]
    """

    failure_threshold: int = 3
    unhealthy_after_s: float = 20.0
    backoff_s: float = 0.1
    max_backoff_s: float = 60.0
    reset_after_s: float = 10.0
    crash_loop_after: int = 5
    crash_loop_s: float = 10.0
    max_crash_loop_s: float = 300.0
    max_at_once: int | str = "25%"
    interval_s: float = 0.5
    drift_interval_s: float = 2.0

    def __post_init__(self) -> None:
        whole("failure_threshold", self.failure_threshold, 1)
        whole("crash_loop_after", self.crash_loop_after, 1)
        not_negative("unhealthy_after_s", self.unhealthy_after_s)
        not_negative("reset_after_s", self.reset_after_s)
        waits = ("backoff_s", "max_backoff_s", "crash_loop_s", "max_crash_loop_s")
        for name in (*waits, "interval_s", "drift_interval_s"):
            positive(name, getattr(self, name))
        in_order("backoff_s", self.backoff_s, "max_backoff_s", self.max_backoff_s)
        in_order("crash_loop_s", self.crash_loop_s, "max_crash_loop_s", self.max_crash_loop_s)
        self.at_once(1)
        if self.max_at_once == 0:
            raise BadInputError("max_at_once is 0.", 'Give a count such as 1, or "25%".')

    def at_once(self, replicas: int) -> int:
        """Give how many unhealthy or drifted replicas of a fleet of `replicas` may be replaced at a time."""
        return max(1, resolve("max_at_once", self.max_at_once, replicas, up=False))

    def away_s(self, attempts: int) -> float:
        """Give the wait after so many attempts in a row that found no engine or no router, in seconds."""
        return _doubled(self.backoff_s, attempts, self.max_backoff_s)

    def wait_s(self, failures: int) -> float:
        """Give the wait after so many failures in a row, in seconds."""
        short_s = _doubled(self.backoff_s, failures, self.max_backoff_s)
        if failures < self.crash_loop_after:
            return short_s
        # Where the short wait has grown past the long one, the longer counts: waits never shrink.
        return max(short_s, _doubled(self.crash_loop_s, failures - self.crash_loop_after + 1, self.max_crash_loop_s))

    def faster(self, factor: float) -> HealingPolicy:
        """Give the same policy with every wait divided by `factor`, for a lesson. The time between looks stays.

        Raises
        ------
        BadInputError
            Where `factor` is not a positive number.
        """
        speed(factor)
        return replace(
            self,
            unhealthy_after_s=self.unhealthy_after_s / factor,
            backoff_s=self.backoff_s / factor,
            max_backoff_s=self.max_backoff_s / factor,
            reset_after_s=self.reset_after_s / factor,
            crash_loop_s=self.crash_loop_s / factor,
            max_crash_loop_s=self.max_crash_loop_s / factor,
        )


def _doubled(first_s: float, times: int, most_s: float) -> float:
    # Beyond 2 ** 60 every number is cut off anyway.
    return float(min(first_s * 2 ** min(max(times - 1, 0), 60), most_s))

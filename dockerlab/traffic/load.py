"""A load on a service, for as long as a block of code runs."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any
from urllib.parse import urlsplit

import dockerlab
from dockerlab.errors import BadInputError, DockerlabError, TrafficError
from dockerlab.traffic import schedule as schedules
from dockerlab.traffic.results import LIMIT_S, Request, Results, results_of

START_TIMEOUT_S = 60.0
"""A busy class server can take long to start a Python process; nothing is sent in that time."""

END_GRACE_S = 10.0


class Traffic:
    """Real requests at a steady pace, sent by a process of their own while a block runs.

    Parameters
    ----------
    url : str
        Address of the service: ``http://`` and a loopback address.
    rate : float or sequence of (rate_rps, duration_s)
        Requests a second, above 0 and at most 2000; or several rates one after the other.
    path : str
        Joined to `url`.
    duration_s : float, optional
        Seconds after which sending ends by itself; without it, it ends with the block.
    timeout_s : float
        Seconds from its scheduled time after which a request counts as lost; above 0 and at most 60.
    counters : callable, optional
        Returns how often the router has retried a request so far; read before and after the load.

    Raises
    ------
    BadInputError
        If an argument is out of its range.

    Examples
    --------
    >>> with Traffic("http://127.0.0.1:8080", rate=100) as traffic:  # doctest: +SKIP
    ...     web.scale(10)
    >>> traffic.results  # doctest: +SKIP
    """

    def __init__(
        self,
        url: str,
        *,
        rate: float | Sequence[tuple[float, float]],
        path: str = "",
        duration_s: float | None = None,
        timeout_s: float = LIMIT_S,
        counters: Callable[[], int] | None = None,
    ) -> None:
        self.url = _loopback(url).rstrip("/") + ("/" + path.lstrip("/") if path else "")
        if isinstance(rate, int | float):
            self.schedule = schedules.constant(rate, duration_s=duration_s)
        elif duration_s is None:
            self.schedule = schedules.steps(rate)
        else:
            raise BadInputError("Several rates have durations of their own.", "Leave duration_s out.")
        if not 0 < timeout_s <= 60:
            raise BadInputError(
                f"A limit of {timeout_s} s cannot be used.", "Choose one above 0 and at most 60 seconds."
            )
        self.timeout_s = timeout_s
        self._counters = counters
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._errors: IO[bytes] | None = None
        self._clear()

    def _clear(self) -> None:
        self._rows: list[Request] = []
        self._begun = threading.Event()
        self._done = False
        self._failed = ""
        self._stopping = False
        self._retries_before: int | None = None
        self._retries: int | None = None

    @property
    def running(self) -> bool:
        """Whether the sender is at work."""
        return self._process is not None

    @property
    def results(self) -> Results:
        """The requests that have ended so far, also while the load runs."""
        # list() of a list is one step for other threads, so the reader can go on appending.
        return results_of(list(self._rows), limit_s=self.timeout_s, router_retries=self._retries)

    def start(self) -> Traffic:
        """Start sending; return once the first request is under way.

        Returns
        -------
        Traffic
            This load.

        Raises
        ------
        TrafficError
            If the sender does not start.
        BadInputError
            If the load is running already.
        """
        if self._process is not None:
            raise BadInputError(
                "This load is running already.", "Stop it first, or make another with lab.traffic(...)."
            )
        self._clear()
        self._retries_before = self._counters() if self._counters else None
        try:
            self._launch()
            if not self._begun.wait(START_TIMEOUT_S) or self._failed:
                raise self._kill() or self._error("The process that sends the requests did not start.")
        except BaseException:
            # Ctrl-C included: nothing may be left behind.
            self._kill()
            raise
        return self

    def stop(self) -> Results:
        """Schedule nothing more, wait for the requests under way (at most their limit) and end the sender.

        Returns
        -------
        Results
            Of the whole load.

        Raises
        ------
        TrafficError
            If the sender died, or not one connection was made.
        """
        if self._process is None:
            return self.results
        self._stopping = True
        return self._finish(self.timeout_s + END_GRACE_S)

    def wait(self) -> Results:
        """Wait until the whole schedule has been sent and answered.

        Returns
        -------
        Results
            Of the whole load.

        Raises
        ------
        BadInputError
            If the load has no end of its own.
        TrafficError
            If the sender died, or not one connection was made.
        """
        if self._process is None:
            return self.results
        if self.schedule.duration_s == float("inf"):
            raise BadInputError("This load has no end to wait for.", "Give duration_s, or use stop().")
        return self._finish(None)

    def __enter__(self) -> Traffic:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.stop()
            return
        # The block's own error is the one to see.
        with contextlib.suppress(TrafficError):
            self.stop()

    def _launch(self) -> None:
        from dockerlab.traffic.sender import Order  # noqa: PLC0415 - aiohttp is slow to import

        order = Order(
            url=self.url,
            steps=tuple(
                (step.rate_rps, None if step.duration_s == float("inf") else step.duration_s)
                for step in self.schedule.steps
            ),
            timeout_s=self.timeout_s,
            parent=os.getpid(),
        )
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        windows_flags: int = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "dockerlab.traffic.sender", order.to_json()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            # -m puts the working folder first on the path: a learner's own json.py must not end up there.
            cwd=Path(dockerlab.__file__).parents[1],
            start_new_session=True,  # an interrupt of the kernel's process group must not reach the sender
            creationflags=windows_flags,
        )
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        """Gather what the sender prints, in a thread."""
        assert process.stdout is not None
        for line in process.stdout:
            try:
                message: dict[str, Any] = json.loads(line)
            except ValueError:  # cut off when the sender was killed
                continue
            if "rows" in message:
                self._rows += [Request(*row) for row in message["rows"]]
            elif "begun" in message:
                self._begun.set()
            else:
                self._done = "done" in message
                self._failed = message.get("failed", "")
        if not self._done and not self._failed:
            self._failed = f"it ended before its time, with exit code {process.wait()}"
        self._begun.set()

    def _finish(self, timeout_s: float | None) -> Results:
        process = self._process
        assert process is not None
        try:
            if self._stopping and process.stdin is not None:
                with contextlib.suppress(OSError):
                    process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout_s)
        finally:
            failure = self._kill()
        if self._counters and self._retries_before is not None:
            # A router that is gone tells nothing, and one that was started anew counts from 0 again: then nobody knows.
            with contextlib.suppress(DockerlabError):
                retries = self._counters() - self._retries_before
                self._retries = retries if retries >= 0 else None
        if failure is not None:
            raise failure
        results = self.results
        if len(results) and all(kind in ("refused", "unsent") for kind in results.lost_kind):
            raise TrafficError(
                f"Not one of {len(results)} requests could be sent to {self.url}: nothing listens there.",
                "Look at the fleet's url and its status(), then start the load again.",
            )
        return results

    def _kill(self) -> TrafficError | None:
        """End the sender if it still runs and let go of everything; return what went wrong with it."""
        process, self._process = self._process, None
        if process is None:
            return None
        process.kill()
        process.wait()
        if self._reader is not None:
            self._reader.join()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        failure = None if self._done else self._error("The process that sends the requests died.")
        if self._errors is not None:
            self._errors.close()
            self._errors = None
        return failure

    def _error(self, message: str) -> TrafficError:
        said = self._failed
        if self._errors is not None and not self._errors.closed:
            self._errors.seek(0)
            said = self._errors.read().decode(errors="replace").strip()[-2000:] or said
        return TrafficError(
            f"{message} {said}".rstrip(),
            "The requests sent so far are in .results. Start the load again, with a lower rate if the machine is busy.",
        )

    def __repr__(self) -> str:
        state = "running" if self.running else "not running"
        return f"Traffic to {self.url}: {state}, {len(self._rows)} requests ended"


def _loopback(url: str) -> str:
    """Return the address if it is http on this machine: the load is for learners' own containers."""
    advice = "Give the url of one of your fleets, such as http://127.0.0.1:8080."
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise BadInputError(f"{url!r} is not an address: {error}.", advice) from error
    if parts.scheme != "http" or not host:
        raise BadInputError(f"{url!r} is not an http:// address.", advice)
    try:
        here = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        here = False
    if not here:
        raise BadInputError(f"{url!r} is not on this machine; the load goes to your own containers only.", advice)
    return url

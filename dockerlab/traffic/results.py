"""What became of each request, and the summary of many.

A request is *lost* if it did not get a 2xx answer within the limit (2 s) of its scheduled time, or if its connection
failed. Latency counts from the scheduled time, so that a sender or a service that stalls cannot hide it ("coordinated
omission").
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import NamedTuple

from dockerlab.errors import BadInputError

LIMIT_S = 2.0
"""An answer later than this counts as lost."""


class Request(NamedTuple):
    """One request of a load.

    Parameters
    ----------
    scheduled_s, sent_s : float
        When it was due and when the sender began it, in epoch seconds; ``sent_s`` is NaN if it was never begun.
    latency_s : float
        Seconds from the scheduled time to the whole answer or to the failure.
    status : int
        HTTP status, 0 without an answer.
    version, replica : str
        The answer's ``X-Version`` and ``X-Replica`` headers, empty without.
    error : str
        Empty, or why there is no good answer: refused, reset, timeout, incomplete, invalid, unsent, other, or http_3xx,
        http_4xx and http_5xx.
    """

    scheduled_s: float
    sent_s: float
    latency_s: float
    status: int
    version: str = ""
    replica: str = ""
    error: str = ""


class Count(NamedTuple):
    """How many requests were answered well and how many were lost."""

    ok: int
    lost: int


@dataclass(frozen=True)
class Summary:
    """The numbers of a load.

    Parameters
    ----------
    scheduled, sent, ok, lost : int
        Requests due, really begun, answered with a 2xx within the limit, and not so; ``ok + lost == scheduled``.
    lost_by_kind : mapping of str to int
        Lost requests by cause, the most frequent first.
    p50_s, p95_s, p99_s, max_s : float
        Latency of the answered requests in seconds: nearest-rank percentiles, each a value that was measured. NaN if
        none was answered.
    throughput_rps : float
        Answered requests a second.
    sent_share : float
        Sent over scheduled; below 0.99 the sender itself was too slow and the numbers should not be trusted. NaN if
        nothing was scheduled.
    outage_s : float
        The longest time in which every request that fell due was lost, in seconds: from the first of them to the next
        one that was answered, or to the end.
    router_retries : int or None
        Requests that the router sent a second time meanwhile; None if nobody counted, or for a part of a load.
    """

    scheduled: int
    sent: int
    ok: int
    lost: int
    lost_by_kind: Mapping[str, int]
    p50_s: float
    p95_s: float
    p99_s: float
    max_s: float
    throughput_rps: float
    sent_share: float
    outage_s: float
    router_retries: int | None = None

    def _rows(self) -> list[tuple[str, str]]:
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.lost_by_kind.items())
        rows = [
            ("scheduled", f"{self.scheduled}"),
            ("sent", f"{self.sent} ({_percent(self.sent_share)})"),
            ("answered", f"{self.ok}"),
            ("lost", f"{self.lost}" + (f" ({kinds})" if kinds else "")),
            ("longest outage", f"{self.outage_s:.2f} s"),
            ("latency, median", _milliseconds(self.p50_s)),
            ("latency, 95 %", _milliseconds(self.p95_s)),
            ("latency, 99 %", _milliseconds(self.p99_s)),
            ("latency, longest", _milliseconds(self.max_s)),
            ("throughput", f"{self.throughput_rps:.1f} a second"),
        ]
        if self.router_retries is not None:
            rows.append(("retried by the router", f"{self.router_retries}"))
        return rows

    def __str__(self) -> str:
        return "\n".join(f"{name:<22}{value}" for name, value in self._rows())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return _table((), self._rows(), "Requests of this load")


@dataclass(frozen=True, repr=False)
class Results:
    """All requests of a load as columns of equal length, in the order of their scheduled times.

    Parameters
    ----------
    scheduled_s, sent_s, latency_s, status, version, replica, error : tuple
        One value a request, as in `Request`.
    limit_s : float
        An answer later than this after its scheduled time counts as lost.
    router_retries : int or None
        Requests that the router sent a second time meanwhile.

    Raises
    ------
    BadInputError
        If the columns differ in length.

    Examples
    --------
    >>> results = results_of([Request(0.0, 0.0, 0.05, 200, version="1"), Request(1.0, 1.0, 0.0, 0, error="refused")])
    >>> results.summary().lost_by_kind
    {'refused': 1}
    """

    scheduled_s: tuple[float, ...] = ()
    sent_s: tuple[float, ...] = ()
    latency_s: tuple[float, ...] = ()
    status: tuple[int, ...] = ()
    version: tuple[str, ...] = ()
    replica: tuple[str, ...] = ()
    error: tuple[str, ...] = ()
    limit_s: float = LIMIT_S
    router_retries: int | None = None
    lost_kind: tuple[str, ...] = field(init=False, compare=False)
    """Why each request is lost, empty for those that are not."""

    def __post_init__(self) -> None:
        columns = (self.sent_s, self.latency_s, self.status, self.version, self.replica, self.error)
        if any(len(column) != len(self.scheduled_s) for column in columns):
            raise BadInputError("The columns of these results differ in length.", "Make results with results_of().")
        kinds = map(self._kind, self.status, self.latency_s, self.error)
        object.__setattr__(self, "lost_kind", tuple(kinds))

    def _kind(self, status: int, latency_s: float, error: str) -> str:
        if error:
            return error
        if not 200 <= status < 300:
            return f"http_{status // 100}xx" if status else "other"
        return "" if latency_s <= self.limit_s else "timeout"

    def __len__(self) -> int:
        return len(self.scheduled_s)

    def between(self, since_s: float | None = None, until_s: float | None = None) -> Results:
        """Take the requests that were due in a time window.

        Parameters
        ----------
        since_s, until_s : float, optional
            Epoch seconds; the first is part of the window, the second is not.

        Returns
        -------
        Results
            Without ``router_retries``, which are known for a whole load only.
        """
        if since_s is None and until_s is None:
            return self
        first = 0 if since_s is None else bisect_left(self.scheduled_s, since_s)
        last = len(self) if until_s is None else bisect_left(self.scheduled_s, until_s)
        window = slice(first, max(first, last))
        return Results(
            self.scheduled_s[window],
            self.sent_s[window],
            self.latency_s[window],
            self.status[window],
            self.version[window],
            self.replica[window],
            self.error[window],
            limit_s=self.limit_s,
        )

    def by_version(self) -> dict[str, Count]:
        """Count requests by the version that answered; those that nobody answered stand under ''."""
        return _counts(self.version, self.lost_kind)

    def by_replica(self) -> dict[str, Count]:
        """Count requests by the replica that answered; those that nobody answered stand under ''."""
        return _counts(self.replica, self.lost_kind)

    def summary(self, since_s: float | None = None, until_s: float | None = None) -> Summary:
        """Sum up the requests that were due in a time window, all of them by default.

        Parameters
        ----------
        since_s, until_s : float, optional
            Epoch seconds; the first is part of the window, the second is not.

        Returns
        -------
        Summary
            Of the window.
        """
        part = self.between(since_s, until_s)
        answered = sorted(latency for latency, kind in zip(part.latency_s, part.lost_kind, strict=True) if not kind)
        lost = Counter(kind for kind in part.lost_kind if kind)
        sent = sum(not math.isnan(sent_s) for sent_s in part.sent_s)
        span_s = part._span_s(since_s, until_s)
        return Summary(
            scheduled=len(part),
            sent=sent,
            ok=len(answered),
            lost=len(part) - len(answered),
            lost_by_kind=dict(lost.most_common()),
            p50_s=percentile(answered, 50),
            p95_s=percentile(answered, 95),
            p99_s=percentile(answered, 99),
            max_s=answered[-1] if answered else math.nan,
            throughput_rps=len(answered) / span_s if span_s > 0 else 0.0,
            sent_share=sent / len(part) if len(part) else math.nan,
            outage_s=part._outage_s(),
            router_retries=part.router_retries,
        )

    def _outage_s(self) -> float:
        longest_s, since_s = 0.0, None
        for due_s, kind in zip(self.scheduled_s, self.lost_kind, strict=True):
            if since_s is not None:
                longest_s = max(longest_s, due_s - since_s)
            if not kind:
                since_s = None
            elif since_s is None:
                since_s = due_s
        return longest_s

    def _span_s(self, since_s: float | None, until_s: float | None) -> float:
        """Seconds from the first due request to the last answer, or the window that was asked for."""
        if not len(self):
            return 0.0
        last_s = max(due + latency for due, latency in zip(self.scheduled_s, self.latency_s, strict=True))
        return (last_s if until_s is None else until_s) - (self.scheduled_s[0] if since_s is None else since_s)

    def __repr__(self) -> str:
        if not len(self):
            return "Results: no request yet"
        lines = [
            f"{name or 'no version':<22}{ok} answered, {lost} lost" for name, (ok, lost) in self.by_version().items()
        ]
        return "\n".join([str(self.summary()), *(f"version {line}" for line in lines)])

    def _repr_html_(self) -> str:
        if not len(self):
            return "<p>No request yet.</p>"
        rows = [(name or "none", str(ok), str(lost)) for name, (ok, lost) in self.by_version().items()]
        versions = _table(("version", "answered", "lost"), rows, "Requests by the version that answered")
        return f'<div style="display:flex;flex-wrap:wrap;gap:2em">{self.summary()._repr_html_()}{versions}</div>'


def results_of(requests: Iterable[Request], *, limit_s: float = LIMIT_S, router_retries: int | None = None) -> Results:
    """Make results of requests in any order.

    Parameters
    ----------
    requests : iterable of Request
        As they ended.
    limit_s : float
        An answer later than this after its scheduled time counts as lost.
    router_retries : int or None
        Requests that the router sent a second time meanwhile.

    Returns
    -------
    Results
        Sorted by scheduled time.
    """
    ordered = sorted(requests, key=lambda request: request.scheduled_s)
    if not ordered:
        return Results(limit_s=limit_s, router_retries=router_retries)
    columns = dict(zip(Request._fields, zip(*ordered, strict=True), strict=True))
    return Results(limit_s=limit_s, router_retries=router_retries, **columns)


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Take the nearest-rank percentile of values in ascending order: the smallest that `percent` of them do not exceed.

    Parameters
    ----------
    ordered : sequence of float
        Ascending; may be empty.
    percent : float
        From 0 to 100.

    Returns
    -------
    float
        One of the values, NaN if there is none.

    Examples
    --------
    >>> percentile([1.0, 2.0, 3.0, 4.0], 50)
    2.0
    """
    if not ordered:
        return math.nan
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def _counts(names: Sequence[str], lost_kinds: Sequence[str]) -> dict[str, Count]:
    ok = Counter(name for name, kind in zip(names, lost_kinds, strict=True) if not kind)
    lost = Counter(name for name, kind in zip(names, lost_kinds, strict=True) if kind)
    return {name: Count(ok[name], lost[name]) for name in sorted({*ok, *lost})}


def _milliseconds(seconds: float) -> str:
    if math.isnan(seconds):
        return "none"
    return f"{seconds * 1000:.{1 if seconds < 0.01 else 0}f} ms"


def _percent(share: float) -> str:
    # Rounded down: 99.96 % must not read as if every request had been sent.
    return "none" if math.isnan(share) else f"{math.floor(share * 1000) / 10:g} %"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], caption: str) -> str:
    """Write a small HTML table whose first column names the rows."""
    left, right = 'style="text-align:left"', 'style="text-align:right"'
    titles = "".join(f'<th scope="col" {right if column else left}>{escape(t)}</th>' for column, t in enumerate(head))
    body = "".join(
        f'<tr><th scope="row" {left}>{escape(name)}</th>'
        + "".join(f"<td {right}>{escape(value)}</td>" for value in values)
        + "</tr>"
        for name, *values in rows
    )
    top = f"<thead><tr>{titles}</tr></thead>" if head else ""
    return f"<table><caption {left}>{escape(caption)}</caption>{top}<tbody>{body}</tbody></table>"

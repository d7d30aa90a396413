"""A load that rises and falls, and the fleet that follows it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from dockerlab.errors import BadInputError
from dockerlab.plots.palette import Palette
from dockerlab.plots.picture import Picture
from dockerlab.plots.timeline import Timeline, timeline
from dockerlab.traffic.results import Results, percentile

_BINS_S = (0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600)
_DASHES = (0, (4, 2))
_DOTS = (0, (1, 1.2))


class Decision(Protocol):
    """What a figure needs of a decision of an autoscaler."""

    @property
    def time_s(self) -> float:
        """Epoch seconds."""

    @property
    def current(self) -> int:
        """Replicas that were wanted before."""

    @property
    def ready(self) -> int:
        """Replicas that served."""

    @property
    def recommended(self) -> int:
        """Replicas that the formula asks for."""

    @property
    def replicas(self) -> int:
        """Replicas that are wanted from now on."""


@dataclass(frozen=True)
class _Steps:
    """The decisions near the load, each column with a value for each time."""

    times: tuple[float, ...]
    ready: tuple[int, ...]
    asked: tuple[int, ...]
    wanted: tuple[int, ...]
    changes: tuple[tuple[float, int, int], ...]


def autoscale(results: Results, decisions: Sequence[Decision], *, each_rps: float | None = None) -> Picture:
    """Draw a load, and how the number of replicas followed it.

    From top to bottom: requests due a second, beside what the replicas could answer; the replicas that the formula
    asked for, those that the autoscaler wanted and those that served; how long users waited, and each lost request as
    a cross.

    Parameters
    ----------
    results : Results
        Of a load.
    decisions : sequence of Decision
        Of the autoscaler during that load, in order of time.
    each_rps : float, optional
        Requests a second that one replica can answer; without it the capacity is not drawn.

    Returns
    -------
    Picture
        With the number of lost requests in its title.

    Raises
    ------
    BadInputError
        If `each_rps` is not above 0.

    Examples
    --------
    >>> autoscale(Results(), ())
    Picture: Autoscaling over time: no request was sent; no decision.
    """
    if each_rps is not None and not each_rps > 0:
        raise BadInputError(f"each_rps is {each_rps!r}.", "Give the requests a second that one replica can answer.")
    load = timeline(results, ())
    start_s = results.scheduled_s[0] if len(results) else min((d.time_s for d in decisions), default=0.0)
    steps = _steps(load, decisions, start_s)

    def draw(figure: Figure, palette: Palette) -> None:
        top, middle, bottom = figure.subplots(3, 1, sharex=True, height_ratios=[2.2, 1.7, 1.7])
        _draw_load(top, load, steps, each_rps, palette)
        _draw_replicas(middle, steps, palette)
        _draw_latency(bottom, load, palette)
        for axes in (top, middle, bottom):
            for time, _, _ in steps.changes:
                axes.axvline(time, color=palette.faint, linewidth=0.9, zorder=0.5)
        bottom.set_xlim(0, max(load.end, *steps.times, 1e-3))
        bottom.set_xlabel("seconds since the first request")
        figure.align_ylabels()
        lost = sum(load.lost.values())
        colour = palette.alarm if lost else palette.ink
        figure.suptitle(_title(load, steps), x=0.014, ha="left", fontsize=15, fontweight="bold", color=colour)

    return Picture(draw, alt=_alt(load, steps, each_rps), size_in=(10.0, 7.2))


def _steps(load: Timeline, decisions: Sequence[Decision], start_s: float) -> _Steps:
    """Put the decisions on the load's axis; the size before the first one holds from the beginning."""
    near = [d for d in decisions if not load.due or 0 <= d.time_s - start_s <= load.end * 1.25]
    if not near:
        return _Steps((), (), (), (), ())
    first = near[0]
    times = (0.0, *(d.time_s - start_s for d in near))
    return _Steps(
        times,
        (first.ready, *(d.ready for d in near)),
        (first.current, *(d.recommended for d in near)),
        (first.current, *(d.replicas for d in near)),
        tuple((d.time_s - start_s, d.current, d.replicas) for d in near if d.replicas != d.current),
    )


def _draw_load(axes: Axes, load: Timeline, steps: _Steps, each_rps: float | None, palette: Palette) -> None:
    high = 1.0
    if each_rps is not None and steps.times:
        capacity = [number * each_rps for number in steps.ready]
        blue = palette.series[0]
        axes.fill_between(steps.times, 0, capacity, step="post", facecolor=(blue, 0.22), lw=0)
        axes.step(steps.times, capacity, where="post", color=blue, lw=1.8, gid="capacity", label="the fleet can answer")
        high = max(capacity)
    if load.due:
        edges, rates = _rates(load)
        axes.step(edges, rates, where="post", color=palette.ink, lw=2, ls=_DASHES, gid="due", label="users send")
        high = max(high, *rates)
    axes.set_ylim(0, high * 1.1)
    axes.set_ylabel("requests a second")
    _finish(axes)


def _draw_replicas(axes: Axes, steps: _Steps, palette: Palette) -> None:
    if steps.times:
        blue, orange, purple = palette.series[0], palette.series[1], palette.series[3]
        axes.fill_between(steps.times, 0, steps.ready, step="post", facecolor=(blue, 0.22), lw=0, label="serve")
        axes.step(steps.times, steps.wanted, where="post", color=purple, lw=2.4, gid="wanted", label="are wanted")
        axes.step(
            steps.times,
            steps.asked,
            where="post",
            color=orange,
            lw=1.8,
            ls=_DOTS,
            gid="asked",
            label="formula asks for",
        )
    axes.set_ylim(0, max([*steps.wanted, *steps.ready, *steps.asked, 1]) * 1.12)
    axes.set_ylabel("replicas")
    _finish(axes)


def _draw_latency(axes: Axes, load: Timeline, palette: Palette) -> None:
    green = palette.series[2]
    edges, width = _bins(load)
    answered: dict[int, list[float]] = defaultdict(list)
    for due, latency, kind in zip(load.due, load.latency, load.lost_kind, strict=True):
        if not kind:
            answered[_bin(due, width, len(edges) - 1)].append(latency)
    middles = [(number + 0.5) * width for number in range(len(edges) - 1)]
    waits = [percentile(sorted(answered[number]), 95) for number in range(len(middles))]  # NaN leaves a gap
    if answered:
        axes.plot(middles, waits, color=green, lw=1.8, marker="o", markersize=5, gid="p95", label="95 of 100 wait less")
    high = max([*(wait for wait in waits if not math.isnan(wait)), 0.01])
    lost = [due for due, kind in zip(load.due, load.lost_kind, strict=True) if kind]
    if lost:
        words = f"{len(lost):,} lost"
        axes.scatter(
            lost, [high * 1.25] * len(lost), marker="x", s=30, lw=1.3, color=palette.alarm, gid="lost", label=words
        )
    axes.set_ylim(0, high * (1.4 if lost else 1.15))
    axes.yaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value:g} s" if high >= 1 else f"{value * 1e3:g} ms")
    )
    axes.set_ylabel("latency")
    _finish(axes, integer=False)


def _finish(axes: Axes, *, integer: bool = True) -> None:
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=integer))
    axes.grid(axis="y")
    if axes.get_legend_handles_labels()[1]:
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 0.97), ncols=3, handlelength=2.4, columnspacing=1.6)


def _bins(load: Timeline) -> tuple[list[float], float]:
    """Cut the load into equal parts of a round length, at most some 40."""
    width = next((width for width in _BINS_S if width >= load.end / 40), load.end)
    count = max(1, round(load.end / width))
    width = load.end / count
    return [number * width for number in range(count + 1)], width


def _bin(time: float, width: float, count: int) -> int:
    return min(math.floor(time / width + 1e-6), count - 1)


def _rates(load: Timeline) -> tuple[list[float], list[float]]:
    edges, width = _bins(load)
    counts = [0] * (len(edges) - 1)
    for due in load.due:
        counts[_bin(due, width, len(counts))] += 1
    rates = [count / width for count in counts]
    return edges, [*rates, rates[-1]]


def _title(load: Timeline, steps: _Steps) -> str:
    if not load.due:
        return "No requests"
    text = f"{len(load.due):,} requests, {sum(load.lost.values()):,} lost"
    return f"{text}, {min(steps.wanted)} to {max(steps.wanted)} replicas" if steps.wanted else text


def _alt(load: Timeline, steps: _Steps, each_rps: float | None) -> str:
    if load.due:
        lost = sum(load.lost.values())
        rates = _rates(load)[1]
        text = f"{len(load.due):,} requests over {load.end:.1f} seconds, {min(rates):.0f} to {max(rates):.0f} a second"
        good = sorted(value for value, kind in zip(load.latency, load.lost_kind, strict=True) if not kind)
        text += f": {lost:,} lost"
        if good:
            text += f", 95 of 100 answered within {percentile(good, 95) * 1000:.0f} ms"
    else:
        text = "no request was sent"
    if each_rps is not None:
        text += f"; one replica can answer {each_rps:g} a second"
    if not steps.times:
        return f"Autoscaling over time: {text}; no decision."
    moves = ", ".join(f"{before} to {after} at {time:.1f} s" for time, before, after in steps.changes) or "none"
    return f"Autoscaling over time: {text}; wanted at first: {steps.wanted[0]}; changes: {moves}."

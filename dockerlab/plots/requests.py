"""Each request of a load over time, by version, with the events of a rollout."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from dockerlab.plots.palette import HATCHES, MARKERS, Palette
from dockerlab.plots.picture import Picture
from dockerlab.plots.timeline import Event, Timeline, timeline
from dockerlab.traffic.results import Results, percentile

_LANE_IN = 0.23
_DASHES = (0, (4, 3))
_DOTS = (0, (2, 2))
_BIN_WIDTHS_S = (0.1, 0.2, 0.25, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600)
_LATENCY_TICKS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)


def requests(results: Results, events: Sequence[Event] = ()) -> Picture:
    """Draw each request of a load over time.

    From top to bottom: what happened to the fleet, every lost request as a cross, every answered one at its latency,
    and answers a second.

    Parameters
    ----------
    results : Results
        Of a load.
    events : sequence of Event
        Of a rollout, in any order; those far outside the load are left out, and the text alternative says so.

    Returns
    -------
    Picture
        With the number of lost requests in its title.

    Examples
    --------
    >>> requests(Results())
    Picture: Requests over time: no request was sent.
    """
    load = timeline(results, _named(events))
    parts: list[tuple[Callable[[Axes, Timeline, Palette], None], float]] = [
        (_draw_lost, max(0.3, sum(marks.height_in for _, marks in load.swarms))),
        (_draw_latency, 2.2),
        (_draw_throughput, 1.7),
    ]
    if load.event_rows:
        parts.insert(0, (_draw_events, 0.1 + 0.24 * len(load.event_rows)))

    def draw(figure: Figure, palette: Palette) -> None:
        grid = figure.subplots(len(parts), 1, sharex=True, height_ratios=[height for _, height in parts], squeeze=False)
        axes: list[Axes] = list(grid[:, 0])
        for place, (part, _) in zip(axes, parts, strict=True):
            part(place, load, palette)
            for time in (time for label in load.labels for time in label.times):
                place.axvline(time, color=palette.muted, linewidth=1.1, linestyle=_DASHES, zorder=0.5)
        _write_events(axes[0], load, palette)
        _write_title(figure, load, palette)
        axes[-1].set_xlim(load.left, load.right)
        axes[-1].set_xlabel("seconds since the first request")
        figure.align_ylabels(axes)

    lanes = max((label.lane + 1 for label in load.labels), default=0)
    height = 1.7 + _LANE_IN * lanes + sum(height for _, height in parts)
    return Picture(draw, alt=_alt(load), size_in=(10.0, height))


@dataclass(frozen=True)
class _Share:
    """A change of weight, whose kind says which share of the requests goes where."""

    time_s: float
    kind: str
    revision: int


def _named(events: Sequence[Event]) -> list[Event]:
    """Name each change of weight by its share; leave out the steps of a canary, whose effects are events as well."""
    named: list[Event] = []
    for event in events:
        share = re.match(r"\d+ %", getattr(event, "text", "")) if event.kind == "weight" else None
        if share:
            named.append(_Share(event.time_s, f"{share[0]} to revision {event.revision}", event.revision))
        elif event.kind != "step":
            named.append(event)
    return named


def _write_title(figure: Figure, load: Timeline, palette: Palette) -> None:
    lost = sum(load.lost.values())
    text = f"{len(load.due):,} requests, {lost:,} lost" if load.due else "No requests"
    colour = palette.alarm if lost else palette.ink
    figure.suptitle(text, x=0.014, ha="left", fontsize=15, fontweight="bold", color=colour)
    handles = [
        Line2D(
            [], [], ls="none", marker=_marker(number), color=_colour(number, palette), ms=8, label=_name(load, version)
        )
        for number, version in load.numbered
    ]
    if lost:
        handles.append(Line2D([], [], ls="none", marker="x", mew=2.2, color=palette.alarm, ms=8, label="lost"))
    if load.due:
        handles.append(Line2D([], [], color=palette.ink, lw=1.4, ls=_DOTS, label="requests due"))
        legend = figure.legend(handles=handles, loc="upper right", ncols=len(handles), handletextpad=0.35)
        legend.set_in_layout(False)  # it stands beside the title


def _write_events(top: Axes, load: Timeline, palette: Palette) -> None:
    """Write what happened like flags on the lines, an earlier one above those that its words would run into."""
    pole: dict[str, Any] = {"arrowstyle": "-", "color": palette.muted, "lw": 1.1, "shrinkA": 0, "shrinkB": 0}
    for label in load.labels:
        height = 3 + 72 * _LANE_IN * label.lane
        place: dict[str, Any] = {
            "xycoords": ("data", "axes fraction"),
            "textcoords": "offset points",
            "annotation_clip": False,
        }
        beside = label.start >= label.times[0]  # at the right edge the words stand above their line
        top.annotate("", (label.times[0], 1), xytext=(0, height + (11 if beside else 0)), arrowprops=pole, **place)
        top.annotate(label.text, (label.start, 1), xytext=(4, height), va="bottom", fontsize=10.5, gid="event", **place)


def _bare(axes: Axes) -> None:
    """Take away everything of an axis but its labels on the left."""
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(axis="both", length=0)
    axes.tick_params(axis="x", labelbottom=False)


def _draw_events(axes: Axes, load: Timeline, palette: Palette) -> None:
    for row, (_, times) in enumerate(load.event_rows):
        axes.hlines(row, load.left, load.right, color=palette.faint, linewidth=0.8, zorder=1)
        axes.plot(times, [row] * len(times), "|", color=palette.ink, markersize=9, mew=1.1, zorder=2)
    axes.set_yticks(range(len(load.event_rows)), [f"{len(times)} {kind}" for kind, times in load.event_rows])
    axes.set_ylim(len(load.event_rows) - 0.4, -0.6)
    _bare(axes)


def _draw_lost(axes: Axes, load: Timeline, palette: Palette) -> None:
    """Draw every lost request in a band of its own; the unit of height is an inch."""
    top, middles, labels = 0.0, [], []
    for kind, marks in load.swarms:
        heights = [top + (level + 1) * marks.step_in for level in marks.levels]
        middles.append(top + marks.height_in / 2)
        labels.append(f"{len(marks.times):,} {kind.replace('_', ' ')}")
        top += marks.height_in
        size = marks.step_in * 72 * 0.8
        look: dict[str, Any] = {"marker": "x", "s": size**2, "lw": size / 4, "color": palette.alarm, "zorder": 3}
        axes.scatter(marks.times, heights, gid="lost", **look)
    axes.set_ylim(top or 1, 0)
    axes.set_yticks(middles or [0.5], labels or ["0 lost"])
    axes.tick_params(axis="y", labelcolor=palette.alarm if labels else palette.ink)
    axes.axhspan(0, top or 1, color=palette.alarm if labels else palette.faint, alpha=0.09 if labels else 0.35, lw=0)
    _bare(axes)


def _draw_latency(axes: Axes, load: Timeline, palette: Palette) -> None:
    points = [load.answered(version) for version in load.versions]
    # The limit always shows, so that the eye can tell how near to it the answers came.
    low = min([load.limit / 20, *(value for _, latencies in points for value in latencies if value > 0)])
    axes.set_yscale("log")
    axes.set_ylim(low / 1.4, load.limit * 1.35)
    for (number, version), (times, latencies) in zip(load.numbered, points, strict=True):
        look: dict[str, Any] = {
            "marker": _marker(number),
            "color": _colour(number, palette),
            "s": 15,
            "alpha": 0.45,
            "linewidths": 0,
        }
        axes.scatter(times, latencies, zorder=2, rasterized=True, gid=f"answered {version}", **look)
    axes.axhline(load.limit, color=palette.alarm, linewidth=1.1, linestyle=(0, (1, 2)))
    words = f"lost after {_time(load.limit)} "
    axes.text(load.right, load.limit * 0.93, words, ha="right", va="top", color=palette.alarm, fontsize=10.5)
    axes.yaxis.set_major_locator(FixedLocator(_latency_ticks(*axes.get_ylim())))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _time(value)))
    axes.grid(axis="y")
    axes.set_ylabel("latency")


def _latency_ticks(low: float, high: float) -> list[float]:
    """Choose round values: 2 and 5 of each decade only where there is room."""
    ticks = [tick for tick in _LATENCY_TICKS_S if low <= tick <= high]
    return ticks if len(ticks) <= 7 else [tick for tick in ticks if f"{tick:e}".startswith("1")]


def _draw_throughput(axes: Axes, load: Timeline, palette: Palette) -> None:
    count = max(1, round(load.end / _bin_width(load)))
    width = load.end / count  # the bins cover the load exactly: none is cut short and looks like a drop
    edges = [number * width for number in range(count + 1)]
    base = [0.0] * (count + 1)
    for number, version in load.numbered:
        ends = [due + latency for due, latency in zip(*load.answered(version), strict=True)]
        top = [below + rate for below, rate in zip(base, _rates(ends, count, width), strict=True)]
        colour = _colour(number, palette)
        hatch = HATCHES[number % len(HATCHES)]
        axes.fill_between(edges, base, top, step="post", facecolor=(colour, 0.38), hatch=hatch, edgecolor=colour, lw=0)
        # No line where a version answers nothing: it would hide the one below.
        line = [high if high > low else math.nan for low, high in zip(base, top, strict=True)]
        axes.step(edges, line, where="post", color=colour, linewidth=1.5)
        base = top
    if load.due:
        axes.step(edges, _rates(load.due, count, width), where="post", color=palette.ink, lw=1.4, ls=_DOTS)
    axes.set_ylim(0, max([*axes.get_ylim(), 1]) * 1.12)
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.grid(axis="y")
    axes.set_ylabel("answers a second")


def _bin_width(load: Timeline) -> float:
    """Choose a round width with at most 40 bins and about 40 requests in each: fewer would look like noise.

    A short load gets about ten bins all the same: in two of them no outage and no switch could be seen.
    """
    least = max(load.end / 40, min(load.end / max(len(load.due), 1) * 40, load.end / 10))
    return next((width for width in _BIN_WIDTHS_S if width >= least * 0.999), load.end)


def _rates(times: Sequence[float], count: int, width: float) -> list[float]:
    """Events a second in each bin; the last value once more, as a step line needs it."""
    bins = Counter(math.floor(time / width + 1e-6) for time in times)
    rates = [bins[number] / width for number in range(count)]
    return [*rates, rates[-1]]


def _marker(number: int) -> str:
    return MARKERS[number % len(MARKERS)]


def _colour(number: int, palette: Palette) -> str:
    return palette.series[number % len(palette.series)]


def _name(load: Timeline, version: str) -> str:
    if version:
        return f"version {version}"
    return "answered" if len(load.versions) == 1 else "no version"


def _time(seconds: float) -> str:
    return f"{seconds:g} s" if seconds >= 1 else f"{seconds * 1000:g} ms"


def _alt(load: Timeline) -> str:
    if not load.due:
        return "Requests over time: no request was sent."
    text = f"{len(load.due):,} requests over {load.end:.1f} seconds: {sum(load.lost.values()):,} lost"
    if load.lost:
        text += f" ({', '.join(f'{count:,} {kind}' for kind, count in load.lost.items())})"
    for version in load.versions:
        by = f" by version {version}" if version else ""
        text += f", {len(load.answered(version)[0]):,} answered{by}"
    good = sorted(value for value, kind in zip(load.latency, load.lost_kind, strict=True) if not kind)
    if good:
        text += f"; half within {_time(round(percentile(good, 50), 3))}, the longest {_time(round(good[-1], 3))}"
    if load.events:
        counts = Counter(kind for _, kind, _ in load.events)
        text += f"; events: {', '.join(f'{count} {kind}' for kind, count in counts.items())}"
    if load.left_out:
        text += f"; left out as far outside the load: {load.left_out}"
    return text + "."

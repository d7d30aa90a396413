"""How long starts took, each one a point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median, quantiles

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from dockerlab.errors import BadInputError
from dockerlab.plots.palette import MARKERS, Palette
from dockerlab.plots.picture import Picture

_LOG_FROM = 15.0
"""Longest over shortest from which a linear axis would squeeze the short ones together."""

_TICKS_S = [digit * 10.0**power for power in range(-5, 5) for digit in (1, 2, 5)]


def start_times(seconds: Mapping[str, Sequence[float]]) -> Picture:
    """Draw measured start times, a row for each kind of thing that was started.

    Parameters
    ----------
    seconds : mapping of str to sequence of float
        Label to measured seconds, each above 0. A label without a value keeps an empty row.

    Returns
    -------
    Picture
        With the median of each row written beside it; the axis is logarithmic where the values differ widely.

    Raises
    ------
    BadInputError
        If a value is not above 0.
    """
    rows = [(label, sorted(values)) for label, values in seconds.items()]
    every = [value for _, values in rows for value in values]
    if any(not value > 0 for value in every):
        raise BadInputError("A start cannot take 0 seconds or less.", "Give the seconds that were measured.")
    logarithmic = bool(every) and max(every) / min(every) >= _LOG_FROM

    def draw(figure: Figure, palette: Palette) -> None:
        axes = figure.subplots()
        for row, (_, values) in enumerate(rows):
            if not values:
                axes.text(0.5, row, "not measured", transform=axes.get_yaxis_transform(), ha="center", va="center")
                continue
            colour = palette.series[row % len(palette.series)]
            if len(values) >= 4:
                low, _, high = quantiles(values, n=4, method="inclusive")
                axes.barh(row, high - low, left=low, height=0.56, color=colour, alpha=0.2, zorder=1)
            heights = [row + (number * 2 % 5 - 2) * 0.085 for number in range(len(values))]
            marker = MARKERS[row % len(MARKERS)]
            axes.scatter(values, heights, s=38, marker=marker, color=colour, alpha=0.75, lw=0, zorder=2, gid="start")
            middle = median(values)
            axes.vlines(middle, row - 0.33, row + 0.33, color=palette.ink, linewidth=2.2, zorder=3)
            axes.annotate(
                f"median {_seconds(middle)}",
                (values[-1], row),
                xytext=(14, 0),
                textcoords="offset points",
                va="center",
                fontsize=11.5,
                fontweight="bold",
                color=palette.ink,
            )
        axes.set_yticks(range(len(rows)), [f"{label}\n{_count(values)}" for label, values in rows])
        axes.set_ylim(max(len(rows), 1) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        if logarithmic:
            axes.set_xscale("log")
        low, high = _limits(every, logarithmic=logarithmic)
        axes.set_xlim(low, high)
        if logarithmic:
            ticks = [tick for tick in _TICKS_S if low <= tick <= high]
            if len(ticks) > 8:
                ticks = [tick for tick in ticks if f"{tick:e}"[0] == "1"]
            axes.xaxis.set_major_locator(FixedLocator(ticks))
            axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _seconds(value) if value > 0 else "0"))
        axes.grid(axis="x")
        axes.set_xlabel("time to start" + (", on a logarithmic scale" if logarithmic else ""))
        axes.set_title("Time to start", pad=12)

    return Picture(draw, alt=_alt(rows), size_in=(10.0, 1.5 + 0.75 * max(len(rows), 1)))


def _limits(values: Sequence[float], *, logarithmic: bool) -> tuple[float, float]:
    """Leave room on the right for the words behind the longest."""
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    if not logarithmic:
        return 0.0, high * 1.3
    return low / 1.6, high * (high / low) ** 0.3


def _seconds(seconds: float) -> str:
    if seconds >= 1:
        return f"{seconds:.3g} s"
    return f"{seconds * 1000:.3g} ms"


def _count(values: Sequence[float]) -> str:
    return f"{len(values)} start" + ("" if len(values) == 1 else "s")


def _alt(rows: Sequence[tuple[str, Sequence[float]]]) -> str:
    parts = [
        f"{label}: median {_seconds(median(values))}, {_seconds(values[0])} to {_seconds(values[-1])}, {_count(values)}"
        if values
        else f"{label}: not measured"
        for label, values in rows
    ]
    return "Time to start. " + ("; ".join(parts) if parts else "Nothing was measured") + "."

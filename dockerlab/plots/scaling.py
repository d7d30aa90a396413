"""What more replicas bring: throughput and latency against their number."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

from dockerlab.errors import BadInputError
from dockerlab.plots.palette import Palette
from dockerlab.plots.picture import Picture


def scaling(
    replicas: Sequence[int],
    throughput_rps: Sequence[float],
    latency_p50_s: Sequence[float],
    latency_p95_s: Sequence[float],
    *,
    ideal_rps: float | None = None,
) -> Picture:
    """Draw throughput and latency against the number of replicas.

    Parameters
    ----------
    replicas : sequence of int
        Numbers of replicas that were measured, in any order.
    throughput_rps : sequence of float
        Answers a second, one for each number.
    latency_p50_s, latency_p95_s : sequence of float
        Median and 95th percentile of latency in seconds, one for each number.
    ideal_rps : float, optional
        What one replica could answer a second; by default what the smallest number measured did for each replica.

    Returns
    -------
    Picture
        Throughput beside the ideal line, latency below.

    Raises
    ------
    BadInputError
        If there is no point, the lengths differ or a number of replicas is below 1.
    """
    columns = (throughput_rps, latency_p50_s, latency_p95_s)
    if not replicas or min(replicas) < 1 or any(len(column) != len(replicas) for column in columns):
        lengths = ", ".join(str(len(column)) for column in columns)
        raise BadInputError(
            f"{len(replicas)} numbers of replicas and {lengths} values do not fit together.",
            "Give at least one number of replicas, each 1 or more, and one value of each kind for it.",
        )
    points = sorted(zip(replicas, *columns, strict=True))
    counts = [point[0] for point in points]
    one = points[0][1] / points[0][0] if ideal_rps is None else ideal_rps

    def draw(figure: Figure, palette: Palette) -> None:
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
        _draw_throughput(top, counts, [point[1] for point in points], one, palette)
        _draw_latency(bottom, counts, [point[2] for point in points], [point[3] for point in points], palette)
        bottom.set_xlim(0, counts[-1] * 1.015)
        if len(counts) <= 10:
            bottom.xaxis.set_major_locator(FixedLocator(_apart(counts)))
        else:
            bottom.xaxis.set_major_locator(MaxNLocator(10, integer=True))
        bottom.set_xlabel("replicas")
        figure.align_ylabels()

    return Picture(draw, alt=_alt(points, one), size_in=(10.0, 6.2))


def _draw_throughput(axes: Axes, counts: Sequence[int], rates: Sequence[float], one: float, palette: Palette) -> None:
    last = counts[-1]
    blue = palette.series[0]
    axes.plot([0, last], [0, one * last], color=palette.muted, linewidth=1.4, linestyle=(0, (5, 3)), gid="ideal")
    axes.plot(counts, rates, color=blue, linewidth=2.2, marker="o", markersize=8, gid="measured")
    reached = rates[-1] / (one * last) if one else 0.0
    close = 0.88 < reached < 1.12
    ideal_up = 9 if close else 0
    _name_end(axes, (last, one * last), f"ideal {one * last:.0f}", palette.muted, up=ideal_up)
    _name_end(axes, (last, rates[-1]), f"measured {rates[-1]:.0f}", blue, up=-ideal_up)
    axes.set_ylim(0, max([*rates, one * last]) * 1.12)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.grid(axis="y")
    axes.set_ylabel("answers a second")
    words = "replica" if last == 1 else "replicas"
    axes.set_title(f"{last} {words} reach {reached:.0%} of the ideal", pad=12)


def _draw_latency(
    axes: Axes, counts: Sequence[int], p50: Sequence[float], p95: Sequence[float], palette: Palette
) -> None:
    axes.fill_between(counts, p50, p95, color=palette.series[1], alpha=0.15, linewidth=0)
    axes.plot(counts, p95, color=palette.series[1], lw=2, ls=(0, (4, 2)), marker="s", markersize=7, gid="p95")
    axes.plot(counts, p50, color=palette.series[2], lw=2, marker="o", markersize=7, gid="p50")
    high = max([*p95, *p50, 1e-3])
    close = abs(p95[-1] - p50[-1]) < high * 0.16
    _name_end(axes, (counts[-1], p95[-1]), "95th percentile", palette.series[1], up=9 if close else 0)
    _name_end(axes, (counts[-1], p50[-1]), "median", palette.series[2], up=-7 if close else 0)
    axes.set_ylim(0, high * 1.15)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value:g} s" if high >= 1 else f"{value * 1e3:g} ms")
    )
    axes.grid(axis="y")
    axes.set_ylabel("latency")


def _name_end(axes: Axes, point: tuple[float, float], words: str, colour: str, *, up: float) -> None:
    """Write what a line is at its end, so that no legend has to be matched by colour."""
    axes.annotate(
        words,
        point,
        xytext=(10, up),
        textcoords="offset points",
        va="center",
        color=colour,
        fontsize=11.5,
        fontweight="bold",
        annotation_clip=False,
    )


def _apart(counts: Sequence[int]) -> list[int]:
    """Leave out numbers that would overlap: 1, 2, 3, 100 becomes 1, 100."""
    kept = [counts[-1]]
    for count in reversed(counts[:-1]):
        if kept[-1] - count >= counts[-1] / 25:
            kept.append(count)
    return kept[::-1]


def _alt(points: Sequence[tuple[int, float, float, float]], one: float) -> str:
    parts = [
        f"{count} replica{'' if count == 1 else 's'}: {rate:.0f} answers a second (ideal {one * count:.0f}), "
        f"median latency {p50 * 1000:.0f} ms, 95th percentile {p95 * 1000:.0f} ms"
        for count, rate, p50, p95 in points
    ]
    return "Throughput and latency against replicas. " + "; ".join(parts) + "."

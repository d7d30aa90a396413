"""How servers differ: a heat map of servers by files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from dockerlab.drift.compare import Difference, Drift
from dockerlab.plots.palette import HATCHES, Palette
from dockerlab.plots.picture import Picture

WIDTH_IN = 10.0
FILES_SHOWN = 30
"""Files that fit on a page; of more, those at which most servers differ are shown, and the others counted."""

_ROW_IN = 0.34
_LONGEST = 38
_ALT_SERVERS = 5

# What it is: letter in the cell, colour and hatch, words.
_LOOKS: Mapping[str, tuple[str, int, str]] = {
    "content": ("C", 1, "other content"),
    "mode": ("M", 2, "other mode"),
    "missing": ("-", 3, "missing"),
    "extra": ("+", 0, "extra"),
    "unread": ("?", 4, "could not be read"),
}


def drift(drift: Drift, *, against: Literal["first", "image"] = "first") -> Picture:
    """Draw where each server differs, a column for each server and a row for each file.

    Parameters
    ----------
    drift : Drift
        Of :meth:`dockerlab.drift.Servers.drift` or :func:`dockerlab.drift.look`.
    against : {"first", "image"}
        What each server is compared with: the first server, or its own image.

    Returns
    -------
    Picture
        Each way to differ has a letter, a colour and a hatch. The letters above the columns name the states: servers
        with the same letter are equal.
    """
    columns = [{d.path: d for d in drift.of(server, against=against)} for server in drift.servers]
    counts: dict[str, int] = defaultdict(int)
    for column in columns:
        for path in column:
            counts[path] += 1
    shown = sorted(sorted(counts, key=lambda path: (-counts[path], path))[:FILES_SHOWN])
    hidden = len(counts) - len(shown)

    def draw(figure: Figure, palette: Palette) -> None:
        axes = figure.subplots()
        _draw_states(axes, drift)
        _draw_cells(axes, columns, shown, palette)
        if not shown:
            middle = (len(drift.servers) - 1) / 2
            axes.text(middle, 0, "no difference", ha="center", va="center", fontsize=12, fontweight="bold")
        axes.set_xlim(-0.5, max(len(drift.servers), 1) - 0.5)
        axes.set_ylim(max(len(shown), 1) - 0.5, -1.6)
        axes.set_xticks(range(len(drift.servers)), [_short(name) for name in drift.servers], rotation=90)
        labels = [_short(path) for path in shown]
        axes.set_yticks([-1, *range(len(shown))], ["state", *labels])
        axes.tick_params(length=0)
        for side in ("left", "bottom"):
            axes.spines[side].set_visible(False)
        axes.set_title(drift.title, pad=12)
        used = {column[path].how for column in columns for path in shown if path in column}
        handles = [_key(how, palette) for how in _LOOKS if how in used]
        words = f"compared with {_other(drift, against)}" + (f"; {_files(hidden)} more not shown" if hidden else "")
        handles.append(Patch(facecolor="none", edgecolor="none", label=words))
        figure.legend(handles=handles, loc="outside lower left", ncols=3, handlelength=1.6)

    longest = max((len(_short(name)) for name in drift.servers), default=0)
    height = 1.9 + 0.085 * longest + _ROW_IN * (max(len(shown), 1) + 1)
    return Picture(draw, alt=_alt(drift, columns, sorted(counts), against), size_in=(WIDTH_IN, height))


def _draw_states(axes: Axes, drift: Drift) -> None:
    """Write above each column which state the server is in."""
    states = {server: _letter(number) for number, group in enumerate(drift.groups) for server in group}
    for at, server in enumerate(drift.servers):
        size = 11 if len(states[server]) == 1 else 8
        axes.text(at, -1, states[server], ha="center", va="center", fontsize=size, fontweight="bold", gid="state")


def _draw_cells(
    axes: Axes, columns: Sequence[Mapping[str, Difference]], paths: Sequence[str], palette: Palette
) -> None:
    for at, column in enumerate(columns):
        for row, path in enumerate(paths):
            found = column.get(path)
            cell = Rectangle((at - 0.45, row - 0.42), 0.9, 0.84, linewidth=0, facecolor=palette.faint, alpha=0.45)
            if found is None:
                cell.set_gid("same")
                axes.add_patch(cell)
                continue
            letter, number, _ = _LOOKS[found.how]
            cell.set(facecolor=(palette.series[number], 0.3), alpha=None, gid=found.how, linewidth=1)
            cell.set(edgecolor=palette.series[number], hatch=HATCHES[number])
            axes.add_patch(cell)
            halo = {"boxstyle": "round,pad=0.08", "facecolor": palette.ground, "edgecolor": "none", "alpha": 0.85}
            axes.text(at, row, letter, ha="center", va="center", fontsize=9.5, fontweight="bold", bbox=halo)


def _key(how: str, palette: Palette) -> Patch:
    letter, number, words = _LOOKS[how]
    colour = palette.series[number]
    return Patch(facecolor=(colour, 0.3), edgecolor=colour, hatch=HATCHES[number], label=f"{letter}  {words}")


def _letter(number: int) -> str:
    """Name a state as spreadsheets name columns: A to Z, then AA."""
    name = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, 26)
        name = chr(ord("A") + rest) + name
    return name


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"…{text[1 - _LONGEST :]}"


def _other(drift: Drift, against: str) -> str:
    if against == "image":
        return "the image of each"
    return drift.servers[0] if drift.servers else "nothing"


def _files(count: int) -> str:
    return f"{count} file{'' if count == 1 else 's'}"


def _alt(
    drift: Drift, columns: Sequence[Mapping[str, Difference]], paths: Sequence[str], against: Literal["first", "image"]
) -> str:
    parts = []
    for path in paths[:FILES_SHOWN]:
        ways: dict[str, list[str]] = defaultdict(list)
        for server, column in zip(drift.servers, columns, strict=True):
            if path in column:
                ways[_LOOKS[column[path].how][2]].append(server)
        parts.append(f"{path}: " + ", ".join(f"{way} on {_listed(names)}" for way, names in ways.items()))
    found = "; ".join(parts) or "no difference"
    more = f"; {_files(len(paths) - FILES_SHOWN)} more" if len(paths) > FILES_SHOWN else ""
    return f"Drift. {drift.title}, compared with {_other(drift, against)}. {found}{more}."


def _listed(names: Sequence[str]) -> str:
    if len(names) <= _ALT_SERVERS:
        return " and ".join(names) if len(names) < 3 else ", ".join(names)
    return f"{len(names)} servers"

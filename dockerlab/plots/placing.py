"""Where marks and words go, so that none hides another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

PANEL_IN = 8.4
"""Width of a panel in inches, near enough."""

_LETTER_IN = 0.084
_LANES = 3
_SIZES = ((0.15, 3), (0.1, 10), (0.075, 20))


@dataclass(frozen=True)
class Label:
    """Words for one or more events.

    Parameters
    ----------
    text : str
        What happened.
    times : tuple of float
        When each of the events was.
    start : float
        Where the words begin.
    lane : int
        How many lines of words above the panel; 0 is the lowest.
    """

    text: str
    times: tuple[float, ...]
    start: float = 0.0
    lane: int = 0


def placed(events: Sequence[tuple[float, str]], *, left: float, right: float) -> list[Label]:
    """Place words at events, to the right of their lines; join those for which there is no room.

    Parameters
    ----------
    events : sequence of (time, text)
        In order of time.
    left, right : float
        Edges of the panel.

    Returns
    -------
    list of Label
        In order of time; no two overlap, and no line of a later event runs through the words of an earlier one.
    """
    letter = (right - left) * _LETTER_IN / PANEL_IN
    groups: list[Label] = []
    for time, text in events:
        last = groups[-1] if groups else None
        if last and last.text == text and time - last.times[-1] < letter * (len(text) + 2):
            groups[-1] = Label(text, (*last.times, time))
        else:
            groups.append(Label(text, (time,)))
    while True:
        labels = _in_lanes(groups, letter, right)
        if all(label.lane < _LANES for label in labels):
            return labels
        near = min(range(len(groups) - 1), key=lambda number: groups[number + 1].times[0] - groups[number].times[-1])
        first, second = groups[near : near + 2]
        groups[near : near + 2] = [Label(f"{_words(first)} · {_words(second)}", first.times + second.times)]


def _words(label: Label) -> str:
    # A joined label tells its own counts.
    return label.text if "·" in label.text or len(label.times) == 1 else f"{len(label.times)} {label.text}"


def _in_lanes(groups: Sequence[Label], letter: float, right: float) -> list[Label]:
    """Give each label the lowest lane above all whose lines its words would run into; the last is the lowest."""
    labels: list[Label] = []
    for group in reversed(groups):
        text = _words(group)
        start = min(group.times[0], right - letter * (len(text) + 1))
        end = start + letter * (len(text) + 2)
        lane = 1 + max((label.lane for label in labels if min(label.start, label.times[0]) < end), default=-1)
        labels.append(Label(text, group.times, start, lane))
    return labels[::-1]


@dataclass(frozen=True)
class Swarm:
    """Marks at given times, stacked where they are dense.

    Parameters
    ----------
    times : tuple of float
        Ascending.
    levels : tuple of int
        Height of each mark in steps, from 0.
    step_in : float
        Size of a step in inches; a mark fills it.
    """

    times: tuple[float, ...]
    levels: tuple[int, ...]
    step_in: float

    @property
    def height_in(self) -> float:
        """Room that the marks need, with a margin of one mark."""
        return (max(self.levels, default=0) + 2) * self.step_in


def swarm(times: Sequence[float], *, span: float) -> Swarm:
    """Stack marks so that none covers another: large ones where there are few, else smaller ones.

    Parameters
    ----------
    times : sequence of float
        Ascending.
    span : float
        Time across the panel.

    Returns
    -------
    Swarm
        At most 20 levels, enough for 100 a second across 20 s; beyond that, marks overlap sideways.
    """
    levels: tuple[int, ...] = ()
    step_in = 0.0
    for step_in, most in _SIZES:
        levels = _levels(times, span * step_in / PANEL_IN, most)
        if len(set(levels)) < most:
            break
    return Swarm(tuple(times), levels, step_in)


def _levels(times: Sequence[float], width: float, most: int) -> tuple[int, ...]:
    ends: list[float] = []
    levels = []
    for time in times:
        free = next((level for level, end in enumerate(ends) if end <= time), None)
        if free is None and len(ends) < most:
            free = len(ends)
            ends.append(0.0)
        elif free is None:
            free = min(range(most), key=ends.__getitem__)
        ends[free] = time + width
        levels.append(free)
    return tuple(levels)

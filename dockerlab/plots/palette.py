"""Colours that hold on a light and on a dark page, for colour-blind readers too.

Okabe and Ito's hues ("Color Universal Design", 2008), darkened for white and lightened for black until each keeps a
contrast of 3:1 with its ground; text keeps 4.5:1. Colour never stands alone: markers, hatches or words say the same.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Palette:
    """The colours of one theme, as ``#rrggbb``.

    Parameters
    ----------
    ground : str
        The page that the figure is made for; the figure itself has no ground.
    ink, muted : str
        Text and lines; lesser text.
    faint : str
        Grid lines and fillings that must not draw the eye.
    alarm : str
        What went wrong: vermilion, used for nothing else.
    series : tuple of str
        Blue, orange, green, purple, grey: one for each thing that is compared.
    """

    ground: str
    ink: str
    muted: str
    faint: str
    alarm: str
    series: tuple[str, ...]


LIGHT = Palette(
    ground="#ffffff",
    ink="#1b1f24",
    muted="#59626c",
    faint="#d5dade",
    alarm="#c03a00",
    series=("#0072b2", "#b87800", "#00805a", "#a8527f", "#59626c"),
)
DARK = Palette(
    ground="#111111",
    ink="#eceff2",
    muted="#a3adb7",
    faint="#3a4047",
    alarm="#ff7d45",
    series=("#56b4e9", "#f0b030", "#2fc79a", "#e39bc4", "#a3adb7"),
)

MARKERS = ("o", "s", "^", "D", "v")
"""One for each colour of a series."""

HATCHES = ("", "////", "....", "\\\\\\\\", "xxxx")
"""One for each colour of a series, for areas."""

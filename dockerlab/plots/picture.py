"""A figure that shows itself on a light and on a dark page, with a sentence for those who cannot see it."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Container
from functools import cache, cached_property
from html import escape
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image

from dockerlab.plots.palette import DARK, LIGHT, Palette

DPI = 160
"""Twice the usual: the page shows the picture at half its pixels, so that letters are sharp on fine screens."""

_STYLE: dict[Any, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 11,
    "axes.titlesize": 14,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.linewidth": 0.8,
    "xtick.labelsize": 10.5,
    "ytick.labelsize": 10.5,
    "grid.linewidth": 0.7,
    "hatch.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 11,
    "savefig.bbox": None,
}

# JupyterLab and nbconvert write their theme on the body; a page that writes nothing is taken for a light one.
_SWITCH = (
    "<style>"
    'body[data-jp-theme-light="false"] .dockerlab-on-light{display:none!important}'
    'body[data-jp-theme-light="false"] .dockerlab-on-dark{display:block!important}'
    "</style>"
)


class Picture:
    """A figure with its text alternative.

    Parameters
    ----------
    draw : callable
        Fills an empty figure with the colours of a palette; called once for the light and once for the dark picture.
    alt : str
        A sentence that says what the figure shows.
    size_in : tuple of float
        Width and height in inches; 10 inches fill the width of a notebook.
    """

    def __init__(self, draw: Callable[[Figure, Palette], None], *, alt: str, size_in: tuple[float, float]) -> None:
        self.alt = alt
        self._draw = draw
        self._size_in = size_in

    @cached_property
    def figure(self) -> Figure:
        """The matplotlib figure, in the colours for a light page."""
        return self._drawn(LIGHT)

    def png(self, *, dark: bool = False) -> bytes:
        """Return the picture as PNG on a transparent ground.

        Parameters
        ----------
        dark : bool
            With the colours for a dark page.

        Returns
        -------
        bytes
            The file.
        """
        file = io.BytesIO()
        figure = self._drawn(DARK) if dark else self.figure
        with rc_context(_STYLE):
            figure.savefig(file, format="png", dpi=DPI, transparent=True, metadata={"Description": self.alt})
        return file.getvalue()

    def save(self, path: str | Path) -> Path:
        """Write the light picture on a white ground.

        Parameters
        ----------
        path : str or Path
            Its ending chooses the format: png, svg or pdf.

        Returns
        -------
        Path
            Of the file.
        """
        path = Path(path)
        with rc_context(_STYLE):
            self.figure.savefig(path, dpi=DPI, facecolor=LIGHT.ground)
        return path

    def _drawn(self, palette: Palette) -> Figure:
        colours: dict[Any, Any] = {
            "text.color": palette.ink,
            "axes.labelcolor": palette.ink,
            "axes.edgecolor": palette.muted,
            "axes.titlecolor": palette.ink,
            "xtick.color": palette.muted,
            "ytick.color": palette.muted,
            "xtick.labelcolor": palette.ink,
            "ytick.labelcolor": palette.ink,
            "grid.color": palette.faint,
            "axes.facecolor": "none",
        }
        with rc_context({**_STYLE, **colours}):
            layout = ConstrainedLayoutEngine(w_pad=0.14, h_pad=0.09)  # inches
            figure = Figure(figsize=self._size_in, dpi=80, layout=layout, facecolor="none")
            FigureCanvasAgg(figure)
            self._draw(figure, palette)
        return figure

    def _repr_mimebundle_(
        self, include: Container[str] | None = None, exclude: Container[str] | None = None
    ) -> dict[str, str]:
        light = cache(self.png)  # one drawing serves two kinds
        makers: dict[str, Callable[[], str]] = {
            "text/html": lambda: self._html(light()),
            "image/png": lambda: _base64(_on_white(light())),
            "text/plain": lambda: self.alt,
        }
        return {
            kind: make()
            for kind, make in makers.items()
            if (include is None or kind in include) and (exclude is None or kind not in exclude)
        }

    def _html(self, light: bytes) -> str:
        look = f"width:{self._size_in[0] * DPI / 2:.0f}px;max-width:100%;height:auto"
        alt = escape(self.alt, quote=True)
        return (
            f"{_SWITCH}"
            f'<img class="dockerlab-on-light" alt="{alt}" style="{look};display:block" '
            f'src="data:image/png;base64,{_base64(light)}">'
            f'<img class="dockerlab-on-dark" alt="{alt}" style="{look};display:none" '
            f'src="data:image/png;base64,{_base64(self.png(dark=True))}">'
        )

    def __repr__(self) -> str:
        return f"Picture: {self.alt}"


def _on_white(png: bytes) -> bytes:
    """Give a picture a white ground, for viewers that show only images and whose theme nobody knows."""
    picture = Image.open(io.BytesIO(png)).convert("RGBA")
    ground = Image.new("RGBA", picture.size, LIGHT.ground)
    file = io.BytesIO()
    Image.alpha_composite(ground, picture).convert("RGB").save(file, "PNG")
    return file.getvalue()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")

"""The layers of images, and which of them several images share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator

from dockerlab.plots.palette import Palette
from dockerlab.plots.picture import Picture

WIDTH_IN = 10.0
_ROW_IN = 0.62
_KEY_IN = 0.3
_LONGEST = 64


class Layer(Protocol):
    """What this figure needs of a layer; ``digest``, ``created_s`` and ``empty`` are used where there are such."""

    @property
    def instruction(self) -> str:
        """The line of the Dockerfile that made it."""

    @property
    def size_bytes(self) -> int:
        """Its size; 0 for instructions that add no files."""


class Image(Protocol):
    """What this figure needs of an image."""

    @property
    def tags(self) -> Sequence[str]:
        """Its names."""

    @property
    def size_bytes(self) -> int:
        """Its size."""

    @property
    def layers(self) -> Sequence[Layer]:
        """Its layers, the lowest first."""


@dataclass(frozen=True)
class _Row:
    """A layer as the key lists it."""

    number: int
    instruction: str
    size_bytes: int
    images: int


def layers(images: Image | Sequence[Image]) -> Picture:
    """Draw the layers of one or more images as stacked bars, with a key of their instructions.

    Layers that add no files are left out. Two images share a layer if everything below it is the same too, as on disk.

    Parameters
    ----------
    images : Image or sequence of Image
        Anything with ``tags``, ``size_bytes`` and ``layers``.

    Returns
    -------
    Picture
        Layers that several images share are filled, those of one of several images only are hatched.
    """
    shown = list(images) if isinstance(images, Sequence) else [images]
    stacks = [_stack(image) for image in shown]
    uses = Counter(key for stack in stacks for key, _ in stack)
    sizes = {key: layer for stack in stacks for key, layer in stack}
    key = {
        name: _Row(number, _short(layer.instruction), layer.size_bytes, uses[name])
        for number, (name, layer) in enumerate(sizes.items(), 1)
    }
    names = [_name(image, number) for number, image in enumerate(shown, 1)]

    def draw(figure: Figure, palette: Palette) -> None:
        heights = [_ROW_IN * max(len(shown), 1), _KEY_IN * (len(key) + 1)]
        bars, table = figure.subplots(2, 1, height_ratios=heights)
        _draw_bars(bars, stacks, key, palette)
        bars.set_yticks(range(len(names)), names)
        bars.set_title(_title(stacks, key), pad=12)
        _draw_key(table, list(key.values()), len(shown), palette)

    height = 1.45 + _ROW_IN * max(len(shown), 1) + _KEY_IN * (len(key) + 1)
    return Picture(draw, alt=_alt(names, stacks, key), size_in=(WIDTH_IN, height))


_Stack = list[tuple[Hashable, Layer]]


def _stack(image: Image) -> _Stack:
    """Name each layer with files by itself and all below it, since a layer is shared only on the same ground."""
    named: _Stack = []
    below: Hashable = None
    for layer in image.layers:
        if getattr(layer, "empty", layer.size_bytes == 0):
            continue  # configuration only: it is no layer on the disk
        # A step that was run twice makes two layers, though instruction and size agree: its time tells.
        made = (layer.instruction, layer.size_bytes, getattr(layer, "created_s", 0.0))
        below = (below, getattr(layer, "digest", "") or made)
        if layer.size_bytes > 0:
            named.append((below, layer))
    return named


def _draw_bars(axes: Axes, stacks: Sequence[_Stack], key: dict[Hashable, _Row], palette: Palette) -> None:
    largest = max((sum(layer.size_bytes for _, layer in stack) for stack in stacks), default=0) or 1
    for row, stack in enumerate(stacks):
        left, narrow = 0, []
        for name, layer in stack:
            entry = key[name]
            axes.add_patch(
                _bar((left, row - 0.34), layer.size_bytes, 0.68, len(stacks) == 1 or entry.images > 1, palette)
            )
            if layer.size_bytes > largest / 30:
                middle = left + layer.size_bytes / 2
                axes.text(
                    middle, row, str(entry.number), ha="center", va="center", fontweight="bold", bbox=_halo(palette)
                )
            else:
                narrow.append(entry.number)
            left += layer.size_bytes
        words = _size(left) + (f", with thin layer{'s' if len(narrow) > 1 else ''} {_listed(narrow)}" if narrow else "")
        axes.annotate(words, (left, row), xytext=(8, 0), textcoords="offset points", va="center", fontsize=11)
    thin = any(layer.size_bytes <= largest / 30 for stack in stacks for _, layer in stack)
    axes.set_xlim(0, largest * (1.5 if thin else 1.2))
    axes.set_ylim(max(len(stacks), 1) - 0.5, -0.5)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _size(value)))
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _bar(corner: tuple[float, float], width: float, height: float, shared: bool, palette: Palette) -> Rectangle:
    colour = palette.series[0 if shared else 1]
    return Rectangle(
        corner,
        width,
        height,
        facecolor=(colour, 0.75 if shared else 0.3),
        edgecolor=colour,
        hatch="" if shared else "////",
        linewidth=1.2,
        gid="shared" if shared else "own",
    )


def _halo(palette: Palette) -> dict[str, object]:
    return {"boxstyle": "round,pad=0.25", "facecolor": palette.ground, "edgecolor": "none", "alpha": 0.85}


def _draw_key(axes: Axes, rows: Sequence[_Row], images: int, palette: Palette) -> None:
    """List the layers below the bars; a legend has no columns."""
    axes.set_xlim(0, 1)
    axes.set_ylim(len(rows) + 0.6, -0.4)
    axes.axis("off")
    for line, row in enumerate(rows):
        axes.add_patch(_bar((0.0, line + 0.2), 0.022, 0.6, images == 1 or row.images > 1, palette))
        axes.text(0.055, line + 0.5, str(row.number), ha="right", va="center", fontweight="bold")
        axes.text(0.07, line + 0.5, row.instruction, va="center", family=["DejaVu Sans Mono"], fontsize=10)
        axes.text(0.87 if images > 1 else 1, line + 0.5, _size(row.size_bytes), ha="right", va="center")
        if images > 1:
            words = f"in {row.images} images" if row.images > 1 else "in 1 image"
            axes.text(1, line + 0.5, words, ha="right", va="center", color=palette.ink)


def _title(stacks: Sequence[_Stack], key: dict[Hashable, _Row]) -> str:
    once = sum(row.size_bytes for row in key.values())
    each = sum(layer.size_bytes for stack in stacks for _, layer in stack)
    if len(stacks) == 1:
        return f"{_layers(len(key))} with files, {_size(once)}"
    return f"{len(stacks)} images: {_size(once)} on disk, {_size(each)} if nothing were shared"


def _alt(names: Sequence[str], stacks: Sequence[_Stack], key: dict[Hashable, _Row]) -> str:
    parts = []
    for name, stack in zip(names, stacks, strict=True):
        size = _size(sum(layer.size_bytes for _, layer in stack))
        shared = sum(key[entry].images > 1 for entry, _ in stack)
        parts.append(
            f"{name}: {_layers(len(stack))}, {size}" + (f", {shared} of them shared" if len(stacks) > 1 else "")
        )
    listed = ", ".join(f"{row.number} {row.instruction} ({_size(row.size_bytes)})" for row in key.values())
    return f"Layers of images. {_title(stacks, key)}. {'; '.join(parts)}. Layers: {listed or 'none'}."


def _name(image: Image, number: int) -> str:
    return image.tags[0] if image.tags else f"untagged {number}"


def _short(instruction: str) -> str:
    line = " ".join(instruction.split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


def _layers(count: int) -> str:
    return f"{count} layer{'' if count == 1 else 's'}"


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def _size(size_bytes: float) -> str:
    """Decimal units, as the docker command line prints them."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.3g} {unit}"
    return f"{size_bytes:.0f} B"

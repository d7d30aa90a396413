"""What an image is made of, as one plain value."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from typing import Any

# Instructions that only write into the image's configuration and add no files.
_METADATA = frozenset(
    {"ARG", "CMD", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "MAINTAINER", "ONBUILD", "SHELL"}
    | {"STOPSIGNAL", "USER", "VOLUME", "WORKDIR"}
)
_LONG_HASH = re.compile(r"\b(file|dir|multi):([0-9a-f]{8})[0-9a-f]{56}\b")
_BUILD_ARGS = re.compile(r"^\|\d+ .*?(?=/bin/sh -c )", re.DOTALL)


@dataclass(frozen=True)
class BuildStep:
    """One step of a build, as the engine reported it.

    Attributes
    ----------
    number, total : int
        Its place among the steps, from 1.
    instruction : str
        The instruction of the Dockerfile.
    seconds : float
        From the moment its announcement arrived to the moment the next one did.
    cached : bool
        The engine had done the same before and took that layer.
    output : str
        What the step printed.
    """

    number: int
    total: int
    instruction: str
    seconds: float
    cached: bool
    output: str

    def __str__(self) -> str:
        outcome = "cached" if self.cached else f"{self.seconds:.2f} s"
        return f"[{self.number}/{self.total}] {self.instruction}   {outcome}"


@dataclass(frozen=True)
class Layer:
    """One entry of an image's history.

    Attributes
    ----------
    instruction : str
        The instruction that made it.
    size_bytes : int
        The size of the files that it added.
    created_s : float
        When it was made, in epoch seconds.
    empty : bool
        It changed only the configuration and has no files of its own.
    """

    instruction: str
    size_bytes: int
    created_s: float
    empty: bool


@dataclass(frozen=True)
class Image:
    """An image on the engine.

    Attributes
    ----------
    id : str
        ``sha256:`` and the hash of the image's configuration: the name that can never move.
    tags : tuple of str
        Names such as ``web:1``; these can be moved to another image.
    size_bytes : int
        The size of all its layers.
    layers : tuple of Layer
        Its history, the oldest first.
    architecture : str
        Such as ``amd64``.
    created_s : float
        When it was made, in epoch seconds.
    exposed_ports : tuple of str
        Such as ``80/tcp``.
    env : tuple of str
        Such as ``VERSION=1``.
    entrypoint, command : tuple of str
        What a container of it starts.
    health : tuple of str
        The test of its HEALTHCHECK, empty without one.
    volumes : tuple of str
        Folders that the image declares as volumes.
    labels : tuple of (str, str)
        Its labels, sorted.
    digests : tuple of str
        ``name@sha256:...`` in a registry; empty until the image was pushed or pulled.
    steps : tuple of BuildStep
        How it was built, where ``build`` made this value; else empty.
    """

    id: str
    tags: tuple[str, ...] = ()
    size_bytes: int = 0
    layers: tuple[Layer, ...] = ()
    architecture: str = ""
    created_s: float = 0.0
    exposed_ports: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    health: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    digests: tuple[str, ...] = ()
    steps: tuple[BuildStep, ...] = ()

    @property
    def short_id(self) -> str:
        """The first 12 digits of the id, as ``docker images`` shows them."""
        return self.id.removeprefix("sha256:")[:12]

    @property
    def name(self) -> str:
        """Its first tag, else its short id."""
        return self.tags[0] if self.tags else self.short_id

    def __str__(self) -> str:
        return f"{self.name} ({self.short_id}, {format_size(self.size_bytes)})"

    def _repr_html_(self) -> str:
        cell = "padding:2px 12px 2px 0;border:0"
        rows = "".join(
            f'<tr><td style="{cell};text-align:right">{number}</td>'
            f'<td style="{cell};text-align:left"><code style="white-space:pre-wrap">'
            f"{escape(_shorten(layer.instruction))}</code></td>"
            f'<td style="{cell};text-align:right;white-space:nowrap">'
            f"{'configuration only' if layer.empty else format_size(layer.size_bytes)}</td></tr>"
            for number, layer in enumerate(self.layers, 1)
        )
        head = "".join(
            f'<th scope="col" style="{cell};text-align:{side}">{title}</th>'
            for title, side in (("#", "right"), ("made by", "left"), ("files added", "right"))
        )
        summary = (
            f"<b>{escape(self.name)}</b> &nbsp;id <code>{self.short_id}</code> &nbsp;{format_size(self.size_bytes)}"
        )
        return f"<div><div>{summary}</div><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"


def image_from(inspect: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> Image:
    """Make an `Image` from two answers of the engine.

    Parameters
    ----------
    inspect : mapping
        The answer of ``GET /images/NAME/json``.
    history : sequence of mapping
        The answer of ``GET /images/NAME/history``, the newest entry first.

    Returns
    -------
    Image
        The same facts, with the layers from the oldest to the newest.
    """
    config: Mapping[str, Any] = inspect.get("Config") or {}
    return Image(
        id=str(inspect.get("Id", "")),
        tags=tuple(tag for tag in inspect.get("RepoTags") or () if not tag.startswith("<none>")),
        size_bytes=int(inspect.get("Size") or 0),
        layers=tuple(_layer(entry) for entry in reversed(history)),
        architecture=str(inspect.get("Architecture") or ""),
        created_s=epoch_seconds(str(inspect.get("Created") or "")),
        exposed_ports=tuple(sorted(config.get("ExposedPorts") or ())),
        env=tuple(config.get("Env") or ()),
        entrypoint=_words(config.get("Entrypoint")),
        command=_words(config.get("Cmd")),
        health=_words((config.get("Healthcheck") or {}).get("Test")),
        volumes=tuple(sorted(config.get("Volumes") or ())),
        labels=tuple(sorted((config.get("Labels") or {}).items())),
        digests=tuple(digest for digest in inspect.get("RepoDigests") or () if not digest.startswith("<none>")),
    )


def instruction_of(created_by: str) -> str:
    """Turn the ``CreatedBy`` of a history entry back into the instruction that a person wrote.

    Examples
    --------
    >>> instruction_of("/bin/sh -c #(nop)  CMD sh")
    'CMD sh'
    >>> instruction_of("|1 VERSION=2 /bin/sh -c mkdir /www")
    'RUN mkdir /www'
    """
    text = created_by.strip().removesuffix("# buildkit").strip()
    text = _BUILD_ARGS.sub("", text.removeprefix("RUN ") if text.startswith("RUN |") else text)
    if text.startswith("/bin/sh -c #(nop)"):
        text = text.removeprefix("/bin/sh -c #(nop)").strip()
    elif text.startswith("/bin/sh -c "):
        text = "RUN " + text.removeprefix("/bin/sh -c ").strip()
    elif text.startswith("RUN /bin/sh -c "):
        text = "RUN " + text.removeprefix("RUN /bin/sh -c ").strip()
    return _LONG_HASH.sub(r"\1:\2", text)


def format_size(size_bytes: int) -> str:
    """Write a size as the docker command does: decimal units, three digits.

    Examples
    --------
    >>> format_size(1_982_256)
    '1.98 MB'
    """
    size = float(size_bytes)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"


def epoch_seconds(moment: str) -> float:
    """Read a time such as ``2026-05-01T10:00:00.123456789Z``; 0.0 where there is none."""
    # Python 3.10 reads neither nanoseconds nor a final Z.
    match = re.match(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)?$", moment)
    if not match or moment.startswith("0001"):
        return 0.0
    zone = match[3] if match[3] and match[3] != "Z" else "+00:00"
    return datetime.fromisoformat(match[1] + zone).timestamp() + float(match[2] or 0)


def _layer(entry: Mapping[str, Any]) -> Layer:
    instruction = instruction_of(str(entry.get("CreatedBy") or ""))
    size_bytes = int(entry.get("Size") or 0)
    keyword = instruction.split(" ", 1)[0].upper()
    return Layer(instruction, size_bytes, float(entry.get("Created") or 0), size_bytes == 0 and keyword in _METADATA)


def _words(value: str | Sequence[str] | None) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    return tuple(value or ())


def _shorten(text: str, width: int = 160) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"

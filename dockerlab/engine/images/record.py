"""What is known of an image and of a layer, as plain values."""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from dockerlab.engine.refusals import bad

_TIME = re.compile(r"(\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d)(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


@dataclass(frozen=True)
class Limits:
    """How much of one thing is taken in.

    Attributes
    ----------
    layer_bytes : int
        Of one layer's tar, unpacked.
    archive_bytes : int
        Of an archive with images, unpacked.
    entries : int
        Files, folders and links of one layer.
    path_bytes : int
        Of the path of one entry.
    json_bytes : int
        Of a manifest, an image's configuration or an extended tar header.
    layers : int
        Of one image; 127 as in Docker.
    """

    layer_bytes: int = 8 << 30
    archive_bytes: int = 16 << 30
    entries: int = 500_000
    path_bytes: int = 4000
    json_bytes: int = 4 << 20
    layers: int = 127


@dataclass(frozen=True)
class Layer:
    """A layer of the store.

    Attributes
    ----------
    diff_id : str
        ``sha256:`` of its uncompressed tar.
    size_bytes : int
        Of the files in it, as Docker counts.
    """

    diff_id: str
    size_bytes: int


@dataclass(frozen=True)
class ImageRecord:
    """An image of the store.

    Attributes
    ----------
    id : str
        ``sha256:`` of its configuration's bytes.
    config : mapping
        The image configuration as JSON values; not to be changed.
    tags : tuple of str
        Names such as ``web:1``, sorted.
    digests : tuple of str
        Names such as ``web@sha256:...``, which it has from a push or a pull.
    size_bytes : int
        Of the files in all its layers.
    parent : str
        Id of the image that it was built on here; may be empty.
    created_s : float
        When it was made, in seconds since 1970; 0 when it does not say.
    """

    id: str
    config: Mapping[str, Any]
    tags: tuple[str, ...]
    digests: tuple[str, ...]
    size_bytes: int
    parent: str
    created_s: float

    @property
    def diff_ids(self) -> tuple[str, ...]:
        """Its layers, lowest first."""
        return diff_ids(self.config)


def diff_ids(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Give the layers that an image configuration names, lowest first; 400 where it does not name them as it should."""
    rootfs = config.get("rootfs")
    found = rootfs.get("diff_ids") if isinstance(rootfs, Mapping) else None
    found = [] if found is None else found
    if not isinstance(found, Sequence) or isinstance(found, str) or not all(isinstance(one, str) for one in found):
        raise bad("invalid image configuration: rootfs.diff_ids is not a list of texts")
    return tuple(found)


def created_s(config: Mapping[str, Any]) -> float:
    """Give the time in ``created`` in seconds since 1970, 0 where there is none."""
    return parse_time(config.get("created"))


def parse_time(text: object) -> float:
    """Read a time of RFC 3339 with up to nine digits of a second; 0 where it is not one."""
    found = _TIME.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        return 0.0
    zone = "+00:00" if found[3] in "Zz" else found[3]
    try:
        whole = datetime.fromisoformat(found[1].upper() + zone).timestamp()
    except ValueError:
        return 0.0
    return whole + float(found[2] or 0)


def format_time(seconds: float) -> str:
    """Write a time as RFC 3339 in UTC."""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def host_architecture() -> str:
    """Give this machine's architecture as images name it, such as ``amd64``."""
    machine = platform.machine().lower()
    return _ARCHITECTURES.get(machine, machine)

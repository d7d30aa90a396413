"""Images: the store, archives, and registries."""

from __future__ import annotations

from dockerlab.engine.images.record import (
    ImageRecord,
    Layer,
    Limits,
    diff_ids,
    format_time,
    host_architecture,
    parse_time,
)
from dockerlab.engine.images.reference import Reference, parse
from dockerlab.engine.images.store import Images
from dockerlab.engine.images.tree import Entry, Tree, owners

__all__ = [
    "Entry",
    "ImageRecord",
    "Images",
    "Layer",
    "Limits",
    "Reference",
    "Tree",
    "diff_ids",
    "format_time",
    "host_architecture",
    "owners",
    "parse",
    "parse_time",
]

"""Servers that are changed by hand, and how far they drift apart."""

from __future__ import annotations

from dockerlab.drift.compare import Difference, Drift, compare
from dockerlab.drift.look import drifted, look
from dockerlab.drift.model import IGNORED, Change, Item, Server
from dockerlab.drift.results import ScriptResult, ScriptResults
from dockerlab.drift.servers import Servers

__all__ = [
    "IGNORED",
    "Change",
    "Difference",
    "Drift",
    "Item",
    "ScriptResult",
    "ScriptResults",
    "Server",
    "Servers",
    "compare",
    "drifted",
    "look",
]

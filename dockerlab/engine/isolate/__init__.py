"""What puts walls around a container: bubblewrap or PRoot, and its writable root."""

from __future__ import annotations

import asyncio
from pathlib import Path

from dockerlab.engine.isolate import inside
from dockerlab.engine.isolate.isolator import Isolator
from dockerlab.engine.isolate.namespaced import NamespacedIsolator
from dockerlab.engine.isolate.probe import NoIsolatorError, probe
from dockerlab.engine.isolate.spec import Change, Command, Mount, Process, Published, Report, Spec, Stdio
from dockerlab.engine.isolate.traced import TracedIsolator

__all__ = [
    "Change",
    "Command",
    "Isolator",
    "Mount",
    "NoIsolatorError",
    "Process",
    "Published",
    "Report",
    "Spec",
    "Stdio",
    "inside",
    "open_isolator",
]


async def open_isolator(folder: Path, *, choice: str | None = None) -> Isolator:
    """Find what can hold containers here, and make it ready.

    Parameters
    ----------
    folder : Path
        Where the roots of containers are kept; made when it is not there.
    choice : {"bwrap", "proot"}, optional
        That one, or an error.

    Raises
    ------
    NoIsolatorError
        Nothing works here, or not what was chosen.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    place = await asyncio.to_thread(probe, folder, choice)
    if place.report.isolator == "bubblewrap":
        made: Isolator = NamespacedIsolator(folder, place)
    else:
        made = TracedIsolator(folder, place)
    await made.open()
    return made

"""Processes of this machine as a tree, read from ``/proc``. Blocks, for some microseconds a process."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path


def children(pid: int) -> list[int]:
    """Give the children of a process."""
    found: list[int] = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as file:
                found += map(int, file.read().split())
    except OSError:
        pass
    return found


def below(pids: Iterable[int]) -> list[int]:
    """Give these processes and everything below them, parents first."""
    waiting, found = list(pids), []
    while waiting:
        pid = waiting.pop(0)
        if os.path.exists(f"/proc/{pid}"):
            found.append(pid)
            waiting += children(pid)
    return found


def tracer(pid: int) -> int:
    """Give the process that traces another one; 0 when none does."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            return int(file.read().partition(b"TracerPid:")[2].split(None, 1)[0])
    except (OSError, IndexError, ValueError):
        return 0


def groups(pids: Iterable[int]) -> set[int]:
    """Give the process groups of processes."""
    found = set()
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            found.add(os.getpgid(pid))
    return found


def traced_by(tracers: Iterable[int]) -> list[int]:
    """Give the processes that are traced by these.

    They are below their tracer or, when the one that started them has ended, below the process that adopts what is left
    behind, which is the tracer's parent.
    """
    wanted = set(tracers) - {0}
    adopters = {_parent(pid) for pid in wanted} - {0}
    adopted = [pid for adopter in adopters for pid in children(adopter) if tracer(pid) in wanted]
    return [pid for pid in below([*wanted, *adopted]) if tracer(pid) in wanted]


def _parent(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])  # behind the name, which may hold anything
    except (OSError, IndexError, ValueError):
        return 0


def send(pid: int, number: int) -> None:
    """Send a signal; nothing happens when the process has gone."""
    if pid > 1:  # anything else would be a group, or everybody
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def end(find: Callable[[], list[int]], limit_s: float = 5.0) -> None:
    """Kill what ``find`` gives until it gives nothing: stopped first, so that nothing is born meanwhile."""
    until = time.monotonic() + limit_s
    while found := find():
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in found:
                send(pid, number)
        if time.monotonic() > until:
            return
        time.sleep(0.002)


def with_files_of(folder: Path) -> list[int]:
    """Give the processes of this user that run programs from below a folder, or work in it."""
    found, prefix = [], f"{folder}/"
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            with contextlib.suppress(OSError):
                works_in = os.readlink(f"/proc/{entry}/cwd")
                with open(f"/proc/{entry}/maps", "rb") as maps:
                    if works_in.startswith(prefix) or prefix.encode() in maps.read():
                        found.append(int(entry))
    return found

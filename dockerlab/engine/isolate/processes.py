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
    """Give the processes that are traced by these, wherever they are in the tree."""
    wanted = set(tracers) - {0}
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit() and tracer(int(entry)) in wanted]


def send(pid: int, number: int) -> None:
    """Send a signal; nothing happens when the process has gone."""
    if pid > 1:  # anything else would be a group, or everybody
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def end(find: Callable[[], list[int]], limit_s: float = 5.0) -> None:
    """Kill what ``find`` gives until it gives nothing: stopped first, so that nothing is born meanwhile."""
    until = time.monotonic() + limit_s
    while (found := find()) and time.monotonic() < until:
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in found:
                send(pid, number)
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

"""What the processes of a container take, out of /proc."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dockerlab.engine.containers.clock import NEVER, written

_TICK_NS = 10**9 // os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_NETWORK = dict.fromkeys(
    (f"{way}_{what}" for way in ("rx", "tx") for what in ("bytes", "packets", "errors", "dropped")), 0
)
_NO_CPU = {
    "cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0},
    "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
}
_BLOCK = ("service_bytes", "serviced", "queue", "service_time", "wait_time", "merged", "time")


def cpu(pids: Sequence[int]) -> dict[str, Any]:
    """Give ``cpu_stats``. Blocks, some 30 microseconds a process."""
    user = system = total_ns = 0
    for pid in pids:
        with contextlib.suppress(OSError, ValueError, IndexError):
            # Fields 14 to 17, counted behind the name, which is in parentheses and may hold anything
            row = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
            ticks = [
                int(value) for value in row[11:15]
            ]  # in the process and the kernel, and the same of ended children
            user += ticks[0] + ticks[2]
            system += ticks[1] + ticks[3]
            own_ns = (ticks[0] + ticks[1]) * _TICK_NS
            with contextlib.suppress(OSError):  # finer than ticks: its clock, numbered as by clock_getcpuclockid(3)
                own_ns = time.clock_gettime_ns(~pid << 3 | 2)
            total_ns += own_ns + (ticks[2] + ticks[3]) * _TICK_NS
    total = sum(map(int, Path("/proc/stat").read_bytes().split(b"\n", 1)[0].split()[1:9]))
    return {
        "cpu_usage": {
            "total_usage": total_ns,
            "usage_in_kernelmode": system * _TICK_NS,
            "usage_in_usermode": user * _TICK_NS,
        },
        "system_cpu_usage": total * _TICK_NS,
        "online_cpus": os.cpu_count() or 1,
        "throttling_data": dict(_NO_CPU["throttling_data"]),
    }


def memory(pids: Sequence[int]) -> dict[str, Any]:
    """Give ``memory_stats``: the resident pages of all processes, shared ones counted each time. Blocks."""
    rss = 0
    for pid in pids:
        with contextlib.suppress(OSError, ValueError, IndexError):
            rss += int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * _PAGE
    parts = {"rss": rss, "cache": 0, "inactive_file": 0}
    return {"usage": rss, "max_usage": rss, "stats": parts, "limit": machine_bytes()}


def machine_bytes() -> int:
    """Give how much memory this machine has."""
    return os.sysconf("SC_PHYS_PAGES") * _PAGE


def sample(name: str, identity: str, pids: Sequence[int], before: dict[str, Any] | None) -> dict[str, Any]:
    """Give one sample; `before` is the last one. Blocks."""
    return {
        "read": written(time.time_ns()),
        "preread": before["read"] if before else NEVER,
        "pids_stats": {"current": len(pids)},
        "blkio_stats": {f"io_{one}_recursive": [] for one in _BLOCK} | {"sectors_recursive": []},
        "num_procs": 0,
        "storage_stats": {},
        "cpu_stats": cpu(pids),
        "precpu_stats": before["cpu_stats"] if before else _NO_CPU,
        "memory_stats": memory(pids),
        "name": f"/{name}",
        "id": identity,
        "networks": {"eth0": _NETWORK},
    }


def nothing(name: str, identity: str) -> dict[str, Any]:
    """Give the sample of a container that does not run."""
    return {
        "read": NEVER,
        "preread": NEVER,
        "pids_stats": {},
        "blkio_stats": dict.fromkeys([*(f"io_{one}_recursive" for one in _BLOCK), "sectors_recursive"]),
        "num_procs": 0,
        "storage_stats": {},
        "cpu_stats": _NO_CPU,
        "precpu_stats": _NO_CPU,
        "memory_stats": {},
        "name": f"/{name}",
        "id": identity,
    }

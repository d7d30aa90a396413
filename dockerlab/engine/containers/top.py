"""The processes of a container, as ``ps`` shows them."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dockerlab.engine.refusals import RefusalError, bad

_TITLES = ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
_TIMEOUT_S = 5.0


async def top(pids: Sequence[int], arguments: str) -> dict[str, Any]:
    """Give ``Titles`` and ``Processes``; with arguments of its own, ``ps`` of this machine is asked."""
    if arguments in ("", "-ef"):
        return {"Titles": _TITLES, "Processes": await asyncio.to_thread(_rows, pids)}
    return await _asked(pids, arguments)


def _rows(pids: Sequence[int]) -> list[list[str]]:
    tick = os.sysconf("SC_CLK_TCK")
    boot_s = time.time() - float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
    rows = []
    for pid in sorted(pids):
        try:
            name, _, rest = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")
            words = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
            owner = Path(f"/proc/{pid}").stat().st_uid
        except OSError:
            continue
        row = rest.split()
        used_s = (int(row[11]) + int(row[12])) // tick
        started_s = boot_s + int(row[19]) / tick
        share = int(100 * used_s / max(1.0, time.time() - started_s))
        clock = f"{used_s // 3600:02d}:{used_s // 60 % 60:02d}:{used_s % 60:02d}"
        command = b" ".join(words).decode(errors="replace") or f"[{name.partition('(')[2]}]"
        started = time.strftime("%H:%M", time.localtime(started_s))
        rows.append([_user(owner), str(pid), row[1], str(share), started, "?", clock, command])
    return rows


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


async def _asked(pids: Sequence[int], arguments: str) -> dict[str, Any]:
    words = arguments.split()
    if not shutil.which("ps"):
        raise RefusalError(501, "there is no program ps on this machine: only the default columns can be had")
    process = await asyncio.create_subprocess_exec(
        "ps", *words, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        output, errors = await asyncio.wait_for(process.communicate(), _TIMEOUT_S)
    except (asyncio.TimeoutError, TimeoutError):  # two classes in Python 3.10
        process.kill()
        raise RefusalError(500, f"Error running ps: it took longer than {_TIMEOUT_S:g} s") from None
    if process.returncode:
        raise bad(f"Error running ps: {errors.decode(errors='replace').strip()}")
    return chosen(output.decode(errors="replace"), pids)


def chosen(output: str, pids: Sequence[int]) -> dict[str, Any]:
    r"""Choose the rows of these processes from what ``ps`` printed.

    Examples
    --------
    >>> chosen("PID CMD\n  1 init\n 20 sleep 5\n", [20])
    {'Titles': ['PID', 'CMD'], 'Processes': [['20', 'sleep 5']]}
    """
    lines = output.splitlines()
    titles = lines[0].split() if lines else []
    if "PID" not in titles:
        raise bad("Couldn't find PID field in ps output")
    column = titles.index("PID")
    wanted = {str(pid) for pid in pids}
    rows = [line.split(None, len(titles) - 1) for line in lines[1:]]
    return {"Titles": titles, "Processes": [row for row in rows if len(row) > column and row[column] in wanted]}

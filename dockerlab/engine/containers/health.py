"""HEALTHCHECK with Docker's rules."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from dockerlab.engine.containers import launch
from dockerlab.engine.containers.clock import written
from dockerlab.engine.containers.console import Console
from dockerlab.engine.containers.container import Container
from dockerlab.engine.refusals import RefusalError

_KEPT = 5
_OUTPUT_BYTES = 4096
_SECOND = 10**9
_INTERVAL, _TIMEOUT, _RETRIES, _START_INTERVAL = 30 * _SECOND, 30 * _SECOND, 3, 5 * _SECOND


def begin(config: dict[str, Any]) -> dict[str, Any] | None:
    """Give ``State.Health`` of a container that was just started; None without a check."""
    test = (config.get("Healthcheck") or {}).get("Test") or ()
    return {"Status": "starting", "FailingStreak": 0, "Log": []} if test and test[0] != "NONE" else None


def note(health: dict[str, Any], row: dict[str, Any], *, retries: int, in_start: bool) -> None:
    """Take the result of one run in.

    Within the start period failures do not count; the first success ends it.

    Examples
    --------
    >>> health = {"Status": "starting", "FailingStreak": 0, "Log": []}
    >>> note(health, {"ExitCode": 1}, retries=1, in_start=True)
    >>> health["Status"]
    'starting'
    >>> note(health, {"ExitCode": 1}, retries=1, in_start=False)
    >>> health["Status"], health["FailingStreak"]
    ('unhealthy', 1)
    """
    health["Log"] = [*health["Log"], row][-_KEPT:]
    if row["ExitCode"] == 0:
        health.update(Status="healthy", FailingStreak=0)
    elif not (in_start and health["Status"] == "starting"):
        health["FailingStreak"] += 1
        if health["FailingStreak"] >= retries:
            health["Status"] = "unhealthy"


async def watch(isolator: Any, container: Container, changed: Callable[[str], None]) -> None:
    """Check a container for as long as it runs; `changed` is told each new status."""
    record = container.record
    check = record.config["Healthcheck"]
    retries = check.get("Retries") or _RETRIES
    start_s = (check.get("StartPeriod") or 0) / _SECOND
    interval_s = (check.get("Interval") or _INTERVAL) / _SECOND
    start_interval_s = min(interval_s, (check.get("StartInterval") or interval_s * _SECOND) / _SECOND)
    timeout_s = (check.get("Timeout") or _TIMEOUT) / _SECOND
    test = check["Test"]
    shell = record.config.get("Shell") or ["/bin/sh", "-c"]
    argv = [*shell, test[1]] if test[0] == "CMD-SHELL" else test[1:]
    begun_s = time.monotonic()
    while record.health is not None:
        in_start = time.monotonic() - begun_s < start_s
        await asyncio.sleep(start_interval_s if in_start and record.health["Status"] == "starting" else interval_s)
        if record.status != "running":
            continue
        row = await _run(isolator, container, argv, timeout_s)
        if record.health is None or not record.running:
            return
        before = record.health["Status"]
        note(record.health, row, retries=retries, in_start=time.monotonic() - begun_s < start_s)
        if record.health["Status"] != before:
            changed(record.health["Status"])


async def _run(isolator: Any, container: Container, argv: list[str], timeout_s: float) -> dict[str, Any]:
    begun_ns = time.time_ns()
    output = bytearray()
    console = Console(
        tty=False, stdin=False, output=lambda _, content: output.extend(content[: _OUTPUT_BYTES - len(output)])
    )
    process = None
    try:
        command = await launch.command_of(isolator, container, argv)
        process = await isolator.execute(container.id, command, console.open())
        console.started()
        code = await asyncio.wait_for(process.wait(), timeout_s)
        await console.drain(0.2)
    except (asyncio.TimeoutError, TimeoutError):  # two classes in Python 3.10
        code = -1
        output[:] = f"Health check exceeded timeout ({timeout_s:g}s)".encode()
    except (RefusalError, OSError) as error:
        code = -1
        output[:] = str(error).encode()
    finally:
        if process:
            process.kill()
        console.close()
    return {
        "Start": written(begun_ns),
        "End": written(time.time_ns()),
        "ExitCode": code,
        "Output": bytes(output).decode(errors="replace"),
    }

"""Processes of the embedded engine's containers, found and ended by number."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

if sys.platform != "linux":
    pytest.skip("the embedded engine needs Linux", allow_module_level=True)

from dockerlab.engine.isolate import processes


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def test_what_is_found_is_killed_however_long_the_look_took(sleeper: subprocess.Popen[bytes]) -> None:
    def found() -> list[int]:
        time.sleep(0.05)
        return [sleeper.pid] if sleeper.poll() is None else []

    processes.end(found, limit_s=0.01)
    assert sleeper.wait(5) == -9


def test_an_end_has_a_limit(sleeper: subprocess.Popen[bytes]) -> None:
    started_s = time.monotonic()
    processes.end(lambda: [1 << 30], limit_s=0.05)
    assert 0.05 <= time.monotonic() - started_s < 5
    assert sleeper.poll() is None


def test_below_gives_parents_first() -> None:
    with subprocess.Popen(["sh", "-c", "sleep 60 & wait"]) as process:
        while len(found := processes.below([process.pid])) < 2:
            time.sleep(0.002)
        assert found[0] == process.pid
        for pid in found:
            processes.send(pid, 9)


def test_nobody_traces_these(sleeper: subprocess.Popen[bytes]) -> None:
    assert processes.tracer(sleeper.pid) == 0
    assert processes.traced_by([sleeper.pid, 0]) == []
    assert processes.traced_by([1 << 30]) == []

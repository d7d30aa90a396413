"""Containers that make trouble: they end all the same, and no process of theirs is left on this machine."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from bench import Bench
from support import until

from dockerlab.connect import Engine


@pytest.fixture
def seconds(engine: Engine) -> str:
    """Give a time to sleep for that nobody else sleeps for: so its processes are found."""
    if engine.desktop:
        pytest.skip("the processes of the engine's machine cannot be seen")
    return str(random.randrange(10**8, 10**9))


def alive(seconds: str) -> list[str]:
    """Name the processes of this machine that have it on their command line."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        # What holds a container has its command on its own line as well
        if seconds.encode() in line and not line.startswith((b"bwrap\0", b"proot\0")):
            found.append(f"{folder.name} {line!r}")
    return found


TROUBLE = {
    "forks": "for i in $(seq 50); do sleep {0} & done; wait",
    "ignores": "trap '' TERM INT HUP; while :; do sleep {0}; done",
    "ignores with children": "trap '' TERM; for i in 1 2 3; do (trap '' TERM; sleep {0}; sleep {0}) & done; wait",
    "daemons": "(setsid sh -c 'setsid sleep {0} & setsid sleep {0} >/dev/null 2>&1 </dev/null &' &); exec sleep {0}",
    "closes": "exec >&- 2>&- <&-; sleep {0}; sleep {0}",
    "stopped": "sleep {0} & kill -STOP $!; sleep {0} & kill -STOP $$; wait",
    "prints": "yes {0} & yes {0} >&2; true",
}


@pytest.mark.parametrize(
    ("trouble", "way"),
    [
        *((trouble, "stop") for trouble in TROUBLE),
        *((trouble, "remove") for trouble in ("forks", "daemons", "stopped")),
        ("daemons", "kill"),
    ],
)
def test_no_process_is_left(bench: Bench, seconds: str, trouble: str, way: str) -> None:
    made = bench.start(["sh", "-c", TROUBLE[trouble].format(seconds)], init=trouble == "daemons")
    wanted = {"forks": 51, "daemons": 3, "ignores with children": 4}.get(trouble, 2)
    until(lambda: len(alive(seconds)) >= wanted)
    if way == "stop":
        made.stop(timeout=0)
    elif way == "kill":
        made.kill()
        made.wait(timeout=10)
    else:
        made.remove(force=True)
    until(lambda: not alive(seconds), 5)
    if way != "remove":
        made.reload()
        assert made.attrs["State"]["ExitCode"] in (137, 143)
        made.remove()


def test_what_the_main_process_leaves_ends_with_it(bench: Bench, seconds: str) -> None:
    script = f"(setsid sleep {seconds} &); sleep {seconds} & sleep 0.2; exit 5"
    made = bench.start(["sh", "-c", script])
    assert made.wait(timeout=10)["StatusCode"] == 5
    until(lambda: not alive(seconds), 5)


def test_what_an_exec_leaves_ends_with_the_container(bench: Bench, seconds: str) -> None:
    made = bench.start()
    made.exec_run(["sh", "-c", f"setsid sleep {seconds} >/dev/null 2>&1 & exit 0"], detach=True)
    until(lambda: alive(seconds))
    time.sleep(0.2)
    assert alive(seconds)  # it outlives the exec itself
    made.stop(timeout=0)
    until(lambda: not alive(seconds), 5)


def test_a_restart_ends_the_old_processes(bench: Bench, seconds: str) -> None:
    script = f"test -e /again && exec sleep 300; touch /again; (setsid sleep {seconds} &); exec sleep {seconds}"
    made = bench.start(["sh", "-c", script])
    # Both of them: what the shell forks for `touch` has the script on its own line at first.
    until(lambda: sum("b'sleep" in one for one in alive(seconds)) >= 2)
    made.restart(timeout=0)
    until(lambda: not alive(seconds), 5)
    made.reload()
    assert made.status == "running"


def test_a_closed_output_does_not_end_it(bench: Bench, seconds: str) -> None:
    made = bench.start(["sh", "-c", f"echo before; exec >&- 2>&-; sleep 0.3; sleep {seconds}"])
    time.sleep(0.5)
    made.reload()
    assert made.status == "running"
    assert made.logs() == b"before\n"
    code, text = bench.finish(["sh", "-c", "echo a; exec >&- 2>&-; sleep 0.2; exit 6"])
    assert (code, text) == (6, "a\n")


def test_a_container_sees_its_own_processes_only(bench: Bench, engine: Engine, seconds: str) -> None:
    other = bench.start(["sleep", seconds])
    until(lambda: alive(seconds))
    if engine.has_wall("pid"):
        assert seconds not in bench.output("cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    # Nor can it end them.
    bench.finish(["sh", "-c", "kill -9 -1; sleep 0.1"], init=True)
    other.reload()
    assert other.status == "running" or not engine.has_wall("pid")


def test_removing_one_that_ends_by_itself_at_the_same_time(bench: Bench) -> None:
    for _ in range(3):
        made = bench.start(["true"])
        made.remove(force=True)
    assert bench.api.containers(all=True, filters=bench.filter) == []

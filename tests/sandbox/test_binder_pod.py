"""The course in a pod as strict as Binder's: no privilege, no network, 2 GB, one CPU, an image made from binder/."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from sandbox_pod import Pod

pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(1500)]

NOTEBOOKS = sorted(path.stem for path in (Path(__file__).resolve().parents[2] / "notebooks").glob("*.ipynb"))
FIRST_LIMIT_S = 10.0
PEAK_LIMIT_BYTES = 1 << 30


def step(pod: Pod, learned: dict[str, Any], name: str) -> Any:
    if name not in learned:
        pytest.fail(f"it did not come to {name}:\n{learned.get('error')}\n{pod.logs()}", pytrace=False)
    return learned[name]


def test_jupyterlab_starts(pod: Pod, learned: dict[str, Any], seccomp: str, measured: Callable[[str], None]) -> None:
    measured(f"{seccomp}: JupyterLab is up after {step(pod, learned, 'up_s')} s")
    assert step(pod, learned, "lab") > 0


def test_the_first_container_answers_soon(
    pod: Pod, learned: dict[str, Any], seccomp: str, measured: Callable[[str], None]
) -> None:
    first, first_s = step(pod, learned, "first"), step(pod, learned, "first_s")
    measured(f"{seccomp}: the first container answers {first_s} s later ({first['isolator']}, {first['storage']})")
    walls = ", ".join(f"{'' if there else 'no '}{wall}" for wall, there in first["walls"].items())
    measured(f"{seccomp}: walls: {walls}")
    assert first["kind"] == "embedded"
    assert first["base"] == 1
    assert first["said"]["replica"] == "first"
    assert first_s <= FIRST_LIMIT_S


def test_the_panel_works_through_the_server(
    pod: Pod, learned: dict[str, Any], seccomp: str, measured: Callable[[str], None]
) -> None:
    step(pod, learned, "page")  # comes after the panel's last step
    panel = learned["panel"]
    measured(f"{seccomp}: the panel's slider from 2 to 4 healthy replicas took {panel['seconds']} s")
    assert {**panel, "seconds": 0} == {
        "before": True,
        "after": True,
        "seconds": 0,
        "slider": 4,
        "ready": 4,
        "running": 4,
    }


@pytest.mark.parametrize("name", ["direct", "page"])
def test_the_page_is_reached_through_the_proxy(pod: Pod, learned: dict[str, Any], name: str) -> None:
    status, page = step(pod, learned, name)
    assert status == 200
    assert "<html" in page.lower()


def test_the_service_is_reached_through_the_proxy(pod: Pod, learned: dict[str, Any]) -> None:
    status, said = step(pod, learned, "whoami")
    assert status == 200
    assert "replica" in json.loads(said)


def test_nothing_listens_outside_loopback(pod: Pod, learned: dict[str, Any]) -> None:
    assert step(pod, learned, "listening") == []
    assert step(pod, learned, "canary"), "a listener on all addresses was not seen"


def test_reset_leaves_nothing(pod: Pod, learned: dict[str, Any]) -> None:
    assert step(pod, learned, "clear") == {"left": 0}


@pytest.fixture(scope="module")
def report(pod: Pod, learned: dict[str, Any], seccomp: str, measured: Callable[[str], None]) -> dict[str, Any]:
    """Run every notebook; give what came out, by name."""
    _, output = pod.call("dockerlab", "run", "--out", "/tmp/report")
    code, text = pod.call("cat", "/tmp/report/report.json")
    assert code == 0, output
    read = json.loads(text)
    measured(f"{seccomp}: the notebooks took {read['seconds']:.0f} s")
    return {entry["name"]: entry for entry in read["notebooks"]}


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_passes(report: dict[str, Any], pod: Pod, name: str) -> None:
    result = report[name]
    if result["status"] != "passed":
        pytest.fail(f"{json.dumps(result['failure'], indent=1)}\n{pod.logs()}", pytrace=False)
    assert not result["warnings"]


def test_the_peak_of_memory(report: dict[str, Any], pod: Pod, seccomp: str, measured: Callable[[str], None]) -> None:
    peak = pod.peak_bytes()
    measured(f"{seccomp}: at most {peak / 1e6:.0f} MB of memory, cached files included")
    assert peak <= PEAK_LIMIT_BYTES

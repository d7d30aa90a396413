"""`dockerlab run` on small notebooks that are really executed: how each way to end is shown, and what is written."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import nbformat
import psutil
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from rich.console import Console

from dockerlab.course import offline
from dockerlab.course import run as course
from dockerlab.course.display import RunDisplay
from dockerlab.course.results import RunReport
from dockerlab.errors import BadInputError, NotebookError

Run = Callable[..., tuple[RunReport, str]]


def code(source: str, *tags: str) -> Any:
    return new_code_cell(source, metadata={"tags": list(tags)} if tags else {})


def write(folder: Path, name: str, *cells: Any, kernel: str = "python3") -> Path:
    notebook = new_notebook(cells=list(cells))
    notebook.metadata.kernelspec = {"name": kernel, "display_name": "Python 3", "language": "python"}
    path = folder / f"{name}.ipynb"
    nbformat.write(notebook, path)
    return path


def png() -> str:
    """A picture of 4 x 3 pixels, made here so that no plotting library is needed."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(b"".join(b"\0" + b"\x20\x60\xa0" * 4 for _ in range(3)))
    header = struct.pack(">IIBBBBB", 4, 3, 8, 2, 0, 0, 0)
    return base64.b64encode(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    ).decode()


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def run_them(*notebooks: Path, **options: Any) -> tuple[RunReport, str]:
        shown = io.StringIO()
        with RunDisplay(Console(file=shown, width=200), len(notebooks)) as display:
            report = course.run(notebooks, out=tmp_path / "out", display=display, **options)
        return report, shown.getvalue()

    return run_them


def test_a_passing_notebook_gives_page_notebook_plots_and_reports(tmp_path: Path, run: Run) -> None:
    draw = (
        "from IPython.display import display\n"
        f"display({{'image/png': '{png()}', 'text/plain': 'Two lines that <rise>.'}}, raw=True)"
    )
    path = write(
        tmp_path,
        "small",
        new_markdown_cell("# Small\n$x^2$ and a [link](https://example.org)"),
        code("import os\nprint('solutions', os.environ['DOCKERLAB_SOLUTIONS'], len(os.environ['DOCKERLAB_RUN']) > 5)"),
        code("print(os.path.basename(os.getcwd()))"),
        code(draw),
        code("import ipywidgets\nipywidgets.IntSlider()"),
    )
    before = path.read_bytes()

    report, shown = run(path)

    out = tmp_path / "out"
    assert report.exit_code == 0
    assert "small: passed" in shown
    assert path.read_bytes() == before, "the learner's notebook was changed"
    page = (out / "small.html").read_text("utf-8")
    assert "solutions 1 True" in page
    assert tmp_path.name in page
    assert offline.remote_resources(page) == ()
    assert "cdnjs" not in page
    assert "unpkg" not in page
    assert "require.min.js" not in page
    assert png() in page
    index = (out / "index.html").read_text("utf-8")
    assert offline.remote_resources(index) == ()
    assert "Two lines that &lt;rise&gt;." in index
    assert png() in index
    data = json.loads((out / "report.json").read_text("utf-8"))
    assert data["schema"] == 1
    assert data["status"] == "passed"
    (notebook,) = data["notebooks"]
    assert notebook["plots"] == ["Two lines that <rise>."]
    assert (notebook["cells"], notebook["cells_run"]) == (4, 4)
    assert notebook["failure"] is None
    assert notebook["html"] == "small.html"
    assert sorted(path.name for path in out.iterdir()) == [
        "index.html",
        "junit.xml",
        "report.json",
        "small.html",
        "small.ipynb",
    ]


def test_a_failing_cell_is_named_and_the_others_still_run(tmp_path: Path, run: Run) -> None:
    bad = write(
        tmp_path,
        "1_bad",
        new_markdown_cell("# Bad"),
        code("a = 1"),
        code("\nb = a / 0  # <here>\n"),
        code("print('never')"),
    )
    good = write(tmp_path, "2_good", code("print('still here')"))

    report, shown = run(bad, good)

    failed, passed = report.notebooks
    assert report.exit_code == 1
    assert (failed.status, passed.status) == ("failed", "passed")
    assert failed.failure is not None
    assert (failed.failure.cell, failed.failure.line) == (3, "b = a / 0  # <here>")
    assert failed.failure.error == "ZeroDivisionError"
    assert failed.failure.message == "ZeroDivisionError: division by zero"
    assert failed.cells_run == 2
    assert "cell 3 (b = a / 0  # <here>): ZeroDivisionError: division by zero" in shown
    page = (tmp_path / "out" / "1_bad.html").read_text("utf-8")
    assert "ZeroDivisionError" in page, "the artefacts of a failed notebook are kept"
    assert "&lt;here&gt;" in (tmp_path / "out" / "index.html").read_text("utf-8")
    suite = ET.parse(tmp_path / "out" / "junit.xml").getroot().find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("2", "1", "0")
    first, second = suite.findall("testcase")
    assert (first.get("name"), second.get("name")) == ("1_bad", "2_good")
    failure = first.find("failure")
    assert failure is not None
    assert failure.get("type") == "ZeroDivisionError"
    assert "\x1b" not in (failure.text or "")
    assert second.find("failure") is None


def test_a_cell_that_says_it_raises_does_not_fail_the_notebook(tmp_path: Path, run: Run) -> None:
    path = write(tmp_path, "shown", code("1 / 0", "raises-exception"), code("print('went on')"))

    report, _ = run(path)

    assert report.exit_code == 0
    page = (tmp_path / "out" / "shown.html").read_text("utf-8")
    assert "went on" in page
    assert "ZeroDivisionError" in page
    assert "papermill" not in page.lower()


def test_a_kernel_that_dies_is_said_to_have_died(tmp_path: Path, run: Run) -> None:
    path = write(tmp_path, "dies", code("import os"), code("os.write(2, b'last words')\nos._exit(7)"))

    report, shown = run(path)

    failure = report.notebooks[0].failure
    assert failure is not None
    assert failure.kind == "kernel died"
    assert (failure.cell, failure.line) == (2, "os.write(2, b'last words')")
    assert "last words" in failure.detail
    assert "Traceback" not in shown
    assert report.exit_code == 1
    assert (tmp_path / "out" / "dies.ipynb").exists()


def test_a_cell_that_takes_too_long_is_stopped_with_its_kernel(tmp_path: Path, run: Run) -> None:
    pid_file = tmp_path / "pid"
    path = write(
        tmp_path,
        "slow",
        code(f"import os, pathlib, time\npathlib.Path({str(pid_file)!r}).write_text(str(os.getpid()))"),
        code("time.sleep(600)"),
    )
    begun = time.monotonic()

    report, shown = run(path, cell_timeout_s=2)

    assert time.monotonic() - begun < 30
    failure = report.notebooks[0].failure
    assert failure is not None
    assert failure.kind == "cell time-out"
    assert failure.cell == 2
    assert "within 2 s" in failure.message
    assert "--cell-timeout" in failure.message
    assert "Traceback" not in shown
    assert not psutil.pid_exists(int(pid_file.read_text()))


def test_parameters_reach_the_notebooks_that_have_them(tmp_path: Path, run: Run) -> None:
    has = write(tmp_path, "has", code("replicas = 3\nname = 'a'", "parameters"), code("assert replicas == 5, name"))
    has_not = write(tmp_path, "has_not", code("assert 'replicas' not in globals()"), code("raise KeyError('x')"))

    report, _ = run(has, has_not, parameters={"replicas": 5})

    assert [notebook.status for notebook in report.notebooks] == ["passed", "failed"]
    assert report.notebooks[1].failure is not None
    assert report.notebooks[1].failure.cell == 2
    with pytest.raises(BadInputError, match=r"(?s)replica_count.*name, replicas"):
        run(has, has_not, parameters={"replica_count": 5})


def test_the_injected_cell_does_not_shift_the_number_of_a_failing_one(tmp_path: Path, run: Run) -> None:
    path = write(tmp_path, "shift", code("n = 1", "parameters"), code("raise RuntimeError(n)"))

    report, _ = run(path, parameters={"n": 2})

    assert report.notebooks[0].failure is not None
    assert report.notebooks[0].failure.cell == 2
    assert report.notebooks[0].failure.message == "RuntimeError: 2"
    assert report.notebooks[0].cells_run == 2


def test_what_is_no_notebook_and_a_missing_kernel_are_failures_of_that_notebook(tmp_path: Path, run: Run) -> None:
    broken = tmp_path / "broken.ipynb"
    broken.write_text("{not json")
    strange = write(tmp_path, "strange", code("1"), kernel="no-such-kernel")

    report, shown = run(broken, strange)

    kinds = [notebook.failure and notebook.failure.kind for notebook in report.notebooks]
    assert kinds == ["unreadable", "kernel did not start"]
    assert "no-such-kernel" in shown
    assert "Traceback" not in shown


def test_two_notebooks_of_one_name_do_not_overwrite_each_other(tmp_path: Path, run: Run) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    report, _ = run(write(tmp_path / "a", "same", code("1")), write(tmp_path / "b", "same", code("2")))

    assert [notebook.html for notebook in report.notebooks] == ["same.html", "same-2.html"]


def test_select_takes_folders_patterns_and_says_what_there_is(tmp_path: Path) -> None:
    for name in ("00_start", "06_scale", "07_replace"):
        write(tmp_path, name)
    (tmp_path / "notes.txt").write_text("")

    assert [path.stem for path in course.select([tmp_path])] == ["00_start", "06_scale", "07_replace"]
    assert [path.stem for path in course.select([tmp_path], "scale")] == ["06_scale"]
    assert [path.stem for path in course.select([tmp_path], "0[67]*")] == ["06_scale", "07_replace"]
    assert len(course.select([tmp_path / "06_scale.ipynb", tmp_path / "06_scale.ipynb"])) == 1
    with pytest.raises(NotebookError, match="00_start, 06_scale"):
        course.select([tmp_path], "99")
    with pytest.raises(NotebookError, match="does not exist"):
        course.select([tmp_path / "gone.ipynb"])
    with pytest.raises(NotebookError, match="not a notebook"):
        course.select([tmp_path / "notes.txt"])


@pytest.mark.parametrize(
    ("page", "found"),
    [
        ('<script src="https://cdn.example/x.js"></script>', "https://cdn.example/x.js"),
        ('<img src="//cdn.example/x.png">', "//cdn.example/x.png"),
        ('<link href="http://cdn.example/x.css" rel="stylesheet">', "http://cdn.example/x.css"),
        ("<style>a{background:url(https://cdn.example/a.png)}</style>", "https://cdn.example/a.png"),
        ('<style>@import "https://cdn.example/a.css";</style>', "https://cdn.example/a.css"),
        ("<script type='module'>import m from 'https://cdn.example/m.mjs'</script>", "https://cdn.example/m.mjs"),
    ],
)
def test_remote_resources_sees_each_way_to_load_one(page: str, found: str) -> None:
    assert offline.remote_resources(page) == (found,)
    assert offline.remote_resources('<a href="https://example.org">read</a><img src="data:image/png;base64,AA">') == ()


def test_a_page_that_would_load_something_is_warned_about(tmp_path: Path, run: Run) -> None:
    report, shown = run(write(tmp_path, "linked", new_markdown_cell('<img src="https://example.org/x.png" alt="x">')))

    assert report.notebooks[0].status == "passed"
    assert "https://example.org/x.png" in report.notebooks[0].warnings[0]
    assert "warning: " in shown


@contextlib.contextmanager
def command(tmp_path: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "dockerlab", "run", "--out", "out", *arguments],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.engine
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_an_interrupt_ends_the_kernel_and_writes_the_report_so_far(tmp_path: Path, engine: Any, name: str) -> None:
    pid_file = tmp_path / "pid"
    write(tmp_path, "1_done", code("print(1)"))
    source = f"import os, pathlib, time\npathlib.Path({str(pid_file)!r}).write_text(str(os.getpid()))\ntime.sleep(600)"
    write(tmp_path, "2_long", code(source))
    write(tmp_path, "3_never", code("print(3)"))
    with command(tmp_path, ".") as process:
        deadline = time.monotonic() + 40
        while not pid_file.exists() or not pid_file.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(getattr(signal, name))
        shown, errors = process.communicate(timeout=30)

    assert process.returncode == 130
    assert errors == ""
    assert "2_long: interrupted" in shown
    assert not psutil.pid_exists(int(pid_file.read_text()))
    data = json.loads((tmp_path / "out" / "report.json").read_text("utf-8"))
    assert data["status"] == "interrupted"
    assert [notebook["status"] for notebook in data["notebooks"]] == ["passed", "interrupted", "not run"]
    assert data["notebooks"][1]["failure"]["cell"] == 1
    suite = ET.parse(tmp_path / "out" / "junit.xml").getroot().find("testsuite")
    assert suite is not None
    assert suite.get("skipped") == "1"


@pytest.mark.engine
def test_what_a_notebook_leaves_on_the_engine_is_removed_and_reported(
    tmp_path: Path, run: Run, engine: Any, base_image: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(course, "LEFTOVER_WAIT_S", 0.5)
    bystander = engine.client.volumes.create(labels={"dockerlab.test": "bystander"})
    source = f"""import os, docker
labels = {{"dockerlab.run": os.environ["DOCKERLAB_RUN"], "dockerlab.test": "leftover"}}
client = docker.DockerClient(base_url={engine.address!r}, version={engine.api_version!r})
client.containers.run({base_image.id!r}, ["sleep", "600"], labels=labels, detach=True, name="left-{os.getpid()}")
client.networks.create("left-{os.getpid()}", labels=labels)
client.volumes.create("left-{os.getpid()}", labels=labels)
raise SystemExit(1)
"""
    try:
        report, _ = run(write(tmp_path, "untidy", code(source)), engine=engine)

        (notebook,) = report.notebooks
        left = f"left-{os.getpid()}"
        assert [warning.split(": ")[1] for warning in notebook.warnings] == [
            f"container {left}",
            f"network {left}",
            f"volume {left}",
        ]
        assert report.environment["engine"] == f"{engine.name} {engine.version}"
        filters = {"label": "dockerlab.test=leftover"}
        assert engine.client.containers.list(all=True, filters=filters) == []
        assert engine.client.networks.list(filters=filters) == []
        assert engine.client.volumes.list(filters=filters) == []
        assert bystander.id in {volume.id for volume in engine.client.volumes.list()}
    finally:
        bystander.remove()


@pytest.mark.engine
def test_a_lab_is_taken_down_after_a_kernel_that_was_killed(
    tmp_path: Path, run: Run, engine: Any, base_image: Any
) -> None:
    names = tmp_path / "names"
    source = f"""import os, pathlib, signal, dockerlab as dl
lab = dl.Lab()
container = lab.start({base_image.id!r}, ["sleep", "600"])
pathlib.Path({str(names)!r}).write_text(container.id)
os.kill(os.getpid(), signal.SIGKILL)
"""
    report, _ = run(write(tmp_path, "killed", code(source)), engine=engine)

    (notebook,) = report.notebooks
    assert notebook.failure is not None
    assert notebook.failure.kind == "kernel died", notebook.failure
    assert notebook.warnings == (), "the lab's own watchdog removes it, the run has nothing to do"
    left = engine.client.api.containers(all=True, filters={"id": names.read_text()})
    assert left == []

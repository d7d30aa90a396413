"""The command line: exit codes, messages instead of tracebacks, and a learner's own copy of the notebooks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from dockerlab import cli
from dockerlab.course import files
from dockerlab.errors import NotebookError

NOWHERE = {"DOCKER_HOST": "unix:///nowhere/docker.sock", "DOCKERLAB_ENGINE": ""}


def call(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, list(arguments), prog_name="dockerlab")


def command(*arguments: str, env: dict[str, str] | None = None, cwd: Path | None = None) -> Any:
    return subprocess.run(
        [sys.executable, "-m", "dockerlab", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **(env or {})},
        cwd=cwd,
        timeout=60,
        check=False,
    )


def test_help_names_every_command() -> None:
    result = call("--help")

    assert result.exit_code == 0
    for name in ("clean", "doctor", "engine", "lab", "run", "version"):
        assert f"  {name} " in result.output


def test_help_loads_no_notebook_machinery() -> None:
    code = "import json, sys, dockerlab.cli; print(json.dumps(sorted(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    # The package itself may bring the docker client, never what only one command needs.
    assert not {"aiohttp", "jinja2", "nbformat", "nbconvert", "papermill", "rich"} & set(json.loads(loaded))


def test_version_is_the_installed_one() -> None:
    assert call("version").output == f"dockerlab {files.own_version()}\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "gone.ipynb"], "does not exist"),
        (["run", "--only", "no-such-lesson", "."], "There is no notebook to run"),
        (["run", "--cell-timeout", "0"], "--cell-timeout"),
        (["run", "--engine", "lxc"], "lxc"),
        (["run", "-p", "name"], "requires 2 arguments"),
        (["clean", "--lab", "shop", "--all"], "either --lab or --all"),
        (["lab", "--ip=0.0.0.0"], "this machine only"),
        (["lab", "--ServerApp.ip=0.0.0.0"], "this machine only"),
        (["lab", "--ip", "0.0.0.0"], "this machine only"),
        (["engine", "frobnicate"], "No such command"),
        (["engine", "start", "--isolation", "lxc"], "lxc"),
        (["frobnicate"], "No such command"),
    ],
)
def test_a_command_that_is_not_understood_gives_2(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    result = call(*arguments)

    assert result.exit_code == 2
    assert says in result.output
    assert isinstance(result.exception, SystemExit), "a traceback otherwise"


@pytest.mark.parametrize("arguments", [["run"], ["clean", "--yes"]])
def test_without_an_engine_the_message_is_ours(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "empty.ipynb").write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
    where = [str(tmp_path)] if arguments == ["run"] else []

    result = command(*arguments, *where, env=NOWHERE, cwd=tmp_path)

    assert result.returncode == 1
    assert "/nowhere/docker.sock" in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_doctor_without_an_engine_says_so_and_gives_1() -> None:
    table, data = command("doctor", env=NOWHERE), command("doctor", "--json", env=NOWHERE)

    assert (table.returncode, data.returncode) == (1, 1)
    assert table.stderr == data.stderr == ""
    assert "missing" in table.stdout
    answer = json.loads(data.stdout)
    assert answer["ok"] is False
    assert answer["engine"] is None


def test_values_of_parameters_are_read_as_json_and_else_are_text() -> None:
    read = [cli._value(text) for text in ("3", "0.5", "true", "False", "None", "[1, 2]", "web:1", "")]

    assert read == [3, 0.5, True, False, None, [1, 2], "web:1", ""]
    assert isinstance(read[0], int)


def put(folder: Path, **contents: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in contents.items():
        (folder / f"{name}.ipynb").write_text(text)
    return folder


def test_the_course_is_copied_with_its_scripts_but_without_checkpoints(tmp_path: Path) -> None:
    course = put(tmp_path / "course", a="1")
    script = course / "apps" / "web" / "serve.sh"
    script.parent.mkdir(parents=True)
    script.write_text("#!/bin/sh\n")
    script.chmod(0o555)
    (script.parent / ".dockerignore").write_text("*.md\n")
    (course / ".ipynb_checkpoints").mkdir()
    (course / ".ipynb_checkpoints" / "a.ipynb").write_text("old")

    report = files.copy_course(course, tmp_path / "mine" / "deep")

    assert report == files.CopyReport(("a.ipynb", "apps/web/.dockerignore", "apps/web/serve.sh"), (), ())
    copy = tmp_path / "mine" / "deep" / "apps" / "web" / "serve.sh"
    assert os.access(copy, os.X_OK)
    assert copy.stat().st_mode & 0o200, "the learner must be able to change it"
    assert not (tmp_path / "mine" / "deep" / ".ipynb_checkpoints").exists()


def test_a_changed_file_is_never_overwritten(tmp_path: Path) -> None:
    course, mine = put(tmp_path / "course", a="1", b="1"), tmp_path / "mine"
    files.copy_course(course, mine, version="1.0")
    assert files.copy_course(course, mine, version="1.0") == files.CopyReport((), (), ())
    (mine / "a.ipynb").write_text("my work")
    assert files.copy_course(course, mine, version="1.0").kept == (), "no new version, nothing to put beside"
    put(course, a="2", b="2", c="2")

    report = files.copy_course(course, mine, version="2.0")

    assert report == files.CopyReport(("c.ipynb",), ("b.ipynb",), (("a.ipynb", "a.2.0.ipynb"),))
    assert (mine / "a.ipynb").read_text() == "my work"
    assert (mine / "a.2.0.ipynb").read_text() == "2"
    assert (mine / "b.ipynb").read_text() == "2"
    assert files.copy_course(course, mine, version="2.0") == files.CopyReport((), (), ()), "said once"


def test_a_file_of_the_learner_that_was_there_first_is_left_alone(tmp_path: Path) -> None:
    course = put(tmp_path / "course", a="1")
    mine = put(tmp_path / "mine", a="mine")
    (mine / "a.1.0.ipynb").write_text("also mine")

    report = files.copy_course(course, mine, version="1.0")

    assert report.kept == (("a.ipynb", "a.1.0-2.ipynb"),)
    assert (mine / "a.ipynb").read_text() == "mine"
    assert (mine / "a.1.0.ipynb").read_text() == "also mine"


def test_a_folder_that_cannot_be_written_is_our_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(NotebookError, match="--dir"):
        files.copy_course(put(tmp_path / "course", a="1"), tmp_path / "file" / "mine")


def test_lab_copies_the_course_and_becomes_jupyterlab_on_loopback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(cli.os, "execv", lambda program, arguments: started.append([program, *arguments]))
    monkeypatch.setattr(cli.subprocess, "call", lambda _: 0)
    monkeypatch.setattr(files, "in_clone", lambda: None)
    monkeypatch.setattr(files, "shipped", lambda: put(tmp_path / "course", **{"00_start_here": "1"}))
    mine = tmp_path / "mine"

    result = call("lab", "--dir", str(mine), "--no-browser", "--ServerApp.port=0")

    assert "1 files are new" in result.output
    (arguments,) = started
    assert arguments[:4] == [sys.executable, sys.executable, "-m", "jupyterlab"]
    assert f"--ServerApp.root_dir={mine}" in arguments
    assert "--LabApp.default_url=/lab/tree/00_start_here.ipynb" in arguments
    assert arguments[-3:] == ["--no-browser", "--ServerApp.port=0", "--ServerApp.ip=127.0.0.1"]
    assert (mine / "00_start_here.ipynb").read_text() == "1"

"""What repo2docker itself reads from binder/, without building anything; and the files it reads."""

from __future__ import annotations

import runpy
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

ROOT = Path(__file__).resolve().parents[2]
BINDER = ROOT / "binder"


@pytest.fixture
def pack(missing: Callable[[str, str], NoReturn], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Give the build pack that repo2docker chooses for this repository."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it still uses a module that has moved
            from repo2docker.app import Repo2Docker
    except ImportError:
        missing("sandbox", "the package jupyter-repo2docker is not installed (`pip install jupyter-repo2docker`)")
    # Its own folder: binder/ alone must do, whatever else is in the clone
    shutil.copytree(BINDER, tmp_path / "binder")
    monkeypatch.chdir(tmp_path)
    app = Repo2Docker()
    for kind in app.buildpacks:
        found = kind(base_image=app.base_image)
        found.platform = "linux/amd64"
        if found.detect():
            return found
    pytest.fail("repo2docker finds nothing that it could build")


def test_repo2docker_takes_conda_and_our_python(pack: Any) -> None:
    assert type(pack).__name__ in ("CondaBuildPack", "PythonBuildPack")
    assert pack.python_version == "3.12"
    assert pack.environment_yaml["name"] == "dockerlab"


def test_repo2docker_runs_our_scripts(pack: Any) -> None:
    assert pack.get_post_build_scripts() == ["binder/postBuild"]
    assert pack.get_start_script() == "${REPO_DIR}/binder/start"


def test_repo2docker_installs_before_it_copies(pack: Any) -> None:
    scripts = "\n".join(script for _, script in pack.get_preassemble_scripts())
    assert "bubblewrap busybox-static proot" in scripts
    assert '--file "binder/environment.yml"' in scripts
    dockerfile = pack.render()
    assert "RUN ./binder/postBuild" in dockerfile
    assert 'ENV R2D_ENTRYPOINT="${REPO_DIR}/binder/start"' in dockerfile


def test_environment_yml_is_the_lock() -> None:
    made = runpy.run_path(str(BINDER / "make_environment.py"))
    lock = (ROOT / "requirements" / "run.lock").read_text("utf-8")
    assert (BINDER / "environment.yml").read_text("utf-8") == made["render"](lock), "run `make lock`"


@pytest.mark.parametrize("name", ["postBuild", "start"])
def test_a_script_can_run_and_stops_at_an_error(name: str) -> None:
    text = (BINDER / name).read_text("utf-8")
    assert (BINDER / name).stat().st_mode & 0o111 == 0o111
    assert text.startswith("#!/bin/bash\n")
    assert "\nset -euo pipefail\n" in text


def test_start_hands_over() -> None:
    assert (BINDER / "start").read_text("utf-8").endswith('\nexec "$@"\n')

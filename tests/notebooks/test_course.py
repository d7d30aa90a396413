"""Every notebook of the course, run once for real as `dockerlab run` does it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dockerlab.course import offline

if TYPE_CHECKING:
    from dockerlab.connect import Engine

FIRST, *OTHERS = sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("*.ipynb"))
# `make run` runs all of them, so one is enough to see here that the reports are whole.
NOTEBOOKS = [FIRST, *(pytest.param(path, marks=pytest.mark.nightly) for path in OTHERS)]
CELL_TIMEOUT_S = 120
TIMEOUT_S = 400


@pytest.mark.timeout(TIMEOUT_S + 60)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in (FIRST, *OTHERS)])
def test_notebook(path: Path, engine: Engine, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ["--out", str(out), "--engine", engine.kind, "--cell-timeout", str(CELL_TIMEOUT_S)]

    ran = subprocess.run(
        [sys.executable, "-m", "dockerlab", "run", str(path), *options],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )

    shown = f"{ran.stdout}\n{ran.stderr}"
    assert ran.returncode == 0, shown
    (result,) = json.loads((out / "report.json").read_text("utf-8"))["notebooks"]
    assert result["status"] == "passed"
    assert result["cells_run"] == result["cells"] > 0
    assert result["warnings"] == [], shown
    assert offline.remote_resources((out / result["html"]).read_text("utf-8")) == ()
    assert all(len(alt) > 20 for alt in result["plots"]), "each plot says in a sentence what it shows"

"""What is kept under version control: notebooks without outputs, each step explained, and nothing of one machine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
EXPLAINED = {"parameters", "no-explanation"}
"""Tags of code cells that may stand without a sentence of purpose before them."""

named = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=nbformat.NO_CONVERT)


def test_the_course_begins_with_its_first_notebook() -> None:
    assert NOTEBOOKS
    assert NOTEBOOKS[0].name == "00_start_here.ipynb"
    assert all(re.fullmatch(r"\d\d_[a-z0-9_]+\.ipynb", path.name) for path in NOTEBOOKS)


@named
def test_a_notebook_is_valid_and_names_the_usual_kernel(path: Path) -> None:
    notebook = read(path)

    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata.kernelspec.name == "python3"
    ids = [cell.id for cell in notebook.cells]
    assert len(ids) == len(set(ids))


@named
def test_a_notebook_holds_nothing_of_a_run(path: Path) -> None:
    notebook = read(path)

    for number, cell in enumerate(notebook.cells, 1):
        if cell.cell_type == "code":
            assert not cell.outputs, f"cell {number} has outputs"
            assert cell.execution_count is None, f"cell {number} has an execution count"
        assert not {"execution", "papermill", "collapsed", "scrolled"} & set(cell.metadata), f"cell {number}"
    assert not {"widgets", "papermill"} & set(notebook.metadata)


@named
def test_each_code_cell_has_its_purpose_before_it(path: Path) -> None:
    before = None
    for number, cell in enumerate(read(path).cells, 1):
        if cell.cell_type == "code" and not EXPLAINED & set(cell.metadata.get("tags", [])):
            assert before is not None, f"cell {number} is the first and is not explained"
            assert before.cell_type == "markdown", f"cell {number} follows another code cell without a sentence between"
            assert before.source.strip(), f"the text before cell {number} is empty"
        before = cell


@pytest.mark.parametrize("name", ["run", "dev"])
def test_a_lock_holds_exact_versions_and_nothing_of_the_machine_that_made_it(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.lock").read_text("utf-8")
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]

    assert len(lines) > 50
    for line in lines:
        assert re.fullmatch(r"[a-z0-9._-]+(\[[a-z0-9,_-]+\])?==\S+( ; .+)?", line), line
    assert "://" not in text


def test_the_development_lock_is_the_other_one_and_more() -> None:
    run, dev = (
        {
            line
            for line in (ROOT / "requirements" / f"{name}.lock").read_text("utf-8").splitlines()
            if line and not line.lstrip().startswith("#")
        }
        for name in ("run", "dev")
    )

    assert run < dev, f"made apart from each other, run `make lock`: {sorted(run - dev)}"

"""``%%solution``: asleep until asked for, then a cell like any other; its errors stop the notebook."""

from __future__ import annotations

import re
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell

import dockerlab
from dockerlab.errors import BadInputError
from dockerlab.magics import asked_for


@pytest.fixture(scope="module")
def one_shell(tmp_path_factory: pytest.TempPathFactory) -> InteractiveShell:
    """Make one shell for all tests: IPython takes each down at the end of the process only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IPYTHONDIR", str(tmp_path_factory.mktemp("ipython")))
        made = InteractiveShell()
    made.history_manager.enabled = False
    dockerlab.load_ipython_extension(made)
    return made


@pytest.fixture
def shell(one_shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch) -> InteractiveShell:
    monkeypatch.delenv("DOCKERLAB_SOLUTIONS", raising=False)
    one_shell.reset(new_session=False)
    return one_shell


def run(shell: InteractiveShell, cell: str) -> Any:
    return shell.run_cell(cell, store_history=False)


def test_a_solution_is_inert_and_says_how_to_run_it(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run(shell, "%%solution\nanswer = 42\nsyntax error here")

    assert result.success
    assert "answer" not in shell.user_ns
    (line,) = capsys.readouterr().out.splitlines()
    assert "%%solution --run" in line


def test_run_executes_in_the_namespace_of_the_notebook_and_shows_the_last_value(shell: InteractiveShell) -> None:
    shell.user_ns["known"] = 40

    result = run(shell, "%%solution --run\nimport math\nanswer = known + 2\nanswer * 10")

    assert result.success
    assert shell.user_ns["answer"] == 42
    assert shell.user_ns["math"].pi > 3
    assert result.result == 420


@pytest.mark.parametrize("cell", ["a = 1", "a = 1\na;", "a = 1\n# only a comment", "a = 1\nif a:\n    a = 1\n"])
def test_without_an_expression_at_the_end_nothing_is_shown(shell: InteractiveShell, cell: str) -> None:
    result = run(shell, f"%%solution --run\n{cell}")

    assert result.success
    assert result.result is None
    assert shell.user_ns["a"] == 1


def test_the_environment_asks_for_all_solutions(shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKERLAB_SOLUTIONS", "1")

    assert run(shell, "%%solution\nanswer = 42").success

    assert shell.user_ns["answer"] == 42


@pytest.mark.parametrize("value", ["", "0", "no"])
def test_other_values_of_the_variable_do_not(value: str) -> None:
    assert not asked_for("", environ={"DOCKERLAB_SOLUTIONS": value})


def test_an_error_in_a_solution_fails_the_cell(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(shell, "%%solution --run\nbefore = 1\nassert before == 2, 'not equal'\nafter = 3")

    assert not result.success
    assert isinstance(result.error_in_exec, AssertionError)
    assert "after" not in shell.user_ns
    shown = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert "assert before == 2" in shown, "the traceback shows the learner's own line"
    assert shown.count("AssertionError: not equal") == 1, "the error is shown once"


def test_a_syntax_error_in_a_solution_fails_the_cell(shell: InteractiveShell) -> None:
    result = run(shell, "%%solution --run\nthis is no Python")

    assert isinstance(result.error_in_exec, SyntaxError)


def test_magics_inside_a_solution_work(shell: InteractiveShell) -> None:
    result = run(shell, "%%solution --run\nhere = %pwd\nhere")

    assert result.success
    assert result.result == shell.user_ns["here"]


@pytest.mark.parametrize("line", ["--rnu", "run", "'"])
def test_a_strange_option_is_refused_with_advice(line: str) -> None:
    with pytest.raises(BadInputError, match="--run"):
        asked_for(line, environ={})


def test_an_empty_solution_is_fine(shell: InteractiveShell) -> None:
    assert run(shell, "%%solution --run\n# nothing yet").success

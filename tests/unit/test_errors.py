"""The tree of errors."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

from dockerlab import errors
from dockerlab.errors import Attempt, DockerlabError

CLASSES = {
    name: thing
    for name, thing in vars(errors).items()
    if inspect.isclass(thing) and issubclass(thing, Exception) and thing.__module__ == errors.__name__
}
ROOT = Path(errors.__file__).parent
PLAIN = {name for name, thing in CLASSES.items() if thing.__init__ is DockerlabError.__init__}
EXAMPLES = [
    errors.EngineNotFoundError([Attempt("here", "no such socket")], "Start it."),
    errors.BuildError("no", step=2, instruction="RUN false", output="out"),
    errors.ImageNotFoundError("web:9"),
    errors.ReplicaFailedError("web-1 exited.", replica="web-1", exit_code=1, logs=""),
    errors.PortTakenError(8080),
    errors.LabLockedError("shop", 42),
    errors.LabClosedError("shop"),
    errors.StateError(Path("shop.json"), "it is no JSON"),
]


def tree_in_the_docstring() -> list[tuple[str, str]]:
    """Give each class with its parent, as drawn."""
    drawn: list[tuple[str, str]] = []
    above: dict[int, str] = {}
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"    ([│├└─ ]*)(\w+)(?:\s|$)", line)
        if found:
            depth = len(found[1]) // 4
            above[depth] = found[2]
            drawn.append((found[2], above.get(depth - 1, "")))
    return drawn


def test_the_docstring_draws_every_class_under_its_parent() -> None:
    real = [(name, thing.__bases__[0].__name__) for name, thing in CLASSES.items()]
    drawn = [(name, parent or "Exception") for name, parent in tree_in_the_docstring()]
    assert sorted(drawn) == sorted(real)


def test_all_names_end_in_error() -> None:
    assert [name for name in CLASSES if not name.endswith("Error")] == []


def test_a_wrong_argument_is_also_a_value_error() -> None:
    assert issubclass(errors.BadInputError, ValueError)


def test_an_error_carries_its_message_and_advice() -> None:
    error = DockerlabError("It broke.", "Mend it.")
    assert (error.message, error.advice, str(error)) == ("It broke.", "Mend it.", "It broke.\nMend it.")
    assert error._render_traceback_() == ["DockerlabError: It broke.\nMend it."]


def test_every_class_of_its_own_form_is_among_the_examples() -> None:
    assert {type(error).__name__ for error in EXAMPLES} == set(CLASSES) - PLAIN


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_every_error_says_what_to_do_next(error: DockerlabError) -> None:
    assert error.advice
    assert str(error).endswith(error.advice)


def without_advice(source: str) -> list[int]:
    """Give the lines where a plain error is made without advice."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in PLAIN:
            given = [*node.args[1:2], *(word.value for word in node.keywords if word.arg == "advice")]
            starred = any(isinstance(argument, ast.Starred) for argument in node.args)
            empty = [value for value in given if isinstance(value, ast.Constant) and not value.value]
            if not starred and (not given or empty):
                lines.append(node.lineno)
    return lines


def test_the_search_for_missing_advice_finds_it() -> None:
    source = "raise RouterError('x')\nraise RouterError('x', '')\nraise errors.RouterError('x', 'Do y.')\n"
    assert without_advice(source) == [1, 2]


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_error_is_raised_without_advice(path: Path) -> None:
    assert without_advice(path.read_text(encoding="utf-8")) == []

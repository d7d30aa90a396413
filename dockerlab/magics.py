"""The magic of the course: ``%%solution``, a cell that does nothing until it is asked to."""

from __future__ import annotations

import ast
import os
import shlex
import sys
from collections.abc import Mapping
from typing import Any

from dockerlab.course.words import words
from dockerlab.errors import BadInputError

RUN_OPTION, RUN_VARIABLE = "--run", "DOCKERLAB_SOLUTIONS"


def register(shell: Any) -> None:
    """Give a notebook the magic ``%%solution``; ``%load_ext dockerlab`` calls this.

    Parameters
    ----------
    shell : IPython.core.interactiveshell.InteractiveShell
        The shell of the notebook.
    """

    def solution(line: str, cell: str) -> Any:
        """Show how to run the solution in this cell; run it with ``%%solution --run``."""
        if asked_for(line):
            return run_body(shell, cell)
        sys.stdout.write(words()["solution"]["inert"] + "\n")
        return None

    shell.register_magic_function(solution, magic_kind="cell", magic_name="solution")


def asked_for(line: str, *, environ: Mapping[str, str] = os.environ) -> bool:
    """Tell whether a solution is to be run.

    Parameters
    ----------
    line : str
        What stands behind ``%%solution``.
    environ : mapping
        DOCKERLAB_SOLUTIONS=1 in it asks for every solution, as a run without a learner does.

    Raises
    ------
    BadInputError
        Where `line` is anything but empty or ``--run``.

    Examples
    --------
    >>> asked_for("", environ={}), asked_for("--run", environ={})
    (False, True)
    """
    try:
        options = shlex.split(line)
    except ValueError:
        options = [line]
    strange = [option for option in options if option != RUN_OPTION]
    if strange:
        text = words()["solution"]
        raise BadInputError(text["strange"].format(option=strange[0]), text["advice"])
    return bool(options) or environ.get(RUN_VARIABLE) == "1"


def run_body(shell: Any, cell: str) -> Any:
    """Run a cell's text in the notebook's namespace, and give the value of its last line as a cell does.

    An error leaves as it is, so that the notebook stops there. (``shell.run_cell`` would print it and go on.)

    Parameters
    ----------
    shell : IPython.core.interactiveshell.InteractiveShell
    cell : str
        Python, which may have magics in it.

    Returns
    -------
    object
        The value of the last line, or None where that is no expression or ends in a semicolon.
    """
    source = shell.transform_cell(cell)
    # Known to the shell's compiler under a name, the lines appear in tracebacks.
    name = shell.compile.cache(source, shell.execution_count)
    tree = ast.parse(source, filename=name)
    last = tree.body[-1] if tree.body else None
    quiet = source.rstrip().endswith(";")
    expression = ast.Expression(tree.body.pop().value) if isinstance(last, ast.Expr) else None
    exec(compile(tree, name, "exec"), shell.user_ns)  # noqa: S102 - the learner's own notebook
    if expression is None:
        return None
    value = eval(compile(expression, name, "eval"), shell.user_ns)  # noqa: S307
    return None if quiet else value

"""Run one notebook without a browser, through papermill, and say in plain words how it ended."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import papermill  # type: ignore[import-untyped]
from jupyter_client.kernelspec import NoSuchKernel
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from papermill.clientwrap import PapermillNotebookClient  # type: ignore[import-untyped]
from papermill.engines import Engine, papermill_engines  # type: ignore[import-untyped]
from papermill.exceptions import PapermillExecutionError  # type: ignore[import-untyped]
from papermill.log import logger  # type: ignore[import-untyped]

from dockerlab.course.results import Failure, FailureKind

OnCell = Callable[[int], None]
"""Called with the number of code cells that are finished, each time one begins and once at the end."""

_ENGINE = "dockerlab"
_COLOURS = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
_LOG_LINES = 20
_MARKER = "papermill-error-cell-tag"
_INJECTED = "injected-parameters"
_KERNEL_TROUBLE = ("kernel died", "kernel did not start")


@dataclass(frozen=True)
class Limits:
    """How long one cell, and the start of a kernel, may take, in whole seconds."""

    cell_s: int
    kernel_s: int


@dataclass
class Progress:
    """How far a notebook came; papermill itself tells this only to its own progress bar."""

    index: int = -1
    code_cells_run: int = 0
    raised: bool = False


class _NotebookEngine(Engine):  # type: ignore[misc]
    """Papermill's engine, with an environment for the kernel, its log in a file, and a report after each cell."""

    @classmethod
    def execute_managed_notebook(
        cls,
        nb_man: Any,
        kernel_name: str,
        *,
        progress: Progress,
        on_cell: OnCell,
        env: Mapping[str, str],
        kernel_log: Path,
        cell_timeout_s: int,
        start_timeout: int,
        **_: Any,
    ) -> None:
        cell_start, cell_exception = nb_man.cell_start, nb_man.cell_exception

        def started(cell: Any, cell_index: int, **kwargs: Any) -> None:
            progress.index = cell_index
            if cell.cell_type == "code" and not _has_tag(cell, _INJECTED):
                on_cell(progress.code_cells_run)
                progress.code_cells_run += 1
            cell_start(cell, cell_index, **kwargs)

        def raised(cell: Any, cell_index: int, **kwargs: Any) -> None:
            progress.raised = True
            cell_exception(cell, cell_index, **kwargs)

        nb_man.cell_start, nb_man.cell_exception = started, raised
        client = PapermillNotebookClient(
            nb_man,
            kernel_name=kernel_name,
            timeout=cell_timeout_s,
            startup_timeout=start_timeout,
            # How often a time-out is looked at; nbclient's 5 s would round every time-out up to that.
            shell_timeout_interval=1,
            log=logger,
        )
        with kernel_log.open("wb") as log:
            client.execute(env=dict(env), stdout=log, stderr=log)
        on_cell(progress.code_cells_run)


def parameters_of(path: Path) -> frozenset[str]:
    """Give the names that the notebook's cell with the tag ``parameters`` sets.

    Parameters
    ----------
    path : Path
        The notebook; one that cannot be read has none, `execute` says what is wrong with it.
    """
    try:
        return frozenset(papermill.inspect_notebook(str(path)))
    except Exception:  # noqa: BLE001  any of a dozen parsers' errors
        return frozenset()


def count_code_cells(path: Path) -> int:
    """Give the number of code cells of a notebook, 0 where it cannot be read."""
    try:
        cells = _read(path).cells
    except Exception:  # noqa: BLE001  any of a dozen parsers' errors; execute() then says what is wrong
        return 0
    return sum(cell.cell_type == "code" for cell in cells)


def execute(
    path: Path,
    executed: Path,
    *,
    parameters: Mapping[str, Any] | None = None,
    env: Mapping[str, str] | None = None,
    cell_timeout_s: int = 600,
    kernel_timeout_s: int = 60,
    kernel: str = "",
    on_cell: OnCell = lambda _: None,
) -> tuple[Failure | None, int]:
    """Run one notebook in a new kernel, in the notebook's own folder.

    Parameters
    ----------
    path : Path
        The notebook; it is not changed.
    executed : Path
        Where the executed notebook is written, after each cell: what was done until a failure is kept.
    parameters : mapping, optional
        Values for the cell with the tag ``parameters``.
    env : mapping, optional
        Environment variables for the kernel on top of this process's own.
    cell_timeout_s, kernel_timeout_s : int
        How long one cell may take, and how long the kernel may take to start.
    kernel : str
        Name of a kernel instead of the one that the notebook names.
    on_cell : callable
        Told after each code cell how many are finished.

    Returns
    -------
    failure : Failure or None
        Why the notebook did not reach its end.
    cells_run : int
        How many code cells were started.
    """
    if _ENGINE not in papermill_engines._engines:  # papermill has no public question for it
        papermill_engines.register(_ENGINE, _NotebookEngine)
    logger.setLevel("CRITICAL")  # what it would log is in the report, in our words
    progress = Progress()
    path, executed = path.resolve(), executed.resolve()  # papermill changes into the notebook's folder
    kernel_log = executed.with_suffix(".kernel.log")
    failure: Failure | None = None
    try:
        papermill.execute_notebook(
            str(path),
            str(executed),
            parameters=dict(parameters or {}),
            engine_name=_ENGINE,
            kernel_name=kernel or None,
            progress_bar=False,
            start_timeout=kernel_timeout_s,
            cwd=str(path.parent),
            progress=progress,
            on_cell=on_cell,
            # ipykernel's debugger prints a warning about frozen modules on each start otherwise.
            env={**os.environ, "PYDEVD_DISABLE_FILE_VALIDATION": "1", **(env or {})},
            kernel_log=kernel_log,
            cell_timeout_s=cell_timeout_s,
        )
    except KeyboardInterrupt:
        number, line = _cell(executed, progress.index) if progress.index >= 0 else (0, "")
        failure = Failure("interrupted", "The run was interrupted here.", number, line)
    except Exception as error:  # noqa: BLE001  one notebook's trouble, whatever it is, must not stop the others
        failure = _failure(error, progress, executed, _read_log(kernel_log), Limits(cell_timeout_s, kernel_timeout_s))
    finally:
        # After any other end it holds the kernel's small talk only.
        if failure is None or failure.kind not in _KERNEL_TROUBLE:
            kernel_log.unlink(missing_ok=True)
    return failure, progress.code_cells_run


def _failure(error: Exception, progress: Progress, executed: Path, log: str, limits: Limits) -> Failure | None:
    if isinstance(error, PapermillExecutionError):
        # Papermill calls any error output a failure, also in a cell whose tag "raises-exception" announces it.
        if not progress.raised:
            _without_markers(executed)
            return None
        number, line = _cell(executed, error.cell_index)
        short = f"{error.ename}: {_plain(error.evalue)}"
        return Failure("cell error", short, number, line, error.ename, _plain("\n".join(error.traceback)))
    if progress.index < 0:
        kind, message = _before_first_cell(error, limits, readable=executed.exists())
        return Failure(kind, message, detail=log)
    number, line = _cell(executed, progress.index)
    kind, message = _in_a_cell(error, limits)
    return Failure(kind, message, number, line, detail=log if kind in _KERNEL_TROUBLE else "")


def _before_first_cell(error: Exception, limits: Limits, *, readable: bool) -> tuple[FailureKind, str]:
    if isinstance(error, NoSuchKernel):
        advice = "`jupyter kernelspec list` shows those that there are."
        return "kernel did not start", f"There is no Jupyter kernel named {error.name!r}. {advice}"
    if readable:
        advice = f"If it is only slow, give it longer than {limits.kernel_s} s with --kernel-timeout."
        return "kernel did not start", f"The kernel did not start: {_first_line(str(error)).rstrip('.')}. {advice}"
    return "unreadable", f"The notebook cannot be read: {_first_line(str(error))}"


def _in_a_cell(error: Exception, limits: Limits) -> tuple[FailureKind, str]:
    if isinstance(error, CellTimeoutError):
        advice = "Give it longer with --cell-timeout, or do less in it."
        return "cell time-out", f"The cell did not end within {limits.cell_s} s. {advice}"
    if isinstance(error, DeadKernelError):
        causes = "the process was killed, ran out of memory or ended itself"
        return "kernel died", f"The kernel died while this cell ran: {causes}."
    return "cell error", f"{type(error).__name__}: {_first_line(str(error))}"


def _cell(executed: Path, index: int) -> tuple[int, str]:
    """Give number and first line of the cell that had this index when it ran, counted as the notebook's author does."""
    cells = [cell for cell in _read(executed).cells if not _has_tag(cell, _MARKER)]
    if index >= len(cells):
        return index + 1, ""
    injected = sum(_has_tag(cell, _INJECTED) for cell in cells[: index + 1])
    return index + 1 - injected, _first_line(cells[index].source)


def _has_tag(cell: Any, tag: str) -> bool:
    return tag in cell.metadata.get("tags", [])


def _without_markers(executed: Path) -> None:
    notebook = _read(executed)
    notebook.cells = [cell for cell in notebook.cells if not _has_tag(cell, _MARKER)]
    nbformat.write(notebook, executed)  # type: ignore[no-untyped-call]


def _read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]


def _plain(text: str) -> str:
    return _COLOURS.sub("", text)


def _first_line(text: str) -> str:
    return next((line.strip() for line in _plain(text).splitlines() if line.strip()), "")


def _read_log(path: Path) -> str:
    if not path.exists():
        return ""
    lines = path.read_text("utf-8", "replace").splitlines()
    # A local kernel always warns that it talks over TCP; that never is why it died.
    lines = [line for line in lines if "without encryption" not in line]
    return _plain("\n".join(lines[-_LOG_LINES:]))

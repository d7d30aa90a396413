"""Run the course's notebooks one after the other without a browser, and leave nothing of them on the engine."""

from __future__ import annotations

import platform
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat

from dockerlab.course import offline, report
from dockerlab.course.execute import count_code_cells, execute, parameters_of
from dockerlab.course.files import notebooks_in, own_version
from dockerlab.course.results import Failure, NotebookResult, Plot, RunReport, Status
from dockerlab.errors import BadInputError, DockerlabError, NotebookError
from dockerlab.lab import RUN_LABEL, RUN_VARIABLE
from dockerlab.lab.clean import remove_labelled

if TYPE_CHECKING:
    from dockerlab.connect import Engine
    from dockerlab.course.display import RunDisplay

LEFTOVER_WAIT_S = 15.0
"""How long a finished kernel's labs get to remove what they made, before it is removed for them and reported."""


def select(paths: Sequence[Path], only: str = "") -> tuple[Path, ...]:
    """Give the notebooks that are meant by files, folders and a pattern.

    Parameters
    ----------
    paths : sequence of Path
        Notebooks, or folders whose notebooks are meant.
    only : str
        Keep the notebooks whose name has this text in it, or fits it as a pattern with ``*``, ``?`` and ``[...]``.

    Raises
    ------
    NotebookError
        If a path is missing, or if nothing is left.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found.extend(notebooks_in(path))
        elif path.is_file() and path.suffix == ".ipynb":
            found.append(path)
        else:
            what = "is not a notebook (*.ipynb)" if path.exists() else "does not exist"
            raise NotebookError(f"{path} {what}.", "Name a notebook, or a folder with notebooks in it.")
    unique = tuple(dict.fromkeys(found))
    pattern = only if any(sign in only for sign in "*?[") else f"*{only}*"
    # Path.match, unlike fnmatch, does not depend on the platform's upper and lower case here: names are lower case.
    kept = tuple(path for path in unique if Path(path.stem).match(pattern) or path.name == only)
    if kept:
        return kept
    names = ", ".join(path.stem for path in unique) or "none"
    raise NotebookError("There is no notebook to run.", f"Change the folder or --only. These were found: {names}.")


def check_parameters(notebooks: Sequence[Path], given: Mapping[str, Any]) -> None:
    """Check that each given parameter belongs to some notebook.

    Parameters
    ----------
    notebooks : sequence of Path
        The notebooks of a run.
    given : mapping
        Names and values.

    Raises
    ------
    BadInputError
        If none of the notebooks has one of the names.
    """
    if not given:
        return
    every = sorted(frozenset().union(*(parameters_of(path) for path in notebooks)))
    for name in given:
        if name not in every:
            there = f"These are there: {', '.join(every)}." if every else "None of them has any."
            raise BadInputError(f"No notebook of this run has a parameter {name!r}.", there)


def run(
    notebooks: Sequence[Path],
    *,
    out: Path,
    display: RunDisplay,
    engine: Engine | None = None,
    parameters: Mapping[str, Any] | None = None,
    cell_timeout_s: int = 600,
    kernel_timeout_s: int = 60,
    kernel: str = "",
) -> RunReport:
    """Run notebooks and write their pages and a report.

    A notebook that fails does not stop the others. An interrupt does; what is finished by then is reported.

    Parameters
    ----------
    notebooks : sequence of Path
        What to run, in this order.
    out : Path
        Folder for the executed notebooks, their pages and the report; it is made where it is missing.
    display : RunDisplay
        Told how it goes on.
    engine : Engine, optional
        The engine that the notebooks use; what they leave on it is removed. None for notebooks that use none.
    parameters : mapping, optional
        Values for cells with the tag ``parameters``; a notebook gets those that it knows.
    cell_timeout_s, kernel_timeout_s : int
        How long one cell may take, and how long a kernel may take to start.
    kernel : str
        Name of a kernel instead of the one that each notebook names.

    Returns
    -------
    RunReport
        The same that report.json holds.

    Raises
    ------
    BadInputError
        If no notebook knows one of the parameters.
    NotebookError
        If the folder cannot be written.
    """
    given = dict(parameters or {})
    check_parameters(notebooks, given)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NotebookError(f"{out} cannot be written: {error.strerror}.", "Choose a folder with --out.") from error
    begun, started = time.monotonic(), datetime.now(timezone.utc).isoformat(timespec="seconds")
    runner = _Runner(out, display, engine, given, cell_timeout_s, kernel_timeout_s, kernel)
    results: list[NotebookResult] = []
    interrupted = False
    for path, name in zip(notebooks, _names(notebooks), strict=True):
        result = NotebookResult(name, str(path), "not run", cells=count_code_cells(path))
        if not interrupted:
            result = runner.run(result, path)
        interrupted = interrupted or result.status == "interrupted"
        results.append(result)
    finished = RunReport(started, time.monotonic() - begun, tuple(results), _environment(engine), interrupted)
    report.write(finished, out)
    display.summary(finished, str(out / "index.html"))
    return finished


@dataclass(frozen=True)
class _Runner:
    """What the notebooks of one run have in common."""

    out: Path
    display: RunDisplay
    engine: Engine | None
    parameters: Mapping[str, Any]
    cell_timeout_s: int
    kernel_timeout_s: int
    kernel: str

    def run(self, planned: NotebookResult, path: Path) -> NotebookResult:
        """Run one notebook, an interrupt included."""
        self.display.begin(planned.name, planned.cells)
        begun = time.monotonic()
        try:
            result = self._run(planned, path)
        except KeyboardInterrupt:  # while what it left was removed, or its page was made
            failure = Failure("interrupted", "The run was interrupted after the last cell of this notebook.")
            result = replace(planned, status="interrupted", failure=failure)
        result = replace(result, seconds=time.monotonic() - begun)
        self.display.end(result)
        return result

    def _run(self, planned: NotebookResult, path: Path) -> NotebookResult:
        executed = self.out / f"{planned.name}.ipynb"
        for old in (executed, executed.with_suffix(".html")):
            old.unlink(missing_ok=True)  # an earlier run's file must not pass for this one's
        run_id = uuid.uuid4().hex[:12]
        env = {"DOCKERLAB_SOLUTIONS": "1", RUN_VARIABLE: run_id}
        if self.engine is not None:
            env["DOCKERLAB_ENGINE"] = self.engine.kind
        known = parameters_of(path) if self.parameters else frozenset()
        failure, cells_run = execute(
            path,
            executed,
            parameters={key: value for key, value in self.parameters.items() if key in known},
            env=env,
            cell_timeout_s=self.cell_timeout_s,
            kernel_timeout_s=self.kernel_timeout_s,
            kernel=self.kernel,
            on_cell=self.display.cell,
        )
        left = _clear(self.engine, run_id) if self.engine is not None else []
        page, plots, about_page = _write_page(path, executed)
        return replace(
            planned,
            status=_status(failure),
            cells_run=cells_run,
            failure=failure,
            html=page,
            notebook=executed.name if executed.exists() else "",
            plots=plots,
            warnings=(*left, *about_page),
        )


def _status(failure: Failure | None) -> Status:
    if failure is None:
        return "passed"
    return "interrupted" if failure.kind == "interrupted" else "failed"


def _write_page(path: Path, executed: Path) -> tuple[str, tuple[Plot, ...], list[str]]:
    """Write the page of an executed notebook; give its name, the plots in it, and warnings."""
    try:
        notebook = nbformat.read(executed, as_version=4)  # type: ignore[no-untyped-call]
        page = offline.to_html(notebook, name=executed.stem, folder=path.parent)
    except FileNotFoundError:
        return "", (), []
    except Exception as error:  # noqa: BLE001  a page that cannot be made must not hide how the notebook ended
        return "", (), [f"No page could be made of the executed notebook: {type(error).__name__}: {error}"]
    target = executed.with_suffix(".html")
    target.write_text(page, "utf-8")
    remote = offline.remote_resources(page)
    warnings = [f"The page loads something from another machine: {', '.join(remote)}"] if remote else []
    return target.name, offline.plots(notebook), warnings


def _clear(engine: Engine, run_id: str) -> list[str]:
    """Wait until the labs of a finished kernel have removed what they made; remove and name what is left then."""
    labels = {RUN_LABEL: run_id}
    try:
        deadline = time.monotonic() + LEFTOVER_WAIT_S
        while remove_labelled(engine, labels, dry_run=True)[0] and time.monotonic() < deadline:
            time.sleep(0.2)
        left, refused = remove_labelled(engine, labels)
    except DockerlabError as error:
        return [f"What the notebook left on the engine could not be removed: {error}"]
    warnings = [f"The notebook left this behind, it was removed: {what}" for what in left]
    return warnings + [f"The notebook left this behind, and the engine keeps it: {what}" for what in refused]


def _names(notebooks: Sequence[Path]) -> list[str]:
    names: list[str] = []
    for path in notebooks:
        name, number = path.stem, 2
        while name in names:
            name, number = f"{path.stem}-{number}", number + 1
        names.append(name)
    return names


def _environment(engine: Engine | None) -> dict[str, str]:
    where = {
        "dockerlab": own_version(),
        "Python": platform.python_version(),
        "platform": platform.platform(),
        "papermill": version("papermill"),
    }
    if engine is None:
        return {"engine": "none", **where}
    return {
        "engine": f"{engine.name} {engine.version}",
        "API": engine.api_version,
        "found at": engine.found_at,
        "storage driver": engine.storage_driver,
        **where,
    }

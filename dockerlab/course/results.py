"""What came out of a run of notebooks: pure values, made by ``run`` and shown by ``report``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["passed", "failed", "interrupted", "not run"]
FailureKind = Literal["cell error", "cell time-out", "kernel died", "kernel did not start", "unreadable", "interrupted"]

SCHEMA = 1
"""Version of the layout of report.json; it grows when a field changes its meaning or goes away."""


@dataclass(frozen=True)
class Failure:
    """Why a notebook did not reach its end.

    Attributes
    ----------
    kind : str
        What sort of failure it was.
    message : str
        What happened, for a person.
    cell : int
        Number of the cell in the notebook, from 1 and counting every cell; 0 where no cell is to blame.
    line : str
        The first line of that cell's source.
    error : str
        Name of the exception class that a cell raised; empty otherwise.
    detail : str
        The traceback without colours, or what the kernel last printed.
    """

    kind: FailureKind
    message: str
    cell: int = 0
    line: str = ""
    error: str = ""
    detail: str = ""

    def __str__(self) -> str:
        where = f"cell {self.cell} ({self.line}): " if self.cell else ""
        return f"{where}{self.message}"


@dataclass(frozen=True)
class Plot:
    """One picture that a notebook drew: a PNG in base64, and the sentence that says what it shows."""

    png: str
    alt: str


@dataclass(frozen=True)
class NotebookResult:
    """What came out of one notebook.

    Attributes
    ----------
    name : str
        Name of the notebook without its ending, made unique within the run.
    path : str
        The notebook's file as it was given.
    seconds : float
        Wall time, kernel start and clean-up included.
    cells, cells_run : int
        Code cells in the notebook, and how many of them were started.
    html, notebook : str
        File names of the page and of the executed notebook, relative to the report; empty where there is none.
    """

    name: str
    path: str
    status: Status
    seconds: float = 0.0
    cells: int = 0
    cells_run: int = 0
    failure: Failure | None = None
    html: str = ""
    notebook: str = ""
    plots: tuple[Plot, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunReport:
    """What came out of a run.

    Attributes
    ----------
    started : str
        When it began, ISO 8601 with the time zone.
    seconds : float
        Wall time of the whole run.
    environment : dict of str to str
        What it ran on: engine, versions, platform.
    interrupted : bool
        Whether somebody stopped it.
    """

    started: str
    seconds: float
    notebooks: tuple[NotebookResult, ...]
    environment: dict[str, str] = field(default_factory=dict)
    interrupted: bool = False

    def count(self, status: Status) -> int:
        """Give the number of notebooks with that status."""
        return sum(notebook.status == status for notebook in self.notebooks)

    @property
    def status(self) -> Status:
        """The status of the run as a whole."""
        if self.interrupted:
            return "interrupted"
        return "passed" if self.count("passed") == len(self.notebooks) else "failed"

    @property
    def exit_code(self) -> int:
        """0 when every notebook passed, 130 when the run was interrupted, else 1."""
        return {"passed": 0, "interrupted": 130}.get(self.status, 1)

    def as_dict(self) -> dict[str, Any]:
        """Give the report as report.json holds it.

        Returns
        -------
        dict
            ``schema`` (int, now 1), ``status``, ``exit_code``, ``started``, ``seconds``, ``environment`` (str to str),
            and ``notebooks``: a list of objects with ``name``, ``path``, ``status`` ("passed", "failed",
            "interrupted" or "not run"), ``seconds``, ``cells``, ``cells_run``, ``html``, ``notebook``, ``plots`` (a
            list of their text alternatives), ``warnings`` (list of str) and ``failure`` (null, or an object with
            ``kind``, ``message``, ``cell``, ``line``, ``error`` and ``detail``). Fields may be added without a new
            schema number.
        """
        return {
            "schema": SCHEMA,
            "status": self.status,
            "exit_code": self.exit_code,
            "started": self.started,
            "seconds": round(self.seconds, 3),
            "environment": dict(self.environment),
            "notebooks": [_notebook_dict(notebook) for notebook in self.notebooks],
        }


def _notebook_dict(result: NotebookResult) -> dict[str, Any]:
    return {
        "name": result.name,
        "path": result.path,
        "status": result.status,
        "seconds": round(result.seconds, 3),
        "cells": result.cells,
        "cells_run": result.cells_run,
        "html": result.html,
        "notebook": result.notebook,
        "plots": [plot.alt for plot in result.plots],
        "warnings": list(result.warnings),
        "failure": None if result.failure is None else dict(vars(result.failure)),
    }

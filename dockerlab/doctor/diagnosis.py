"""Look at everything that the course needs, and say what is missing and what to do about it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from dockerlab.connect import Search, search
from dockerlab.connect.info import Engine
from dockerlab.doctor import examine
from dockerlab.doctor.examine import Finding
from dockerlab.errors import Attempt, DockerlabError


@dataclass(frozen=True)
class Diagnosis:
    """What :func:`diagnose` found.

    Attributes
    ----------
    findings : tuple of Finding
        One for each thing that was looked at.
    attempts : tuple of Attempt
        Each place where an engine was looked for before one was found.
    engine : dict or None
        Facts about the engine, JSON values only; None without an engine.
    """

    findings: tuple[Finding, ...]
    attempts: tuple[Attempt, ...]
    engine: dict[str, Any] | None

    @property
    def ok(self) -> bool:
        """Whether nothing that the course needs is missing."""
        return all(finding.status != "missing" for finding in self.findings)

    @property
    def rows(self) -> tuple[tuple[str, str, str], ...]:
        """Name, status and text of each finding and of each place that was tried, for a table."""
        found = tuple(
            (finding.name, finding.status, " ".join(filter(None, (finding.found, finding.meaning, finding.advice))))
            for finding in self.findings
        )
        return found + tuple(("tried", "", f"{attempt.place}: {attempt.outcome}") for attempt in self.attempts)

    def as_dict(self) -> dict[str, Any]:
        """Give everything as JSON values.

        Returns
        -------
        dict
            ``ok``, ``engine``, ``findings`` and ``attempts``.
        """
        return {
            "ok": self.ok,
            "engine": self.engine,
            "findings": [asdict(finding) for finding in self.findings],
            "attempts": [asdict(attempt) for attempt in self.attempts],
        }


def diagnose(*, environ: Mapping[str, str] = os.environ) -> Diagnosis:
    """Look at the engine and everything around it. Never raises, also without an engine.

    Parameters
    ----------
    environ : mapping of str to str
        The environment variables to go by.

    Returns
    -------
    Diagnosis
        What is there, what is missing, and what to do.

    Examples
    --------
    >>> diagnose(environ={"DOCKER_HOST": "unix:///nowhere.sock"}).ok
    False
    """
    found: Search | None = None
    findings: list[Finding] = []
    try:
        found = search(environ=environ)
    except DockerlabError as error:
        findings.append(_no_engine(error.message, error.advice))
    except Exception as error:  # noqa: BLE001 - a diagnosis that breaks helps nobody
        findings.append(_broken("engine", error))
    engine = found.engine if found else None
    if found and engine is None:
        findings.append(_no_engine("none answers.", found.advice))
    checks: dict[str, Callable[[], Iterator[Finding]]] = {
        "permission": lambda: examine.permission(found.attempts if found else ()),
        "HAProxy": lambda: examine.haproxy(environ, engine),
        "memory": lambda: examine.memory(engine),
        "Python": examine.python,
        "JupyterLab": examine.jupyterlab,
        "proxy": lambda: examine.proxy(environ),
    }
    if engine:
        running = engine
        checks = {
            "engine": lambda: examine.engine(running),
            "base image": lambda: examine.base_image(running),
            "disk": lambda: examine.disk(running),
            **checks,
        }
    for name, check in checks.items():
        findings += _checked(name, check)
    if engine:
        engine.client.close()
    return Diagnosis(tuple(findings), found.attempts if found else (), _facts(engine) if engine else None)


def _checked(name: str, check: Callable[[], Iterator[Finding]]) -> list[Finding]:
    try:
        return list(check())
    except Exception as error:  # noqa: BLE001 - a diagnosis that breaks helps nobody
        return [_broken(name, error)]


def _no_engine(found: str, advice: str) -> Finding:
    return Finding("engine", "missing", found, "Without an engine there are no containers.", advice)


def _broken(name: str, error: Exception) -> Finding:
    return Finding(
        name,
        "warning",
        f"could not be looked at ({type(error).__name__}: {error}).",
        "Nothing can be said about it.",
        "Run `dockerlab doctor` again; report this if it stays.",
    )


def _facts(engine: Engine) -> dict[str, Any]:
    names = (
        "kind",
        "name",
        "version",
        "api_version",
        "id",
        "found_at",
        "address",
        "storage_driver",
        "rootless",
        "desktop",
        "isolator",
    )
    return {
        **{name: getattr(engine, name) for name in names},
        "walls": [asdict(wall) for wall in engine.walls],
        "limits": [asdict(limit) for limit in engine.limits],
        "warnings": list(engine.warnings),
    }

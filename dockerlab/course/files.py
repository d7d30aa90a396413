"""Where the course's notebooks are, and how a learner gets a copy of their own."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path

from dockerlab.errors import NotebookError

FIRST = "00_start_here.ipynb"
DEFAULT_FOLDER = "dockerlab-notebooks"
_MANIFEST = ".dockerlab.json"
_PACKAGE = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class CopyReport:
    """What `copy_course` did: paths relative to the folder.

    Attributes
    ----------
    added, updated : tuple of str
        New files, and files that the learner had not changed and that are now the new version.
    kept : tuple of (str, str)
        Files that the learner had changed, each with the name of the new version put beside it.
    """

    added: tuple[str, ...]
    updated: tuple[str, ...]
    kept: tuple[tuple[str, str], ...]


def own_version() -> str:
    """Give the version of this dockerlab, "unknown" where it runs without having been installed."""
    try:
        return installed_version("dockerlab-course")
    except PackageNotFoundError:
        return "unknown"


def in_clone() -> Path | None:
    """Give the folder ``notebooks`` of the clone that this package runs from, None where it was installed."""
    root = _PACKAGE.parent
    folder = root / "notebooks"
    return folder if folder.is_dir() and (root / "pyproject.toml").is_file() else None


def shipped() -> Path:
    """Give the folder of the course's notebooks: the clone's, else the one inside the installed package.

    Raises
    ------
    NotebookError
        If there is neither.
    """
    folder = in_clone() or _PACKAGE / "_notebooks"
    if folder.is_dir():
        return folder
    raise NotebookError(
        "This installation of dockerlab has no notebooks.",
        "Install it again with pip, or clone the project and work there.",
    )


def notebooks_in(folder: Path) -> tuple[Path, ...]:
    """Give the notebooks of a folder in the order of their names."""
    return tuple(sorted(path for path in folder.glob("*.ipynb") if path.is_file()))


def copy_course(source: Path, target: Path, *, version: str = "") -> CopyReport:
    """Copy the course into a learner's folder and never overwrite what the learner changed.

    A hidden file in the folder remembers what was put there, so that a later version replaces only files that still are
    as they came. A new version of a changed file goes beside it, with the version in its name.

    Parameters
    ----------
    source, target : Path
        The course, and the learner's folder; it is made where it is missing.
    version : str
        The version that a file put beside a changed one is named after; without it, that of this dockerlab.

    Raises
    ------
    NotebookError
        If the folder cannot be written.
    """
    version = version or own_version()
    added: list[str] = []
    updated: list[str] = []
    kept: list[tuple[str, str]] = []
    try:
        target.mkdir(parents=True, exist_ok=True)
        came = _read_manifest(target / _MANIFEST)
        for file in _files(source):
            name = file.relative_to(source).as_posix()
            mine = target / name
            new = _digest(file)
            if not mine.exists():
                _copy(file, mine)
                added.append(name)
            elif _digest(mine) not in {new, came.get(name)}:
                if came.get(name) != new:
                    kept.append((name, _put_beside(file, mine, version).relative_to(target).as_posix()))
            elif _digest(mine) != new:
                _copy(file, mine)
                updated.append(name)
            came[name] = new
        (target / _MANIFEST).write_text(json.dumps(came, indent=1, sort_keys=True) + "\n", "utf-8")
    except OSError as error:
        raise NotebookError(
            f"The notebooks cannot be copied to {target}: {error.strerror}.",
            "Choose a folder that you may write to with --dir.",
        ) from error
    return CopyReport(tuple(added), tuple(updated), tuple(kept))


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        # Folders such as .ipynb_checkpoints are a tool's; a file such as .dockerignore belongs to the course.
        folders = path.relative_to(folder).parts[:-1]
        if path.is_file() and not any(part.startswith(".") or part == "__pycache__" for part in folders):
            yield path


def _copy(file: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, to)
    # Scripts of the sample service must stay executable; a file in site-packages may be read-only, a copy must not be.
    to.chmod(file.stat().st_mode & 0o111 | 0o644)


def _put_beside(file: Path, mine: Path, version: str) -> Path:
    new = _digest(file)
    for number in range(1, 1000):
        extra = "" if number == 1 else f"-{number}"
        beside = mine.with_name(f"{mine.stem}.{version}{extra}{mine.suffix}")
        if not beside.exists():
            _copy(file, beside)
            return beside
        if _digest(beside) == new:
            return beside
    raise OSError(0, "too many versions beside each other")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _read_manifest(path: Path) -> dict[str, str]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return {str(key): str(value) for key, value in content.items()} if isinstance(content, dict) else {}

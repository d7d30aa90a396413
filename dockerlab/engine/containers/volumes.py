"""Volumes of the local driver: a folder each."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dockerlab.engine import files
from dockerlab.engine.containers.clock import written
from dockerlab.engine.refusals import RefusalError, bad, conflict

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_ALLOWED = "[a-zA-Z0-9][a-zA-Z0-9_.-]"
ANONYMOUS_LABEL = "com.docker.volume.anonymous"

Names = list[str]
InUse = Callable[[str], list[str]]


@dataclass(frozen=True)
class Volume:
    """A volume: its name, where its files are, its labels."""

    name: str
    path: Path
    labels: Mapping[str, str]
    created_ns: int
    anonymous: bool

    def shown(self) -> dict[str, Any]:
        """Give what Docker shows of it."""
        return {
            "CreatedAt": written(self.created_ns)[:19] + "Z",
            "Driver": "local",
            "Labels": dict(self.labels) or None,
            "Mountpoint": str(self.path),
            "Name": self.name,
            "Options": None,
            "Scope": "local",
        }


class Volumes:
    """All volumes below one folder. What touches files is short, but blocks; `remove` and `sizes` may take long.

    Parameters
    ----------
    folder : Path
    in_use : callable
        Gives the ids of the containers that use a volume.
    """

    def __init__(self, folder: Path, in_use: InUse = lambda _: []) -> None:
        self._folder = folder
        self.in_use = in_use
        self._volumes: dict[str, Volume] = {}
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in sorted(folder.iterdir()):
            if path.name.startswith("."):
                files.remove(path)
                continue
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                kept = json.loads((path / "volume.json").read_text(encoding="utf-8"))
                self._volumes[path.name] = Volume(
                    path.name, path / "_data", dict(kept["labels"]), int(kept["created_ns"]), bool(kept["anonymous"])
                )

    def create(
        self, name: str = "", labels: Mapping[str, str] | None = None, *, driver: str = "local", made: bool = False
    ) -> Volume:
        """Give a volume of that name, made where there is none; without a name an anonymous one.

        Raises
        ------
        RefusalError
            400: the name or the driver is not allowed.
        """
        if driver not in ("", "local"):
            raise RefusalError(404, f'error looking up volume plugin {driver}: plugin "{driver}" not found')
        anonymous = not name or made
        name = name or secrets.token_hex(32)
        check_name(name)
        if name in self._volumes:
            return self._volumes[name]
        volume = Volume(name, self._folder / name / "_data", dict(labels or {}), time.time_ns(), anonymous)
        try:
            volume.path.mkdir(parents=True, exist_ok=True)
            kept = {"labels": volume.labels, "created_ns": volume.created_ns, "anonymous": anonymous}
            files.replace(self._folder / name / "volume.json", json.dumps(kept).encode())
        except OSError as error:
            raise RefusalError(500, f"create {name}: {(error.strerror or '').lower()}") from error
        self._volumes[name] = volume
        return volume

    def get(self, name: str) -> Volume:
        """Give a volume; 404 where there is none."""
        if name not in self._volumes:
            raise RefusalError(404, f"get {name}: no such volume")
        return self._volumes[name]

    def list(self, filters: Mapping[str, list[str]] | None = None) -> list[Volume]:
        """Give those that pass filters: name, label, driver, dangling."""
        wanted = filters or {}
        dangling = truth(wanted["dangling"]) if wanted.get("dangling") else None
        found = []
        for volume in self._volumes.values():
            if wanted.get("name") and not any(one in volume.name for one in wanted["name"]):
                continue
            if wanted.get("driver") and "local" not in wanted["driver"]:
                continue
            if not has_labels(volume.labels, wanted.get("label", ())):
                continue
            if dangling is not None and dangling == bool(self.in_use(volume.name)):
                continue
            found.append(volume)
        return sorted(found, key=lambda volume: volume.name)

    def remove(self, name: str, *, force: bool = False) -> None:
        """Remove a volume and its files. Blocks.

        Raises
        ------
        RefusalError
            404: there is none, and not `force`. 409: a container uses it.
        """
        if name not in self._volumes:
            if force:
                return
            raise RefusalError(404, f"get {name}: no such volume")
        users = self.in_use(name)
        if users:
            raise conflict(f"remove {name}: volume is in use - [{', '.join(users)}]")
        # Away under its name first: what is half deleted must not look like a volume
        gone = self._folder / f".{name}-{secrets.token_hex(4)}"
        del self._volumes[name]
        with contextlib.suppress(FileNotFoundError):
            (self._folder / name).replace(gone)
        files.remove(gone)

    def prune(self, filters: Mapping[str, Names]) -> tuple[Names, int]:
        """Remove what no container uses: anonymous ones, or all with the filter ``all``; give their bytes. Blocks."""
        every = truth(filters["all"]) if filters.get("all") else False
        removed, freed = [], 0
        for volume in list(self._volumes.values()):
            unwanted = filters.get("label!", ())
            if not has_labels(volume.labels, filters.get("label", ())):
                continue
            if unwanted and has_labels(volume.labels, unwanted):
                continue
            if self.in_use(volume.name) or not (every or volume.anonymous):
                continue
            size = size_of(volume.path)
            with contextlib.suppress(RefusalError):
                self.remove(volume.name)
                removed.append(volume.name)
                freed += size
        return removed, freed


def check_name(name: str) -> None:
    """Refuse a name that is none for a volume, in Docker's words."""
    if len(name) < 2:
        raise bad(f"create {name}: volume name is too short, names should be at least two alphanumeric characters")
    if not _NAME.fullmatch(name) or len(name) > 200:
        raise bad(
            f'create {name}: "{name}" includes invalid characters for a local volume name, only "{_ALLOWED}" are '
            "allowed. If you intended to pass a host directory, use absolute path"
        )


def truth(values: Iterable[str]) -> bool:
    """Read the value of a filter that says yes or no."""
    for value in values:
        if value.lower() in ("1", "true", "t"):
            return True
        if value.lower() not in ("0", "false", "f"):
            raise bad(f"invalid filter: {value!r} must be true or false")
    return False


def has_labels(labels: Mapping[str, str], wanted: Iterable[str]) -> bool:
    """Tell whether all of ``key`` or ``key=value`` are there."""
    for one in wanted:
        key, given, value = one.partition("=")
        if key not in labels or (given and labels[key] != value):
            return False
    return True


def size_of(folder: Path) -> int:
    """Add up what files below a folder hold. Blocks."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(f"{place}/{name}").st_size
    return total

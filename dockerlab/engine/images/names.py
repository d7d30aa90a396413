"""Which image each name means, kept in one file that is replaced as a whole."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection
from pathlib import Path

from dockerlab.engine import files
from dockerlab.engine.images.reference import Reference, parse
from dockerlab.engine.refusals import RefusalError


class Names:
    """The table of names. Not safe for threads by itself: :class:`Images` holds a lock around it."""

    def __init__(self, path: Path, known: Collection[str]) -> None:
        self._path = path
        self._ids: dict[str, str] = {}
        with contextlib.suppress(OSError, ValueError):
            content = json.loads(path.read_bytes())
            self._ids = {name: one for name, one in content.items() if one in known}

    def find(self, reference: Reference) -> str:
        """Give the image's id; empty when there is none of that name."""
        if reference.digest:
            return self._ids.get(f"{reference.repository}@{reference.digest}", "")
        return self._ids.get(reference.tagged().name, "")

    def of(self, image_id: str) -> list[Reference]:
        """Give the names of an image, in order."""
        found = []
        for name in sorted(name for name, one in self._ids.items() if one == image_id):
            with contextlib.suppress(RefusalError):
                found.append(parse(name))
        return found

    def by_image(self) -> dict[str, list[Reference]]:
        """Give the names of all images, in order."""
        found: dict[str, list[Reference]] = {}
        for name in sorted(self._ids):
            with contextlib.suppress(RefusalError):
                found.setdefault(self._ids[name], []).append(parse(name))
        return found

    def put(self, reference: Reference, image_id: str) -> None:
        """Let a name mean an image; with a digest, the tag is left out, as the two are kept apart."""
        name = f"{reference.repository}@{reference.digest}" if reference.digest else reference.tagged().name
        if self._ids.get(name) != image_id:
            self._save({**self._ids, name: image_id})

    def drop(self, references: Collection[Reference]) -> None:
        """Forget names."""
        gone = {reference.name for reference in references}
        self._save({name: one for name, one in self._ids.items() if name not in gone})

    def _save(self, ids: dict[str, str]) -> None:
        files.replace(self._path, json.dumps(ids, indent=0, sort_keys=True).encode())
        self._ids = ids

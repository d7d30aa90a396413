"""The layers on disk: each is its tar archive and the folder that was unpacked from it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from dockerlab.engine import files
from dockerlab.engine.images.compression import chunks
from dockerlab.engine.images.disk import full_disk, write_all
from dockerlab.engine.images.layers import unpack
from dockerlab.engine.images.record import Layer, Limits
from dockerlab.engine.images.reference import is_digest
from dockerlab.engine.refusals import RefusalError, bad, failed

_ARCHIVE, _FOLDER, _FACTS = "layer.tar", "tree", "facts.json"


class Shelf:
    """Layers below one folder, each in a folder named by the 64 digits of its diff id.

    A layer is made aside and renamed into place, so that after a crash it is there as a whole or not at all. All
    methods block and may be called from several threads.
    """

    def __init__(self, folder: Path, temporary: Path, limits: Limits) -> None:
        self._home = folder
        self._temporary = temporary
        self._limits = limits
        self._lock = threading.Lock()
        self._facts: dict[str, dict[str, Any]] = {}
        self._held: set[str] = set()
        for entry in sorted(folder.iterdir()):
            diff_id = f"sha256:{entry.name}"
            if is_digest(diff_id):
                with contextlib.suppress(OSError, ValueError):
                    facts = json.loads((entry / _FACTS).read_bytes())
                    self._facts[diff_id] = {"size_bytes": int(facts["size_bytes"]), "blob": facts.get("blob")}

    def __contains__(self, diff_id: str) -> bool:
        return diff_id in self._facts

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._facts))

    @property
    def size_bytes(self) -> int:
        """Bytes of the files in all layers."""
        return sum(facts["size_bytes"] for facts in self._facts.values())

    def add(self, source: Any, *, expected: str = "", on_bytes: Callable[[int], None] | None = None) -> Layer:
        """Take a layer's tar archive in, compressed or not.

        Parameters
        ----------
        source : binary file or Path
        expected : str
            The diff id that it must have; empty for any.
        on_bytes : callable, optional
            Told how many uncompressed bytes were read so far.

        Returns
        -------
        Layer

        Raises
        ------
        RefusalError
            400: it is damaged, too large, wants out of its folder, or has another diff id.
        """
        if isinstance(source, Path):
            with source.open("rb") as file:
                return self.add(file, expected=expected, on_bytes=on_bytes)
        aside_of = tempfile.TemporaryDirectory(dir=self._temporary, prefix="layer-", ignore_cleanup_errors=True)
        with full_disk(), aside_of as name:
            aside = Path(name) / "layer"
            (aside / _FOLDER).mkdir(parents=True)
            diff_id = self._copy(source, aside / _ARCHIVE, on_bytes)
            if expected and diff_id != expected:
                raise bad(f"invalid diffID for layer: expected {expected!r}, got {diff_id!r}")
            if self.hold([diff_id]):
                return self.layer(diff_id)
            try:
                size_bytes = unpack(aside / _ARCHIVE, aside / _FOLDER, self._limits)
                facts = {"size_bytes": size_bytes, "blob": None}
                (aside / _FACTS).write_text(json.dumps(facts), encoding="ascii")
                with self._lock:
                    if diff_id not in self._facts:
                        place = self._place(diff_id)
                        if place.exists():  # left by a crash while it was being removed
                            files.remove(place)
                        aside.rename(place)
                        self._facts[diff_id] = facts
                    self._held.add(diff_id)
            finally:
                if aside.exists():
                    files.remove(aside)
        return self.layer(diff_id)

    def _copy(self, source: Any, target: Path, on_bytes: Callable[[int], None] | None) -> str:
        """Copy a layer's bytes, uncompressed, and give their digest: one pass."""
        digest, count = hashlib.sha256(), 0
        with target.open("wb", buffering=0) as file:
            for chunk in chunks(source):
                count += len(chunk)
                if count > self._limits.layer_bytes:
                    raise bad(f"the layer is too large: at most {self._limits.layer_bytes} bytes are taken")
                digest.update(chunk)
                write_all(file.fileno(), chunk)
                if on_bytes:
                    on_bytes(count)
        return f"sha256:{digest.hexdigest()}"

    def hold(self, diff_ids: Collection[str]) -> bool:
        """Keep layers until an image has them, whatever is removed meanwhile; tell whether all of them are here."""
        with self._lock:
            self._held.update(one for one in diff_ids if one in self._facts)
            return all(one in self._facts for one in diff_ids)

    def release(self, diff_ids: Collection[str]) -> None:
        """Let layers go with the images that have them."""
        with self._lock:
            self._held.difference_update(diff_ids)

    def layer(self, diff_id: str) -> Layer:
        """Give what is known of a layer; 404 when it is not here."""
        try:
            return Layer(diff_id, self._facts[diff_id]["size_bytes"])
        except KeyError:
            raise RefusalError(404, f"No such layer: {diff_id}") from None

    def folder(self, diff_id: str) -> Path:
        """Give the folder that it was unpacked to; 404 when it is not here."""
        return self._place(self.layer(diff_id).diff_id) / _FOLDER

    def archive(self, diff_id: str) -> Path:
        """Give its tar archive, byte for byte as it was added; 404 when it is not here."""
        return self._place(self.layer(diff_id).diff_id) / _ARCHIVE

    def blob(self, diff_id: str) -> dict[str, Any] | None:
        """Give the compressed form that a registry has of it (mediaType, digest, size), where one is known."""
        found = self._facts.get(diff_id, {}).get("blob")
        return found if isinstance(found, dict) else None

    def note_blob(self, diff_id: str, descriptor: dict[str, Any]) -> None:
        """Remember in which compressed form a registry has it."""
        with self._lock:
            if diff_id in self._facts and self._facts[diff_id]["blob"] != descriptor:
                facts = {**self._facts[diff_id], "blob": descriptor}
                files.replace(self._place(diff_id) / _FACTS, json.dumps(facts).encode())
                self._facts[diff_id] = facts

    def remove(self, diff_ids: Iterable[str]) -> list[str]:
        """Remove layers that are not held, and give which."""
        gone = []
        for diff_id in diff_ids:
            with self._lock:
                if diff_id in self._held or self._facts.pop(diff_id, None) is None:
                    continue
                place = self._place(diff_id)
                aside = Path(tempfile.mkdtemp(dir=self._temporary, prefix="gone-"))
                place.rename(aside / "layer")  # so that no half of it is ever in place
            gone.append(diff_id)
            files.remove(aside)
        return gone

    def check(self, diff_ids: Collection[str]) -> None:
        """Refuse an image some of whose layers are not here, or that has too many."""
        if len(diff_ids) > self._limits.layers:
            raise failed("max depth exceeded")
        for diff_id in diff_ids:
            if diff_id not in self._facts:
                raise bad(f"the image needs the layer {diff_id}, which is not here")

    def _place(self, diff_id: str) -> Path:
        return self._home / diff_id.removeprefix("sha256:")

"""The configurations of the images that a store has: one file each, named by its digest, which is the image's id."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dockerlab.engine import files
from dockerlab.engine.images.record import diff_ids
from dockerlab.engine.images.shelf import Shelf
from dockerlab.engine.refusals import RefusalError, bad


class Configs:
    """Configurations by image id, and which image each was built on. Not safe for threads by itself."""

    def __init__(self, folder: Path, shelf: Shelf) -> None:
        self._folder = folder
        self._shelf = shelf
        self._configs: dict[str, Mapping[str, Any]] = {}
        self._parents: dict[str, str] = {}
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for path in sorted(folder.glob("*.json")):
            self._read(path)

    def _read(self, path: Path) -> None:
        """Read an image that was stored; one that cannot be read, or whose layers are gone, is left out."""
        image_id = f"sha256:{path.stem}"
        try:
            raw = path.read_bytes()
            config = json.loads(raw)
            usable = digest(raw) == image_id and all(one in self._shelf for one in diff_ids(config))
            parent = path.with_suffix(".parent")
            self._parents[image_id] = parent.read_text(encoding="ascii") if parent.exists() else ""
        except (OSError, ValueError, AttributeError, RefusalError):
            return
        if usable:
            self._configs[image_id] = config

    def __contains__(self, image_id: object) -> bool:
        return image_id in self._configs

    def __iter__(self) -> Iterator[str]:
        return iter(self._configs)

    def __len__(self) -> int:
        return len(self._configs)

    def __getitem__(self, image_id: str) -> Mapping[str, Any]:
        return self._configs[image_id]

    def raw(self, image_id: str) -> bytes:
        """Give a configuration byte for byte."""
        return self._path(image_id).read_bytes()

    def parent(self, image_id: str) -> str:
        """Give the id of the image that one was built on; may be empty."""
        return self._parents.get(image_id, "")

    def children(self, image_id: str) -> list[str]:
        """Give the ids of the images that were built on one."""
        return [one for one, parent in self._parents.items() if parent == image_id and one in self._configs]

    def layers(self) -> set[str]:
        """Give the diff ids of all layers that an image has."""
        return {one for config in self._configs.values() for one in diff_ids(config)}

    def put(self, raw: bytes, config: Mapping[str, Any], parent: str) -> str:
        """Keep a configuration and give its id; a parent that is known already stays."""
        image_id = digest(raw)
        if parent in self._configs and parent != image_id and not self.parent(image_id):
            files.replace(self._path(image_id).with_suffix(".parent"), parent.encode())
            self._parents[image_id] = parent
        if image_id not in self._configs:
            files.replace(self._path(image_id), raw)
            self._configs[image_id] = config
        return image_id

    def drop(self, image_id: str) -> Mapping[str, Any]:
        """Forget a configuration and give it."""
        self._parents.pop(image_id, None)
        self._path(image_id).unlink(missing_ok=True)
        self._path(image_id).with_suffix(".parent").unlink(missing_ok=True)
        return self._configs.pop(image_id)

    def _path(self, image_id: str) -> Path:
        return self._folder / f"{image_id.removeprefix('sha256:')}.json"


def digest(raw: bytes) -> str:
    """Give the digest of some bytes: ``sha256:...``."""
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


def encode(config: Mapping[str, Any]) -> bytes:
    """Write a configuration as Go writes JSON, so that the same one always gives the same id; 400 when it cannot."""
    try:
        text = json.dumps(config, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        for plain, escaped in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026")):
            text = text.replace(plain, escaped)
        return text.encode()
    except (TypeError, ValueError) as error:
        raise bad(f"invalid image configuration: {error}") from error


def decode(raw: bytes, limit_bytes: int) -> dict[str, Any]:
    """Read a configuration; 400 where it is too long, or a part is not of the kind that others rely on."""
    if len(raw) > limit_bytes:
        raise bad("invalid image configuration: it is too long")
    try:
        config = json.loads(raw)
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise bad("invalid image configuration: it is not a JSON object")
    _check(config)
    return config


def _check(config: Mapping[str, Any]) -> None:
    """Refuse an image configuration whose parts are not of the kind that others rely on."""
    diff_ids(config)
    history, inner = config.get("history"), config.get("config")
    if history is not None and not (isinstance(history, list) and all(isinstance(one, dict) for one in history)):
        raise bad("invalid image configuration: history is not a list of objects")
    if inner is not None and not isinstance(inner, dict):
        raise bad("invalid image configuration: config is not an object")
    for key in ("Env", "Cmd", "Entrypoint"):
        value = (inner or {}).get(key)
        if value is not None and not (isinstance(value, list) and all(isinstance(one, str) for one in value)):
            raise bad(f"invalid image configuration: {key} is not a list of texts")
    for key in ("Labels", "ExposedPorts", "Volumes"):
        if (inner or {}).get(key) is not None and not isinstance((inner or {})[key], dict):
            raise bad(f"invalid image configuration: {key} is not an object")
    for key in ("User", "WorkingDir", "StopSignal"):
        if (inner or {}).get(key) is not None and not isinstance((inner or {})[key], str):
            raise bad(f"invalid image configuration: {key} is not a text")

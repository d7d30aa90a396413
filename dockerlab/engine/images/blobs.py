"""The files of a registry: blobs by digest, and what each repository has of them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dockerlab.engine import files
from dockerlab.engine.images.disk import write_all
from dockerlab.engine.images.reference import is_path

_BLOBS, _MANIFESTS, _TAGS = "_blobs", "_manifests", "_tags"


@dataclass
class Upload:
    """A blob that is on its way."""

    name: str
    path: Path
    size: int = 0
    digest: Any = field(default_factory=hashlib.sha256)

    def write(self, chunk: bytes) -> None:
        """Take the next bytes; blocks."""
        with self.path.open("ab", buffering=0) as file:
            write_all(file.fileno(), chunk)
        self.digest.update(chunk)
        self.size += len(chunk)


class Blobs:
    """A registry's storage below one folder. All methods block and are quick, but for :meth:`Upload.write`.

    A repository is a folder of its name; what it has is marked by an empty file a blob, a small file a manifest (its
    type) and a tag (its digest). Names of repositories have no part that begins with an underscore, so the marks never
    meet them.
    """

    def __init__(self, folder: Path) -> None:
        self._blobs = folder / "blobs"
        self._repositories = folder / "repositories"
        self._incoming = folder / "incoming"
        for one in (self._blobs, self._repositories, self._incoming):
            one.mkdir(parents=True, exist_ok=True, mode=0o700)
        for left in self._incoming.iterdir():  # by a crash: no client goes on with it
            left.unlink()
        self._uploads: dict[str, Upload] = {}

    def has(self, name: str, digest: str) -> bool:
        """Tell whether a repository has a blob."""
        return self._mark(name, _BLOBS, digest).exists() and self.blob(digest).exists()

    def blob(self, digest: str) -> Path:
        """Give where a blob is, or would be."""
        return self._blobs / digest.removeprefix("sha256:")

    def mount(self, name: str, digest: str, origin: str) -> bool:
        """Let a repository have a blob that another one has; tell whether that one does."""
        if not self.has(origin, digest):
            return False
        self._put(self._mark(name, _BLOBS, digest), b"")
        return True

    def start(self, name: str) -> str:
        """Begin an upload and give its id."""
        key = str(uuid.uuid4())
        path = self._incoming / key
        path.touch(mode=0o600)
        self._uploads[key] = Upload(name, path)
        return key

    def upload(self, name: str, key: str) -> Upload | None:
        """Find an upload of a repository."""
        found = self._uploads.get(key)
        return found if found and found.name == name else None

    def finish(self, key: str, digest: str) -> bool:
        """End an upload; tell whether it is what its digest says."""
        upload = self._uploads.pop(key)
        if f"sha256:{upload.digest.hexdigest()}" != digest:
            upload.path.unlink()
            return False
        upload.path.replace(self.blob(digest))
        self._put(self._mark(upload.name, _BLOBS, digest), b"")
        return True

    def cancel(self, key: str) -> None:
        """Forget an upload."""
        self._uploads.pop(key).path.unlink(missing_ok=True)

    def forget(self, name: str, digest: str) -> bool:
        """Take a blob from a repository; tell whether it had it."""
        found = self.has(name, digest)
        self._mark(name, _BLOBS, digest).unlink(missing_ok=True)
        self._sweep(digest)
        return found

    def put_manifest(self, name: str, reference: str, media_type: str, raw: bytes) -> str:
        """Keep a manifest, under a tag or its digest, and give the digest."""
        digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
        if not self.blob(digest).exists():
            files.replace(self.blob(digest), raw)
        self._put(self._mark(name, _MANIFESTS, digest), json.dumps({"mediaType": media_type}).encode())
        if ":" not in reference:
            self._put(self._mark(name, _TAGS, reference), digest.encode())
        return digest

    def manifest(self, name: str, reference: str) -> tuple[str, str, bytes] | None:
        """Find a manifest by tag or digest: its digest, its type and itself."""
        with contextlib.suppress(OSError, ValueError):
            digest = reference if ":" in reference else self._mark(name, _TAGS, reference).read_text(encoding="ascii")
            facts = json.loads(self._mark(name, _MANIFESTS, digest).read_bytes())
            return digest, str(facts["mediaType"]), self.blob(digest).read_bytes()
        return None

    def forget_manifest(self, name: str, reference: str) -> bool:
        """Take a tag, or a manifest with all its tags, from a repository; tell whether it had it."""
        mark = self._mark(name, _MANIFESTS if ":" in reference else _TAGS, reference)
        if not mark.exists():
            return False
        mark.unlink()
        if ":" in reference:
            for tag in self.tags(name) or ():
                place = self._mark(name, _TAGS, tag)
                if place.read_text(encoding="ascii") == reference:
                    place.unlink()
            self._sweep(reference)
        return True

    def tags(self, name: str) -> list[str] | None:
        """Give the tags of a repository in order; None where there is no such repository."""
        home = self._repositories / name
        if not any((home / one).is_dir() for one in (_TAGS, _MANIFESTS)):
            return None
        with contextlib.suppress(FileNotFoundError):
            return sorted(path.name for path in (home / _TAGS).iterdir() if not path.name.startswith("."))
        return []

    def repositories(self) -> list[str]:
        """Give the names of the repositories that have a manifest, in order."""
        return sorted(self._below(self._repositories, ""))

    def _below(self, folder: Path, prefix: str) -> Iterable[str]:
        for path in folder.iterdir():
            if path.name == _MANIFESTS:
                if any(path.iterdir()):
                    yield prefix
            elif not path.name.startswith("_") and path.is_dir():
                yield from self._below(path, f"{prefix}/{path.name}" if prefix else path.name)

    def _sweep(self, digest: str) -> None:
        """Remove a blob that no repository has."""
        name = digest.removeprefix("sha256:")
        for folder, _, names in os.walk(self._repositories):
            if name in names and Path(folder).name in (_BLOBS, _MANIFESTS):
                return
        self.blob(digest).unlink(missing_ok=True)

    def _mark(self, name: str, kind: str, what: str) -> Path:
        if not is_path(name):  # routes see to it; a path is never made of anything else
            raise ValueError(name)
        return self._repositories / name / kind / what.removeprefix("sha256:")

    @staticmethod
    def _put(path: Path, content: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        files.replace(path, content)

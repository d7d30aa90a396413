"""Reading archives of images: what `docker save` writes, and OCI layouts."""

from __future__ import annotations

import contextlib
import io
import json
import posixpath
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from dockerlab.engine.images.compression import chunks
from dockerlab.engine.images.disk import full_disk, mapped, write_all
from dockerlab.engine.images.manifests import NAME_NOTES, Descriptor, blob_path, choose, read_index, read_manifest
from dockerlab.engine.images.record import ImageRecord, diff_ids, host_architecture
from dockerlab.engine.images.reference import Reference, parse
from dockerlab.engine.images.tarball import FILE, LINK, SYMLINK, headers
from dockerlab.engine.refusals import RefusalError, bad

if TYPE_CHECKING:
    from dockerlab.engine.images.store import Images


def load(images: Images, source: BinaryIO) -> list[str]:
    """Read an archive of images: Docker's (manifest.json) or an OCI layout, compressed or not. Blocks.

    Parameters
    ----------
    images : Images
    source : binary file
        Need not be seekable.

    Returns
    -------
    list of str
        The names that were loaded; the id of an image that has none.

    Raises
    ------
    RefusalError
        400: it is damaged, too large, or not an archive of images.
    """
    with full_disk(), images.workspace() as folder:
        path = Path(folder) / "archive.tar"
        _spool(images, source, path)
        with mapped(path) as data, contextlib.closing(_Archive(data, images.limits.entries)) as archive:
            if "manifest.json" in archive:
                return _load_docker(images, archive)
            if "index.json" in archive:
                return _load_layout(images, archive)
            if "repositories" in archive:
                raise bad("archives of Docker before 1.10 cannot be loaded: there is no manifest.json in it")
    raise bad("invalid archive: it has neither manifest.json nor index.json")


def _spool(images: Images, source: BinaryIO, path: Path) -> None:
    """Copy an archive to the disk, uncompressed."""
    count = 0
    with path.open("wb", buffering=0) as file:
        for chunk in chunks(source):
            count += len(chunk)
            if count > images.limits.archive_bytes:
                raise bad(f"the archive is too large: at most {images.limits.archive_bytes} bytes are taken")
            write_all(file.fileno(), chunk)


class _Archive:
    """The files of an archive by name."""

    def __init__(self, data: memoryview, limit: int) -> None:
        self._data = data
        self._files: dict[str, tuple[int, int]] = {}
        self._links: dict[str, str] = {}
        for count, header in enumerate(headers(data)):
            if count >= limit:
                raise bad(f"the archive has too many entries: at most {limit} are taken")
            name = posixpath.normpath(header.name)
            if header.kind == FILE:
                self._files[name] = (header.offset, header.size)
            elif header.kind == SYMLINK:  # docker save writes a layer that two images share as a link
                self._links[name] = posixpath.normpath(posixpath.join(posixpath.dirname(name), header.target))
            elif header.kind == LINK:
                self._links[name] = posixpath.normpath(header.target)

    def close(self) -> None:
        """Let go of the data."""
        self._data = memoryview(b"")

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def open(self, name: object) -> io.BufferedIOBase:
        """Open a file; 400 where it is not there."""
        offset, size = self._find(name)
        return _Slice(self._data[offset : offset + size])

    def read(self, name: object, limit: int) -> bytes:
        """Read a small file."""
        offset, size = self._find(name)
        if size > limit:
            raise bad(f"invalid archive: {name} is too long")
        return bytes(self._data[offset : offset + size])

    def json(self, name: object, limit: int) -> Any:
        """Read a small JSON file."""
        try:
            return json.loads(self.read(name, limit))
        except (ValueError, RecursionError):
            raise bad(f"invalid archive: {name} is not JSON") from None

    def _find(self, name: object) -> tuple[int, int]:
        path = posixpath.normpath(name) if isinstance(name, str) else ""
        for _ in range(8):
            if path in self._files:
                return self._files[path]
            path = self._links.get(path, "")
        raise bad(f"invalid archive: {name!r} is not in it")


class _Slice(io.BufferedIOBase):
    """A part of the archive as a file."""

    def __init__(self, view: memoryview) -> None:
        self._view = view
        self._position = 0

    def read(self, size: int | None = -1, /) -> bytes:
        end = len(self._view) if size is None or size < 0 else min(len(self._view), self._position + size)
        piece = bytes(self._view[self._position : end])
        self._position = end
        return piece


def _load_docker(images: Images, archive: _Archive) -> list[str]:
    """Load by Docker's manifest.json."""
    listed = archive.json("manifest.json", images.limits.json_bytes)
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise bad("invalid archive: manifest.json is not a list of objects")
    loaded: list[str] = []
    parents: dict[str, str] = {}
    plans = []
    for entry in listed:
        raw = archive.read(entry.get("Config"), images.limits.json_bytes)
        layers = entry.get("Layers") or []
        tags = entry.get("RepoTags") or []
        if not isinstance(layers, list) or not isinstance(tags, list):
            raise bad("invalid archive: manifest.json names layers and tags in no list")
        references = [_tag(one) for one in tags]
        plans.append((raw, layers, references, str(entry.get("Parent") or "")))
    for raw, layers, references, parent in plans:
        record = _add(images, raw, [archive.open(one) for one in layers])
        parents[record.id] = parent
        loaded += _name(images, record, references)
    for image_id, parent in parents.items():
        if parent in parents:
            images.add_config(images.config_bytes(images.get(image_id)), parent=parent)
    return loaded


def _load_layout(images: Images, archive: _Archive) -> list[str]:
    """Load by the index of an OCI layout."""
    limit = images.limits.json_bytes
    loaded: list[str] = []
    for raw_entry, described in read_index(archive.read("index.json", limit)):
        notes = raw_entry.get("annotations") or {}
        name = next((notes[key] for key in NAME_NOTES if isinstance(notes.get(key), str)), "")
        raw = _verified(archive, described, limit)
        if described.is_index:
            raw = _verified(archive, choose(read_index(raw), "linux", host_architecture(), ""), limit)
        config, layers = read_manifest(raw)
        opened = []
        for layer in layers:
            layer.check_bytes(archive.open(blob_path(layer.digest)))
            opened.append(archive.open(blob_path(layer.digest)))
        record = _add(images, _verified(archive, config, limit), opened)
        references = []
        with contextlib.suppress(RefusalError):  # "latest" alone, as some programs write, names no repository
            if ":" in name:
                references = [_tag(name)]
        loaded += _name(images, record, references)
    return loaded


def _verified(archive: _Archive, described: Descriptor, limit: int) -> bytes:
    """Read a small blob and check its digest."""
    raw = archive.read(blob_path(described.digest), limit)
    described.check(raw)
    return raw


def _add(images: Images, raw: bytes, layers: Sequence[io.BufferedIOBase]) -> ImageRecord:
    """Take an image in: its layers, each checked against the configuration, then itself."""
    try:
        config = json.loads(raw)
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, Mapping):
        raise bad("invalid archive: an image's configuration is not a JSON object")
    wanted = diff_ids(config)
    if len(wanted) != len(layers):
        raise bad(f"invalid manifest, layers length mismatch: expected {len(wanted)}, got {len(layers)}")
    for diff_id, layer in zip(wanted, layers, strict=True):
        if not images.shelf.hold([diff_id]):
            images.shelf.add(layer, expected=diff_id)
    return images.add_config(raw)


def _name(images: Images, record: ImageRecord, references: Sequence[Reference]) -> list[str]:
    for reference in references:
        images.tag(record.id, reference)
    return [one.familiar for one in references] or [record.id]


def _tag(text: object) -> Reference:
    reference = parse(text) if isinstance(text, str) else None
    if reference is None or not reference.tag or reference.digest:
        raise bad(f"invalid tag {text!r}")
    return reference

"""Archives of images: what `docker save` writes and `docker import` reads."""

from __future__ import annotations

import json
import shutil
import tarfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from dockerlab.engine.images.manifests import (
    CONFIG_TYPE,
    INDEX_TYPE,
    LAYER_TYPE,
    MANIFEST_TYPE,
    NAME_NOTES,
    Descriptor,
    blob_path,
)
from dockerlab.engine.images.record import ImageRecord, format_time, host_architecture
from dockerlab.engine.images.reference import Reference, parse
from dockerlab.engine.refusals import RefusalError

if TYPE_CHECKING:
    from dockerlab.engine.images.store import Images

_COPY = 1 << 20


def save(images: Images, names: Sequence[str], target: BinaryIO) -> None:
    """Write images as one archive: an OCI layout that has Docker's manifest.json too. Blocks.

    Parameters
    ----------
    images : Images
    names : sequence of str
        Ids or names; a name without a tag means all its tags.
    target : binary file
        Need not be seekable. The bytes depend on the images and names alone.

    Raises
    ------
    RefusalError
        404: one of them is not there; nothing has been written then.
    """
    chosen = _chosen(images, names)
    listed: list[dict[str, Any]] = []
    index: list[dict[str, Any]] = []
    blobs: dict[str, bytes | Path] = {}
    for record, tags in chosen.values():
        config = images.config_bytes(record)
        layers = []
        for diff_id in record.diff_ids:
            path = images.layer_tar(diff_id)
            blobs[diff_id] = path
            layers.append(Descriptor(LAYER_TYPE, diff_id, path.stat().st_size))
        blobs[record.id] = config
        manifest = _manifest(Descriptor(CONFIG_TYPE, record.id, len(config)), layers)
        described = Descriptor.of(MANIFEST_TYPE, manifest)
        blobs[described.digest] = manifest
        for tag in tags or [""]:
            notes = {NAME_NOTES[0]: parse(tag).name, NAME_NOTES[1]: parse(tag).tag} if tag else {}
            index.append({**described.to_dict(), **({"annotations": notes} if notes else {})})
        entry = {
            "Config": blob_path(record.id),
            "RepoTags": tags or None,
            "Layers": [blob_path(one) for one in record.diff_ids],
        }
        if record.parent in chosen:
            entry["Parent"] = record.parent
        listed.append(entry)
    for folder in ("blobs", "blobs/sha256"):
        target.write(_header(folder, None))
    for digest in sorted(blobs):
        _put(target, blob_path(digest), blobs[digest])
    _put(target, "index.json", _json({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": index}))
    _put(target, "manifest.json", _json(listed))
    _put(target, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
    target.write(bytes(2 * tarfile.BLOCKSIZE))


def _chosen(images: Images, names: Sequence[str]) -> dict[str, tuple[ImageRecord, list[str]]]:
    """Find the images to save, each with the names to save it under."""
    chosen: dict[str, tuple[ImageRecord, list[str]]] = {}
    for name in names:
        tags: list[str] = []
        found: list[tuple[ImageRecord, str]] = []
        try:
            reference: Reference | None = parse(name)
        except RefusalError:
            reference = None
        if reference and not reference.tag and not reference.digest:
            found = [
                (record, tag)
                for record in images.list()
                for tag in record.tags
                if parse(tag).repository == reference.repository
            ]
        if not found:
            record = images.get(name)
            found = [(record, reference.familiar if reference and reference.familiar in record.tags else "")]
        for record, tag in found:
            tags = chosen.setdefault(record.id, (record, []))[1]
            if tag and tag not in tags:
                tags.append(tag)
    return chosen


def _manifest(config: Descriptor, layers: Sequence[Descriptor]) -> bytes:
    return _json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": config.to_dict(),
            "layers": [one.to_dict() for one in layers],
        }
    )


def _put(target: BinaryIO, name: str, content: bytes | Path) -> None:
    """Write one file into an archive."""
    if isinstance(content, Path):
        size = content.stat().st_size
        target.write(_header(name, size))
        with content.open("rb") as file:
            shutil.copyfileobj(file, target, _COPY)
    else:
        size = len(content)
        target.write(_header(name, size))
        target.write(content)
    target.write(bytes(-size % tarfile.BLOCKSIZE))


def _header(name: str, size: int | None) -> bytes:
    """Make the header of a file, or of a folder when there is no size."""
    info = tarfile.TarInfo(name)
    info.size = size or 0
    info.mode = 0o644
    if size is None:
        info.type, info.mode = tarfile.DIRTYPE, 0o755
    return info.tobuf(tarfile.PAX_FORMAT)


def import_(
    images: Images,
    source: BinaryIO,
    reference: Reference | str | None = None,
    changes: Mapping[str, Any] | None = None,
    message: str = "",
) -> ImageRecord:
    """Make an image with one layer of a root file system's archive, compressed or not. Blocks.

    Parameters
    ----------
    images : Images
    source : binary file
    reference : Reference or str, optional
        Its name.
    changes : mapping, optional
        The configuration to run it with: Env, Cmd and so on.
    message : str
        Comment in its history.

    Returns
    -------
    ImageRecord

    Raises
    ------
    RefusalError
        400: the archive is damaged, too large, or wants out of its folder; or the name is not one.
    """
    reference = parse(reference) if isinstance(reference, str) and reference else reference
    layer = images.add_layer(source)
    now = format_time(time.time())
    config = {
        "architecture": host_architecture(),
        "comment": message,
        "config": dict(changes or {}),
        "created": now,
        "history": [{"created": now, "comment": message}],
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id]},
    }
    record = images.add_image(config)
    if reference:
        images.tag(record.id, reference)
    return images.get(record.id)


def _json(content: object) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()

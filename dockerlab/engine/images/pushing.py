"""Pushing images to a registry."""

from __future__ import annotations

import asyncio
import hashlib
import json
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from yarl import URL

from dockerlab.engine.images.disk import full_disk
from dockerlab.engine.images.manifests import DOCKER_CONFIG_TYPE, DOCKER_LAYER_TYPE, DOCKER_MANIFEST_TYPE, Descriptor
from dockerlab.engine.images.progress import Meter, Progress, short
from dockerlab.engine.images.record import ImageRecord
from dockerlab.engine.images.reference import Reference
from dockerlab.engine.images.registry import Registry, follow, open_session
from dockerlab.engine.images.store import Images
from dockerlab.engine.refusals import RefusalError, bad

_CHUNK = 1 << 20
_GZIP = "gzip"
_ORIGINS = 3  # repositories that are asked for a layer


async def push(
    images: Images,
    reference: Reference,
    *,
    auth: Mapping[str, Any] | None = None,
    progress: Progress,
) -> str:
    """Put an image into a registry.

    Parameters
    ----------
    images : Images
        Where it is, under that name.
    reference : Reference
        Without a tag, all tags of that repository are pushed.
    auth : mapping, optional
        Docker's AuthConfig.
    progress : callable
        Given Docker's JSON messages, on the event loop.

    Returns
    -------
    str
        The digest of the (last) manifest.

    Raises
    ------
    RefusalError
        404: there is no image of that name here. 403: the registry does not let us. 502: it does not answer.
    """
    if reference.digest:
        raise bad("cannot push a digest reference")
    progress({"status": f"The push refers to repository [{reference.repository}]"})
    chosen = await asyncio.to_thread(_to_push, images, reference)
    digest = ""
    async with open_session() as session:
        registry = Registry(session, reference, auth, "pull,push")
        for one, record in chosen:
            digest = await _push_one(images, registry, one, record, progress)
    return digest


def _to_push(images: Images, reference: Reference) -> list[tuple[Reference, ImageRecord]]:
    """Find the images to push."""
    with images.lock:
        names = [one for found in images.names.by_image().values() for one in found]
        tags = sorted(one.tag for one in names if one.repository == reference.repository and not one.digest)
        if not tags:
            raise RefusalError(404, f"An image does not exist locally with the tag: {reference.familiar_repository}")
        found = []
        for tag in [reference.tag] if reference.tag else tags:
            one = replace(reference, tag=tag)
            image_id = images.names.find(one)
            if not image_id:
                raise RefusalError(404, f"tag does not exist: {one.familiar}")
            found.append((one, images.get(image_id)))
        return found


async def _push_one(
    images: Images, registry: Registry, reference: Reference, record: ImageRecord, progress: Progress
) -> str:
    """Push one image under one tag."""
    for diff_id in reversed(record.diff_ids):
        progress({"status": "Preparing", "progressDetail": {}, "id": short(diff_id)})
    described: dict[str, Descriptor] = {}
    with full_disk(), images.workspace() as folder:
        for diff_id in record.diff_ids:
            if diff_id not in described:
                described[diff_id] = await _push_layer(images, registry, diff_id, Path(folder), progress)
    raw_config = await asyncio.to_thread(images.config_bytes, record)
    config = Descriptor(DOCKER_CONFIG_TYPE, record.id, len(raw_config))
    if not await _is_there(registry, config.digest):
        await _upload(registry, config.digest, len(raw_config), lambda: raw_config)
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": DOCKER_MANIFEST_TYPE,
            "config": config.to_dict(),
            "layers": [described[one].to_dict() for one in record.diff_ids],
        },
        indent=3,  # as Docker and distribution write it
    ).encode()
    top = Descriptor.of(DOCKER_MANIFEST_TYPE, manifest)
    headers = {"Content-Type": DOCKER_MANIFEST_TYPE}
    place = f"manifests/{reference.tag}"
    async with registry.ask("PUT", place, headers=headers, data=lambda: manifest, accept=(200, 201, 202)):
        pass
    await asyncio.to_thread(images.note_digest, record, reference, top.digest)
    progress({"status": f"{reference.tag}: digest: {top.digest} size: {top.size}"})
    progress({"progressDetail": {}, "aux": {"Tag": reference.tag, "Digest": top.digest, "Size": top.size}})
    return top.digest


async def _push_layer(images: Images, registry: Registry, diff_id: str, folder: Path, progress: Progress) -> Descriptor:
    """Push one layer, compressed, unless the registry has it."""
    name = short(diff_id)
    noted = images.shelf.blob(diff_id)
    if noted and _GZIP in str(noted.get("mediaType")):
        known = replace(Descriptor.read(noted), media_type=DOCKER_LAYER_TYPE)
        if await _is_there(registry, known.digest):
            progress({"status": "Layer already exists", "progressDetail": {}, "id": name})
            return known
        for origin in await asyncio.to_thread(_elsewhere, images, registry.reference, diff_id):
            if await _mount(registry, known.digest, origin):
                progress({"status": f"Mounted from {origin}", "progressDetail": {}, "id": name})
                return known
    path = folder / name
    described = await asyncio.to_thread(_compress, images.layer_tar(diff_id), path)
    if await _is_there(registry, described.digest):
        progress({"status": "Layer already exists", "progressDetail": {}, "id": name})
    else:
        meter = Meter(progress, "Pushing", name, described.size)
        await _upload(registry, described.digest, described.size, lambda: _file(path, meter))
        progress({"status": "Pushed", "progressDetail": {}, "id": name})
    await asyncio.to_thread(images.shelf.note_blob, diff_id, described.to_dict())
    path.unlink()
    return described


def _elsewhere(images: Images, reference: Reference, diff_id: str) -> list[str]:
    """Find other repositories of the registry that were seen to have a layer."""
    with images.lock:
        return [
            one.path
            for image_id, names in images.names.by_image().items()
            for one in names
            if one.digest and one.domain == reference.domain and one.path != reference.path
            if diff_id in images.get(image_id).diff_ids
        ][:_ORIGINS]


async def _mount(registry: Registry, digest: str, origin: str) -> bool:
    """Let the repository have a blob of another one; tell whether the registry did."""
    place = URL("blobs/uploads/").with_query({"mount": digest, "from": origin})
    async with registry.ask("POST", place, accept=(201, 202)) as response:
        return response.status == 201


def _compress(source: Path, target: Path) -> Descriptor:
    """Compress a layer; the same layer always gives the same bytes."""
    digest, count = hashlib.sha256(), 0
    engine = zlib.compressobj(6, zlib.DEFLATED, 31)  # a gzip header without a time or a name
    with source.open("rb") as reader, target.open("wb") as writer:
        while True:
            chunk = reader.read(_CHUNK)
            piece = engine.compress(chunk) if chunk else engine.flush()
            digest.update(piece)
            count += len(piece)
            writer.write(piece)
            if not chunk:
                return Descriptor(DOCKER_LAYER_TYPE, f"sha256:{digest.hexdigest()}", count)


async def _file(path: Path, meter: Meter) -> AsyncIterator[bytes]:
    """Give a file in pieces."""
    count = 0
    with path.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, _CHUNK):
            yield chunk
            count += len(chunk)
            meter.tell(count)


async def _is_there(registry: Registry, digest: str) -> bool:
    """Tell whether the repository has a blob."""
    async with registry.ask("HEAD", f"blobs/{digest}", accept=(200, 404)) as response:
        return response.status == 200


async def _upload(registry: Registry, digest: str, size: int, data: Callable[[], Any]) -> None:
    """Upload a blob in one piece."""
    async with registry.ask("POST", "blobs/uploads/", accept=(202,)) as response:
        location = follow(response.url, response.headers.get("Location", ""))
    headers = {"Content-Length": str(size), "Content-Type": "application/octet-stream"}
    # Put on as text: the registry may have signed the rest of the query as it is written
    place = URL(f"{location}{'&' if location.query_string else '?'}digest={digest}", encoded=True)
    async with registry.ask("PUT", place, headers=headers, data=data, accept=(201, 204)):
        pass

"""Pulling images from a registry."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
from yarl import URL

from dockerlab.engine.images.disk import full_disk, write_all
from dockerlab.engine.images.manifests import (
    INDEX_TYPES,
    MANIFEST_TYPES,
    Descriptor,
    choose,
    media_type,
    read_index,
    read_manifest,
)
from dockerlab.engine.images.progress import Meter, Progress, short
from dockerlab.engine.images.record import ImageRecord, Limits, diff_ids, host_architecture
from dockerlab.engine.images.reference import Reference, is_tag
from dockerlab.engine.images.registry import Registry, open_session, read
from dockerlab.engine.images.store import Images
from dockerlab.engine.refusals import RefusalError, bad, unsupported, upstream

_AT_ONCE = 3  # downloads, as in Docker
_ATTEMPTS = 3
_CHUNK = 1 << 20
_TAGS = 1000  # of a repository
_ACCEPT = {"Accept": ", ".join((*MANIFEST_TYPES, *INDEX_TYPES))}


async def pull(
    images: Images,
    reference: Reference,
    *,
    auth: Mapping[str, Any] | None = None,
    platform: str = "",
    progress: Progress,
) -> ImageRecord:
    """Get an image from a registry.

    Parameters
    ----------
    images : Images
        Where it goes.
    reference : Reference
        With a digest, that very manifest is taken and no tag is set.
    auth : mapping, optional
        Docker's AuthConfig.
    platform : str
        ``os[/architecture[/variant]]``; empty for this machine's.
    progress : callable
        Given Docker's JSON messages, on the event loop.

    Returns
    -------
    ImageRecord

    Raises
    ------
    RefusalError
        404: there is no such image or it is not for everybody. 400 or 502: what the registry gives is not what its
        digests say, is too large, or it does not answer. Nothing is left behind then but layers that are complete.
    """
    reference = reference.tagged()
    progress({"status": f"Pulling from {reference.path}", "id": reference.digest or reference.tag})
    async with open_session() as session:
        registry = Registry(session, reference, auth, "pull")
        top, raw = await _manifest(registry, reference.digest or reference.tag, images.limits.json_bytes)
        if top.is_index:
            chosen = choose(read_index(raw), *_platform(platform))
            described, raw = await _manifest(registry, chosen.digest, images.limits.json_bytes)
            if described.is_index:
                raise bad("invalid manifest: a list of manifests in a list of manifests")
        config, layers = read_manifest(raw)
        raw_config = await _config_bytes(registry, config, images.limits.json_bytes)
        record = await _layers(images, registry, raw_config, layers, progress, reference, platform)
    before = await asyncio.to_thread(_id_of, images, reference)
    await asyncio.to_thread(images.note_digest, record, reference, top.digest)
    if not reference.digest:
        await asyncio.to_thread(images.tag, record.id, reference)
    progress({"status": f"Digest: {top.digest}"})
    news = "Image is up to date for" if before == record.id else "Downloaded newer image for"
    progress({"status": f"Status: {news} {reference.familiar}"})
    return await asyncio.to_thread(images.get, record.id)


async def pull_all(
    images: Images,
    reference: Reference,
    *,
    auth: Mapping[str, Any] | None = None,
    platform: str = "",
    progress: Progress,
) -> list[ImageRecord]:
    """Get the images of all tags of a repository; otherwise as :func:`pull`."""
    tags: list[str] = []
    async with open_session() as session:
        registry = Registry(session, reference, auth, "pull")
        place: str | URL = "tags/list"
        while place and len(tags) < _TAGS:
            async with registry.ask("GET", place) as response:
                tags += _tags(await read(response, images.limits.json_bytes))
                try:
                    following = response.links.get("next")
                    place = URL(str(following["url"])) if following else ""
                except (ValueError, KeyError):
                    raise upstream("the registry's list of tags goes on at something that is no address") from None
    if not tags:
        raise RefusalError(404, f"no tags found for {reference.familiar_repository}")
    wanted = [replace(reference, tag=tag) for tag in dict.fromkeys(tags)]
    return [await pull(images, one, auth=auth, platform=platform, progress=progress) for one in wanted]


def _tags(raw: bytes) -> list[str]:
    """Read a registry's list of tags."""
    try:
        found = json.loads(raw)["tags"] or []
    except (ValueError, RecursionError, LookupError, TypeError):
        found = None
    if not isinstance(found, list) or not all(isinstance(one, str) and is_tag(one) for one in found):
        raise upstream("the registry's list of tags cannot be read")
    return found


async def inspect(reference: Reference, *, auth: Mapping[str, Any] | None, limits: Limits) -> dict[str, Any]:
    """Ask a registry what it has under a name, without pulling it, as ``GET /distribution/{name}/json`` answers."""
    reference = reference.tagged()
    async with open_session() as session:
        registry = Registry(session, reference, auth, "pull")
        top, raw = await _manifest(registry, reference.digest or reference.tag, limits.json_bytes)
        if top.is_index:
            platforms = [entry.get("platform") for entry, _ in read_index(raw)]
        else:
            described, _ = read_manifest(raw)
            platforms = [_config(await _config_bytes(registry, described, limits.json_bytes))]
    keys = ("architecture", "os", "os.version", "variant")
    return {
        "Descriptor": top.to_dict(),
        "Platforms": [{key: one[key] for key in keys if one.get(key)} for one in platforms if isinstance(one, Mapping)],
    }


def _id_of(images: Images, reference: Reference) -> str:
    with images.lock:
        return images.names.find(reference)


def _platform(text: str) -> tuple[str, str, str]:
    parts = text.lower().split("/") if text else []
    if len(parts) > 3 or not all(parts):
        raise bad(f'"{text}" is an invalid component of "{text}": platform specifier must be os[/arch[/variant]]')
    names = {"x86_64": "amd64", "aarch64": "arm64"}
    system, architecture, variant = (*parts, "", "", "")[:3]
    return system or "linux", names.get(architecture, architecture) or host_architecture(), variant


async def _manifest(registry: Registry, name: str, limit: int) -> tuple[Descriptor, bytes]:
    """Get a manifest by tag or digest; one named by digest is checked."""
    async with registry.ask("GET", f"manifests/{name}", headers=_ACCEPT) as response:
        raw = await read(response, limit)
        claimed = response.headers.get("Content-Type", "").partition(";")[0].strip()
    found = Descriptor.of(media_type(raw, claimed), raw)
    if ":" in name and found.digest != name:
        raise upstream(f"manifest verification failed for digest {name}")
    return found, raw


async def _config_bytes(registry: Registry, described: Descriptor, limit: int) -> bytes:
    """Get an image's configuration."""
    if described.size > limit:
        raise bad("invalid image configuration: it is too long")
    async with registry.ask("GET", f"blobs/{described.digest}") as response:
        raw = await read(response, limit)
    if Descriptor.of("", raw).digest != described.digest:
        raise upstream(f"image config verification failed for digest {described.digest}")
    return raw


async def _layers(  # noqa: PLR0917
    images: Images,
    registry: Registry,
    raw_config: bytes,
    layers: Sequence[Descriptor],
    progress: Progress,
    reference: Reference,
    platform: str,
) -> ImageRecord:
    """Get the layers that are not here and put the image into the store."""
    config = _config(raw_config)
    wanted = diff_ids(config)
    if len(wanted) != len(layers):
        raise bad(f"invalid manifest: {len(layers)} layers, but {len(wanted)} in the image configuration")
    if platform:
        _check_platform(config, reference, _platform(platform))
    for layer in layers:
        if "tar" not in layer.media_type:
            raise unsupported(f"the layer {layer.digest} is of the type {layer.media_type}, which no container runs on")
        if layer.size > images.limits.layer_bytes:
            raise bad(f"the layer is too large: at most {images.limits.layer_bytes} bytes are taken")
    gate = asyncio.Semaphore(_AT_ONCE)
    with full_disk(), images.workspace() as folder:
        downloads: dict[int, asyncio.Task[None]] = {}
        try:
            for index, (layer, diff_id) in enumerate(zip(layers, wanted, strict=True)):
                if images.shelf.hold([diff_id]) or diff_id in wanted[:index]:
                    progress({"status": "Already exists", "progressDetail": {}, "id": short(layer.digest)})
                    continue
                progress({"status": "Pulling fs layer", "progressDetail": {}, "id": short(layer.digest)})
                path = Path(folder) / str(index)
                downloads[index] = asyncio.create_task(_download(registry, layer, path, gate, progress))
            for index, download in downloads.items():
                await download
                name, path = short(layers[index].digest), Path(folder) / str(index)
                progress({"status": "Extracting", "progressDetail": {}, "id": name})
                await asyncio.to_thread(images.add_layer, path, expected=wanted[index])
                await asyncio.to_thread(images.shelf.note_blob, wanted[index], layers[index].to_dict())
                path.unlink()
                progress({"status": "Pull complete", "progressDetail": {}, "id": name})
        finally:
            for download in downloads.values():
                download.cancel()
            await asyncio.gather(*downloads.values(), return_exceptions=True)
    return await asyncio.to_thread(images.add_config, raw_config)


def _config(raw: bytes) -> dict[str, Any]:
    """Read an image's configuration."""
    try:
        config = json.loads(raw)
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise bad("invalid image configuration: it is not a JSON object")
    return config


def _check_platform(config: Mapping[str, Any], reference: Reference, wanted: tuple[str, str, str]) -> None:
    """Refuse an image of one platform only, where another was asked for by name."""
    actual = (str(config.get("os") or "linux"), str(config.get("architecture") or ""))
    if actual[1] and actual != wanted[:2]:
        raise RefusalError(
            404,
            f"image with reference {reference.familiar} was found but does not match the specified platform: "
            f"wanted {'/'.join(part for part in wanted if part)}, actual: {'/'.join(actual)}",
        )


async def _download(
    registry: Registry, layer: Descriptor, path: Path, gate: asyncio.Semaphore, progress: Progress
) -> None:
    """Get a layer as it is in the registry, and check it while it comes."""
    async with gate:
        for attempt in range(_ATTEMPTS):
            try:
                await _download_once(registry, layer, path, progress)
            except RefusalError as error:
                if "unexpected EOF" not in error.message or attempt == _ATTEMPTS - 1:
                    raise
                await asyncio.sleep(0.2 * (attempt + 1))  # the connection broke
            else:
                return


async def _download_once(registry: Registry, layer: Descriptor, path: Path, progress: Progress) -> None:
    name = short(layer.digest)
    digest, count = hashlib.sha256(), 0
    meter = Meter(progress, "Downloading", name, layer.size)

    def keep(chunk: bytes) -> None:
        digest.update(chunk)
        write_all(file.fileno(), chunk)

    async with registry.ask("GET", f"blobs/{layer.digest}") as response:
        with path.open("wb", buffering=0) as file:
            async for chunk in _pieces(response):
                count += len(chunk)
                if count > layer.size:
                    break
                await asyncio.to_thread(keep, chunk)
                meter.tell(count)
    if count != layer.size or f"sha256:{digest.hexdigest()}" != layer.digest:
        raise upstream(f"filesystem layer verification failed for digest {layer.digest}")
    progress({"status": "Verifying Checksum", "progressDetail": {}, "id": name})
    progress({"status": "Download complete", "progressDetail": {}, "id": name})


async def _pieces(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Give an answer in pieces worth a thread's while."""
    waiting = bytearray()
    async for chunk in response.content.iter_any():
        waiting += chunk
        if len(waiting) >= _CHUNK:
            yield bytes(waiting)
            waiting.clear()
    if waiting:
        yield bytes(waiting)

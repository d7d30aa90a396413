"""POST /commit: an image out of what a container wrote."""

from __future__ import annotations

import asyncio
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiohttp import web

from dockerlab.engine.api.app import STATE, State, body, flag
from dockerlab.engine.api.images import target
from dockerlab.engine.images import ImageRecord, format_time, host_architecture
from dockerlab.engine.refusals import RefusalError, bad

# What a container's configuration gives an image; the rest, such as its host name, is the container's own
_INHERITED = (
    "ArgsEscaped",
    "Cmd",
    "Entrypoint",
    "Env",
    "ExposedPorts",
    "Healthcheck",
    "Labels",
    "OnBuild",
    "Shell",
    "StopSignal",
    "StopTimeout",
    "User",
    "Volumes",
    "WorkingDir",
)
_LISTS, _OBJECTS = (
    ("Cmd", "Entrypoint", "Env", "OnBuild", "Shell"),
    ("ExposedPorts", "Labels", "Volumes", "Healthcheck"),
)
_TEXTS = ("StopSignal", "User", "WorkingDir")


def routes() -> list[web.RouteDef]:
    """Give the routes of this module."""
    return [web.post("/commit", _commit)]


async def _commit(request: web.Request) -> web.Response:
    state = request.app[STATE]
    name = request.query.get("container", "").strip()
    if not name:
        raise bad("give the container to commit")
    container = state.containers.get(name)
    reference = target(request)
    config = await asyncio.to_thread(
        _configuration, container.record.config, await body(request), request.query.getall("changes", [])
    )
    pauses = flag(request, "pause", default=True) and container.record.status == "running"
    if pauses:  # what it writes meanwhile would be in the image by halves
        state.containers.pause(container)
    try:
        with state.images.workspace() as folder:
            path = Path(folder) / "layer.tar"
            with path.open("wb") as file:
                await state.isolator.commit_layer(container.id, file)
            image: ImageRecord = await asyncio.to_thread(
                _store, state, container.record, config, path, dict(request.query)
            )
    finally:
        if pauses:
            state.containers.unpause(container)
    if reference:
        await asyncio.to_thread(state.images.tag, image.id, reference)
    told = {"comment": request.query.get("comment", ""), "imageID": image.id, "imageRef": reference or ""}
    state.events.emit("container", "commit", container.id, {**container.record.labels, **told, "name": container.name})
    return web.json_response({"Id": image.id}, status=201)


def _configuration(own: Mapping[str, Any], asked: Mapping[str, Any], changes: list[str]) -> dict[str, Any]:
    """Put the configuration together: the container's, over it what was asked for, over that the changes."""
    from dockerlab.engine.api.changes import apply_changes  # noqa: PLC0415  brings the builder along

    config: dict[str, Any] = {key: own[key] for key in _INHERITED if own.get(key)}
    for key in _INHERITED:
        value: Any = asked.get(key)
        kind: Any = list if key in _LISTS else dict if key in _OBJECTS else str if key in _TEXTS else object
        if value is not None and not isinstance(value, kind):
            raise bad(f"invalid value for {key}")
        if not value:
            continue
        if key == "Env":
            names = {str(entry).partition("=")[0] for entry in value}
            kept = [entry for entry in config.get("Env", []) if entry.partition("=")[0] not in names]
            config["Env"] = [*kept, *map(str, value)]
        elif key in ("ExposedPorts", "Labels", "Volumes"):
            config[key] = {**config.get(key, {}), **value}
        else:
            config[key] = value
    apply_changes(config, changes)
    return config


def _store(state: State, record: Any, config: dict[str, Any], layer_tar: Path, query: Mapping[str, str]) -> ImageRecord:
    """Make layer and image. Blocks."""
    try:
        base: Mapping[str, Any] = state.images.get(record.image_id).config
    except RefusalError:  # the image was removed by force; its layers are kept as long as this container is there
        base = {}
    with tarfile.open(layer_tar) as archive:
        empty = archive.next() is None  # Docker adds no layer then
    added = [] if empty else [state.images.add_layer(layer_tar, record.diff_ids).diff_id]
    now = format_time(time.time())
    entry: dict[str, Any] = {"created": now, "created_by": " ".join(record.argv), "comment": query.get("comment", "")}
    if query.get("author"):
        entry["author"] = query["author"]
    if empty:
        entry["empty_layer"] = True
    known = base.get("history") or [{"comment": "unknown"} for _ in record.diff_ids]
    content = {
        "architecture": base.get("architecture") or host_architecture(),
        "os": base.get("os") or "linux",
        **({"variant": base["variant"]} if base.get("variant") else {}),
        **({"author": query["author"]} if query.get("author") else {}),
        "comment": query.get("comment", ""),
        "created": now,
        "config": config,
        "container": record.id,
        "container_config": record.config,
        "history": [*known, entry],
        "rootfs": {"type": "layers", "diff_ids": [*record.diff_ids, *added]},
    }
    image: ImageRecord = state.images.add_image(content, parent=record.image_id if base else "")
    return image

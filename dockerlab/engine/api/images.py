"""Images of the store: list, inspect, tag, remove, prune."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from aiohttp import web

from dockerlab.engine.api.app import STATE, State, filters, flag
from dockerlab.engine.api.matching import fits, labelled, moment, one_flag
from dockerlab.engine.images import ImageRecord, parse
from dockerlab.engine.refusals import bad, unsupported

_LIST_FILTERS = ("before", "dangling", "label", "reference", "since", "until")
_PRUNE_FILTERS = ("dangling", "label", "label!", "until")


def routes() -> list[web.RouteDef]:
    """Give the routes of this module; those with fixed words must stand before the others."""
    return [
        web.get("/images/json", _list),
        web.get("/images/search", _search),
        web.post("/images/prune", _prune),
        web.get("/images/{name:.+}/json", _inspect),
        web.get("/images/{name:.+}/history", _history),
        web.post("/images/{name:.+}/tag", _tag),
        web.delete("/images/{name:.+}", _remove),
    ]


async def _list(request: web.Request) -> web.Response:
    wanted = filters(request, _LIST_FILTERS)
    every = flag(request, "all")
    images = request.app[STATE].images
    return web.json_response(await asyncio.to_thread(_summaries, images, wanted, every))


def _summaries(images: Any, wanted: Mapping[str, list[str]], every: bool) -> list[dict[str, Any]]:
    records: list[ImageRecord] = images.list()
    parents = {record.parent for record in records}
    dangling = one_flag(wanted, "dangling")
    before = [images.get(name).created_s for name in wanted.get("before", ())]
    since = [images.get(name).created_s for name in wanted.get("since", ())]
    before += [moment(text) for text in wanted.get("until", ())]
    found = []
    for record in records:
        tags = record.tags
        if wanted.get("reference"):
            tags = tuple(tag for tag in tags if any(fits(pattern, tag) for pattern in wanted["reference"]))
            if not tags and not any(fits(pattern, one) for pattern in wanted["reference"] for one in record.digests):
                continue
        if dangling is not None and dangling != (not record.tags):
            continue
        if not every and dangling is None and not record.tags and record.id in parents:
            continue  # a step on the way to another image
        if any(record.created_s >= limit for limit in before) or any(record.created_s <= limit for limit in since):
            continue
        if not all(labelled(record, text) for text in wanted.get("label", ())):
            continue
        found.append(summary(record, tags))
    return found


def summary(record: ImageRecord, tags: Iterable[str] | None = None) -> dict[str, Any]:
    """Give an image as ``GET /images/json`` lists it."""
    return {
        "Id": record.id,
        "ParentId": record.parent,
        "RepoTags": list(record.tags if tags is None else tags),
        "RepoDigests": list(record.digests),
        "Created": int(record.created_s),
        "Size": record.size_bytes,
        "SharedSize": -1,
        "VirtualSize": record.size_bytes,
        "Labels": (record.config.get("config") or {}).get("Labels"),
        "Containers": -1,
    }


async def _search(_: web.Request) -> web.Response:
    raise unsupported("the embedded engine of dockerlab does not search registries: look at hub.docker.com")


async def _inspect(request: web.Request) -> web.Response:
    state = request.app[STATE]
    record = await asyncio.to_thread(state.images.get, request.match_info["name"])
    return web.json_response(inspection(record, state.isolator.report.storage_driver))


def inspection(record: ImageRecord, driver: str) -> dict[str, Any]:
    """Give an image as ``GET /images/{name}/json`` describes it."""
    config = record.config
    history = config.get("history") or []
    return {
        "Id": record.id,
        "RepoTags": list(record.tags),
        "RepoDigests": list(record.digests),
        "Parent": record.parent,
        "Comment": str(history[-1].get("comment") or "") if history else "",
        "Created": config.get("created") or "",
        "Container": config.get("container") or "",
        "ContainerConfig": container_config(config.get("container_config")),
        "DockerVersion": config.get("docker_version") or "",
        "Author": config.get("author") or "",
        "Config": container_config(config.get("config")),
        "Architecture": config.get("architecture") or "",
        "Variant": config.get("variant") or "",
        "Os": config.get("os") or "linux",
        "Size": record.size_bytes,
        "VirtualSize": record.size_bytes,
        "GraphDriver": {"Data": None, "Name": driver},
        "RootFS": {"Type": "layers", "Layers": list(record.diff_ids)},
        "Metadata": {"LastTagTime": "0001-01-01T00:00:00Z"},
    }


def container_config(config: Mapping[str, Any] | None) -> dict[str, Any]:
    """Give a configuration with all the fields that clients count on."""
    return {
        "Hostname": "",
        "Domainname": "",
        "User": "",
        "AttachStdin": False,
        "AttachStdout": False,
        "AttachStderr": False,
        "Tty": False,
        "OpenStdin": False,
        "StdinOnce": False,
        "Env": None,
        "Cmd": None,
        "Image": "",
        "Volumes": None,
        "WorkingDir": "",
        "Entrypoint": None,
        "OnBuild": None,
        "Labels": None,
        **(config or {}),
    }


async def _history(request: web.Request) -> web.Response:
    images = request.app[STATE].images

    def read() -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = images.history(images.get(request.match_info["name"]))
        return rows

    return web.json_response(await asyncio.to_thread(read))


async def _tag(request: web.Request) -> web.Response:
    state = request.app[STATE]
    name = request.match_info["name"]
    reference = target(request)
    if reference is None:
        raise bad("invalid reference format")

    def put() -> ImageRecord:
        state.images.tag(name, reference)
        record: ImageRecord = state.images.get(name)
        return record

    record = await asyncio.to_thread(put)
    state.events.emit("image", "tag", record.id, attributes(record, reference))
    return web.Response(status=201)


def target(request: web.Request) -> str | None:
    """Read the parameters ``repo`` and ``tag``; None when there is no name."""
    repository, tag = request.query.get("repo", "").strip(), request.query.get("tag", "").strip()
    if not repository:
        if tag:
            raise bad("invalid reference format: a tag needs a repository")
        return None
    reference = parse(repository)
    if tag and (reference.tag or reference.digest):
        raise bad(f"invalid reference format: {repository} has a tag already")
    return parse(f"{repository}:{tag}" if tag else repository).tagged().familiar


def attributes(record: ImageRecord, name: str = "") -> dict[str, str]:
    """Give what an event tells about an image: its labels and its name."""
    labels = (record.config.get("config") or {}).get("Labels") or {}
    return {**{str(key): str(value) for key, value in labels.items()}, **({"name": name} if name else {})}


async def _remove(request: web.Request) -> web.Response:
    state = request.app[STATE]
    name, force = request.match_info["name"], flag(request, "force")
    flag(request, "noprune")  # checked only: layers that nothing has any more go with the image
    record = await asyncio.to_thread(state.images.get, name)
    users = image_users(state)

    def remove() -> list[dict[str, str]]:
        rows: list[dict[str, str]] = state.images.remove(
            name,
            force,
            lambda image_id: users.get(image_id, ([], []))[0],
            running=lambda image_id: users.get(image_id, ([], []))[1],
        )
        return rows

    rows = await asyncio.to_thread(remove)
    _tell(state, rows, record)
    return web.json_response(rows)


def image_users(state: State) -> dict[str, tuple[list[str], list[str]]]:
    """Give by image the ids of its containers, and of those that run."""
    users: dict[str, tuple[list[str], list[str]]] = {}
    for container in state.containers.list():
        every, running = users.setdefault(container.record.image_id, ([], []))
        every.append(container.id)
        if container.record.running:
            running.append(container.id)
    return users


def _tell(state: State, rows: list[dict[str, str]], record: ImageRecord | None = None) -> None:
    known = attributes(record) if record else {}
    for row in rows:
        if "Untagged" in row:
            state.events.emit("image", "untag", record.id if record else row["Untagged"], {"name": row["Untagged"]})
        elif record is None or row["Deleted"] == record.id:
            state.events.emit("image", "delete", row["Deleted"], known)


async def _prune(request: web.Request) -> web.Response:
    state = request.app[STATE]
    wanted = filters(request, _PRUNE_FILTERS)
    dangling = one_flag(wanted, "dangling")
    until = [moment(text) for text in wanted.get("until", ())]
    users = image_users(state)

    def matches(record: ImageRecord) -> bool:
        return (
            all(labelled(record, text) for text in wanted.get("label", ()))
            and not any(labelled(record, text) for text in wanted.get("label!", ()))
            and not any(record.created_s >= limit for limit in until)
        )

    def prune() -> tuple[list[dict[str, str]], int]:
        rows, reclaimed = state.images.prune(
            lambda image_id: users.get(image_id, ([], []))[0], dangling=dangling is not False, matches=matches
        )
        return rows, reclaimed

    rows, reclaimed_bytes = await asyncio.to_thread(prune)
    _tell(state, [row for row in rows if "Untagged" in row])
    state.events.emit("image", "prune", "", {"reclaimed": str(reclaimed_bytes)})
    return web.json_response({"ImagesDeleted": rows or None, "SpaceReclaimed": reclaimed_bytes})

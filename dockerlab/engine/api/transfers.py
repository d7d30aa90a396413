"""Images that come and go: pull, push, load, save, import, and what a registry says about one."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from dockerlab.engine.api.app import STATE, State, body, flag
from dockerlab.engine.api.images import attributes, target
from dockerlab.engine.api.jsonstream import JsonStream
from dockerlab.engine.api.piped import send_piped
from dockerlab.engine.api.upload import upload
from dockerlab.engine.images import ImageRecord, Reference, parse
from dockerlab.engine.images.progress import Progress
from dockerlab.engine.refusals import RefusalError, bad, unsupported

_PLATFORM_LIMIT = 64
_TAR = "application/x-tar"


def routes() -> list[web.RouteDef]:
    """Give the routes of this module."""
    return [
        web.post("/images/create", _create),
        web.post("/images/load", _load),
        web.get("/images/get", _save, allow_head=False),
        web.get("/images/{name:.+}/get", _save, allow_head=False),
        web.post("/images/{name:.+}/push", _push),
        web.get("/distribution/{name:.+}/json", _distribution),
        web.post("/auth", _login),
    ]


async def _create(request: web.Request) -> web.StreamResponse:
    image, source = request.query.get("fromImage", "").strip(), request.query.get("fromSrc", "").strip()
    if bool(image) == bool(source):
        raise bad("give either fromImage or fromSrc")
    return await (_pull(request, image) if image else _import(request, source))


async def _pull(request: web.Request, name: str) -> web.StreamResponse:
    from dockerlab.engine.images.transfer import pull, pull_all  # noqa: PLC0415  the HTTP client is for this alone

    state = request.app[STATE]
    reference = _with_tag(name.removesuffix(":"), request.query.get("tag", "").strip())
    auth, wanted = registry_auth(request), platform(request)
    stream = JsonStream(request)

    async def work(tell: Progress) -> list[ImageRecord]:
        if reference.tag or reference.digest:
            return [await pull(state.images, reference, auth=auth, platform=wanted, progress=tell)]
        return await pull_all(state.images, reference, auth=auth, platform=wanted, progress=tell)

    # Held: "Pulling from", which dockerd says only once the registry has answered
    records = await stream.follow(work, hold=1)
    if records:
        state.events.emit("image", "pull", reference.familiar, attributes(records[-1], reference.familiar_repository))
    return await stream.start()


def _with_tag(name: str, tag: str) -> Reference:
    """Put name and tag, which may be a digest, together; neither stands for all tags."""
    reference = parse(name)
    if not tag:
        return reference
    if tag.startswith("sha256:"):
        return parse(f"{reference.repository}@{tag}")
    return parse(f"{reference.repository}:{tag}")


def platform(request: web.Request) -> str:
    """Read the platform that was asked for, such as ``linux/arm64``; empty for this machine's."""
    text = request.query.get("platform", "").strip().lower()
    if len(text) > _PLATFORM_LIMIT or len(text.split("/")) > 3:
        raise bad(f"invalid platform: {text[:_PLATFORM_LIMIT]!r}")
    return text


def registry_auth(request: web.Request) -> dict[str, str]:
    """Read the header with the login for a registry; empty when there is none."""
    content = _header(request, "X-Registry-Auth")
    return {key: value for key, value in content.items() if isinstance(value, str)}


def registry_config(request: web.Request) -> dict[str, dict[str, str]]:
    """Read the header with the logins for all registries, which builds get."""
    content = _header(request, "X-Registry-Config")
    return {
        registry: {key: value for key, value in login.items() if isinstance(value, str)}
        for registry, login in content.items()
        if isinstance(login, Mapping)
    }


def _header(request: web.Request, name: str) -> dict[str, Any]:
    text = request.headers.get(name, "").strip()
    if not text:
        return {}
    try:
        content = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (ValueError, RecursionError):
        raise bad(f"invalid {name} header") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise bad(f"invalid {name} header")
    return content


async def _import(request: web.Request, source: str) -> web.StreamResponse:
    if source != "-":
        raise unsupported("the embedded engine of dockerlab imports from standard input only: download the file first")
    state = request.app[STATE]
    reference, message = target(request), request.query.get("message", "")
    from dockerlab.engine.api.changes import apply_changes  # noqa: PLC0415  brings the builder along

    changes: dict[str, Any] = {}
    apply_changes(changes, request.query.getall("changes", []))
    async with upload(request, state.places.temporary) as path:

        def read() -> ImageRecord:
            with path.open("rb") as file:
                record: ImageRecord = state.images.import_(file, reference, changes, message)
                return record

        record = await asyncio.to_thread(read)
    state.events.emit("image", "import", record.id, attributes(record, reference or ""))
    stream = JsonStream(request)
    await stream.send({"status": record.id})
    return await stream.start()


async def _load(request: web.Request) -> web.StreamResponse:
    state = request.app[STATE]
    flag(request, "quiet")  # there is no progress to be quiet about
    async with upload(request, state.places.temporary) as path:

        def read() -> list[tuple[str, ImageRecord]]:
            with path.open("rb") as file:
                return [(name, state.images.get(name)) for name in state.images.load(file)]

        loaded = await asyncio.to_thread(read)
    stream = JsonStream(request)
    for name, record in loaded:
        state.events.emit("image", "load", record.id, attributes(record, name))
        kind = "Loaded image ID" if name.startswith("sha256:") else "Loaded image"
        await stream.send({"stream": f"{kind}: {name}\n"})
    return await stream.start()


async def _save(request: web.Request) -> web.StreamResponse:
    state = request.app[STATE]
    names = [request.match_info["name"]] if "name" in request.match_info else request.query.getall("names", [])
    names = [part for name in names for part in name.split(",") if part]
    if not names:
        raise bad("no images to save: name at least one")
    for name in names:  # a status can be answered only as long as nothing has been sent
        await asyncio.to_thread(_check_saveable, state, name)
    response = web.StreamResponse(headers={"Content-Type": _TAR})
    await response.prepare(request)
    await send_piped(response, lambda file: state.images.save(names, file))
    await response.write_eof()
    for name in names:
        state.events.emit("image", "save", name, {"name": name})
    return response


def _check_saveable(state: State, name: str) -> None:
    """Raise unless there is an image, or at least one tag in a repository, of that name."""
    try:
        state.images.get(name)
    except RefusalError:
        repository = parse(name)
        tags = (tag for record in state.images.list() for tag in record.tags)
        if repository.tag or repository.digest or repository.repository not in (parse(tag).repository for tag in tags):
            raise


async def _push(request: web.Request) -> web.StreamResponse:
    from dockerlab.engine.images.transfer import push  # noqa: PLC0415  the HTTP client is needed for this alone

    state = request.app[STATE]
    reference = _with_tag(request.match_info["name"], request.query.get("tag", "").strip())
    auth = registry_auth(request)
    stream = JsonStream(request)
    digest = await stream.follow(lambda tell: push(state.images, reference, auth=auth, progress=tell))
    if digest:
        record = await asyncio.to_thread(state.images.get, f"{reference.repository}@{digest}")
        state.events.emit("image", "push", reference.familiar, attributes(record, reference.familiar_repository))
    return await stream.start()


async def _distribution(request: web.Request) -> web.Response:
    from dockerlab.engine.images.transfer import inspect  # noqa: PLC0415  the HTTP client is needed for this alone

    reference, limits = parse(request.match_info["name"]), request.app[STATE].images.limits
    return web.json_response(await inspect(reference, auth=registry_auth(request), limits=limits))


async def _login(request: web.Request) -> web.Response:
    from dockerlab.engine.images.transfer import login  # noqa: PLC0415  the HTTP client is needed for this alone

    await login(await body(request))
    return web.json_response({"Status": "Login Succeeded", "IdentityToken": ""})

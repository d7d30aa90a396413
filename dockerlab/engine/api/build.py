"""Builds: POST /build."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

from dockerlab.engine.api.app import STATE, filters, flag, number
from dockerlab.engine.api.images import attributes
from dockerlab.engine.api.jsonstream import JsonStream
from dockerlab.engine.api.transfers import registry_config
from dockerlab.engine.api.upload import upload
from dockerlab.engine.images import ImageRecord, Reference, parse
from dockerlab.engine.refusals import RefusalError

log = logging.getLogger(__name__)


def routes() -> list[web.RouteDef]:
    """Give the routes of this module."""
    return [web.post("/build", _build), web.post("/build/prune", _prune)]


async def _build(request: web.Request) -> web.StreamResponse:
    from dockerlab.engine.build import Parts, build, read_options  # noqa: PLC0415  only those who build need it
    from dockerlab.engine.images.transfer import pull  # noqa: PLC0415

    state = request.app[STATE]
    options = read_options(request.query.items())
    logins = registry_config(request)
    stream = JsonStream(request)

    async def fetch(name: str, platform: str, tell: Callable[[dict[str, Any]], None]) -> ImageRecord:
        reference = parse(name).tagged()
        return await pull(state.images, reference, auth=_login(logins, reference), platform=platform, progress=tell)

    parts = Parts(state.images, state.isolator, pull=fetch)
    async with upload(request, state.places.temporary) as context:
        try:
            image_id = await build(parts, context, options, stream.send)
        except (ConnectionError, RefusalError):  # the client has gone, or its Dockerfile is at fault
            raise
        except Exception as error:
            if stream.response is None:
                raise
            log.exception("a build failed")
            await stream.fail(f"the engine failed: {' '.join(str(error).split()) or type(error).__name__}")
        else:
            record: ImageRecord | None = await asyncio.to_thread(state.images.get, image_id) if image_id else None
            for reference in options.tags if record is not None else ():
                assert record is not None
                state.events.emit("image", "tag", image_id, attributes(record, reference.familiar))
    return await stream.start()


def _login(logins: Mapping[str, dict[str, str]], reference: Reference) -> dict[str, str]:
    """Find the login for an image's registry; Docker Hub's goes by its old address."""
    names = ("https://index.docker.io/v1/", "index.docker.io") if reference.domain == "docker.io" else ()
    return next((logins[name] for name in (*names, reference.domain) if name in logins), {})


async def _prune(request: web.Request) -> web.Response:
    # The cache is the images that were built: `docker image prune` is what removes it
    flag(request, "all")
    number(request, "keep-storage", maximum=2**62)
    filters(request)
    return web.json_response({"CachesDeleted": None, "SpaceReclaimed": 0})

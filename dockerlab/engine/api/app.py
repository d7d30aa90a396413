"""The web application: what every request goes through, and what handlers read requests with."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Awaitable, Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from dockerlab.engine.api.complaints import BROKEN_BODY
from dockerlab.engine.places import Places
from dockerlab.engine.refusals import RefusalError, bad

if TYPE_CHECKING:
    from dockerlab.engine.containers.lifecycle import Containers
    from dockerlab.engine.containers.networks import Networks
    from dockerlab.engine.containers.volumes import Volumes
    from dockerlab.engine.events import Events
    from dockerlab.engine.images import Images
    from dockerlab.engine.isolate import Isolator

log = logging.getLogger(__name__)

API_VERSION, OLDEST_API_VERSION = "1.43", "1.24"
BODY_LIMIT_BYTES = 4 << 20  # of JSON; what is streamed in (a context, an archive) is bounded where it is stored
# One route for both spellings: /containers/json and /v1.43/containers/json
_PREFIX = r"/{version:(?:v[0-9]+\.[0-9]+/)?}"
# Docker shows a container's name with a slash in front, and takes it so too: /containers//web/json
_NAMED, _NAMED_WITH_SLASH = "/containers/{name}", "/containers/{slash:/?}{name}"
_VERSIONED = re.compile(r"/v([0-9]+)\.([0-9]+)(?:/|$)")
# What is only watched, or is of no use to anybody else, ends with its client; all other work is finished
_ENDS_WITH_CLIENT = re.compile(
    r"/(containers//?[^/]+/(wait|attach)|exec/[^/]+/start|build|images/create|images/.+/push)$"
)
_TRUE, _FALSE = ("1", "true", "yes", "on", "t"), ("", "0", "false", "no", "none", "off", "f")


@dataclass
class State:
    """The parts of the running engine, for handlers: ``request.app[STATE]``.

    Attributes
    ----------
    version : str
        Of dockerlab.
    id : str
        Of this engine; stays the same over restarts.
    places : Places
        Its folders.
    images : Images
        The store of images.
    isolator : Isolator
        What puts walls around containers.
    events : Events
        Who is told what happens.
    containers, networks, volumes : Containers, Networks, Volumes
        What there is of each.
    """

    version: str
    id: str
    places: Places
    images: Images
    isolator: Isolator
    events: Events
    containers: Containers
    networks: Networks
    volumes: Volumes


STATE: web.AppKey[State] = web.AppKey("state", State)


def make_app(state: State, routes: Iterable[web.RouteDef], middlewares: Iterable[Middleware] = ()) -> web.Application:
    """Make the application.

    Parameters
    ----------
    state : State
        What handlers find in ``request.app[STATE]``.
    routes : iterable of RouteDef
        Paths without a version; each answers with and without one. The first that fits is taken.
    middlewares : iterable of callable
        What else each request goes through, outermost first.

    Returns
    -------
    aiohttp.web.Application
        Not started.
    """
    app = web.Application(middlewares=[*middlewares, _refusals], client_max_size=BODY_LIMIT_BYTES)
    app[STATE] = state
    server = f"Dockerlab/{state.version} (linux)"

    async def add_headers(_: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(
            {"Api-Version": API_VERSION, "Docker-Experimental": "false", "Ostype": "linux", "Server": server}
        )
        if response.content_type == "application/json":  # the docker command reads no message where a charset is named
            response.headers["Content-Type"] = "application/json"

    app.on_response_prepare.append(add_headers)
    app.add_routes(
        web.RouteDef(
            route.method,
            _PREFIX + route.path.replace(_NAMED, _NAMED_WITH_SLASH)[1:],
            route.handler,
            route.kwargs,
        )
        for route in routes
    )
    return app


def refusal(status: int, message: str) -> web.Response:
    """Make the answer that says no."""
    return web.json_response({"message": message}, status=status)


@web.middleware
async def _refusals(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn what goes wrong in a handler into an answer as Docker's."""
    try:
        _check_version(request.path)
        if request.method in ("GET", "HEAD") or _ENDS_WITH_CLIENT.search(request.path):
            return await handler(request)
        return await _finish(handler(request))
    except ConnectionError:  # whoever asked has gone
        raise
    except Exception as error:
        if getattr(request.writer, "output_size", 0):  # nothing can be answered any more but by breaking off
            known = isinstance(error, (RefusalError, OSError, *BROKEN_BODY))
            log.warning("%s %s broke off: %s", request.method, request.path, error, exc_info=None if known else error)
            raise ConnectionAbortedError("the answer was broken off") from error  # the server says nothing more of it
        return _answer_to(error, request)


def _answer_to(error: Exception, request: web.Request) -> web.StreamResponse:
    if isinstance(error, RefusalError):
        return refusal(error.status, error.message)
    if isinstance(error, (web.HTTPNotFound, web.HTTPMethodNotAllowed)):
        return refusal(404, "page not found")
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return refusal(413, f"the request is too large: at most {BODY_LIMIT_BYTES >> 20} MiB of JSON are taken")
    if isinstance(error, web.HTTPException):
        return refusal(error.status, error.reason)
    if isinstance(error, BROKEN_BODY):
        return refusal(400, "the body of the request cannot be read: it is not encoded as its headers say")
    log.error("%s %s failed", request.method, request.path, exc_info=error)
    sentence = " ".join(str(error).split()) or type(error).__name__
    return refusal(500, f"the engine failed: {sentence}")


async def _finish(work: Awaitable[web.StreamResponse]) -> web.StreamResponse:
    """Let work go on when its client leaves: half a removal helps nobody."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        _unwatched.add(task)
        task.add_done_callback(_forget)
        raise


_unwatched: set[asyncio.Future[web.StreamResponse]] = set()  # the loop itself keeps only weak references


def _forget(task: asyncio.Future[web.StreamResponse]) -> None:
    _unwatched.discard(task)
    if not task.cancelled() and (error := task.exception()) and not isinstance(error, ConnectionError):
        log.warning("what a client asked for and did not wait for failed: %s", error)


def _check_version(path: str) -> None:
    """Refuse a version of the API that is not spoken here, in Docker's words."""
    found = _VERSIONED.match(path)
    if not found:
        return
    asked = tuple(map(int, found.groups()))
    text = ".".join(found.groups())
    if asked < _number(OLDEST_API_VERSION):
        raise bad(
            f"client version {text} is too old. Minimum supported API version is {OLDEST_API_VERSION}, "
            "please upgrade your client to a newer version"
        )
    if asked > _number(API_VERSION):
        raise bad(f"client version {text} is too new. Maximum supported API version is {API_VERSION}")


def _number(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


async def body(request: web.Request) -> dict[str, Any]:
    """Read the request's JSON object.

    Parameters
    ----------
    request : aiohttp.web.Request

    Returns
    -------
    dict
        Empty when there is none.

    Raises
    ------
    RefusalError
        400: it is not a JSON object.
    """
    raw = await request.read()
    if not raw.strip():
        return {}
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError):
        raise bad("the body of the request is not JSON") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise bad("the body of the request is not a JSON object")
    return content


def flag(request: web.Request, name: str, default: bool = False) -> bool:
    """Read a parameter of the query that says yes or no; 400 when it says neither."""
    text = request.query.get(name)
    if text is None:
        return default
    word = text.strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise bad(f"invalid value {text!r} for {name}: it must be true or false")


def number(
    request: web.Request, name: str, default: int | None = None, *, minimum: int = 0, maximum: int = 2**31 - 1
) -> int | None:
    """Read a whole number of the query, `default` when it is not there; 400 when it is none or out of range."""
    text = request.query.get(name, "").strip()
    if not text:
        return default
    # int() takes "1_0", and digits of other scripts, which nobody means
    value = int(text) if re.fullmatch(r"-?[0-9]{1,18}", text) else None
    if value is None or not minimum <= value <= maximum:
        raise bad(f"invalid value {text!r} for {name}: it must be a whole number from {minimum} to {maximum}")
    return value


def filters(request: web.Request, allowed: Collection[str] = ()) -> dict[str, list[str]]:
    """Read the parameter ``filters``: what each filter may be.

    Parameters
    ----------
    request : aiohttp.web.Request
    allowed : collection of str
        Names of the filters that there are; any when it is empty.

    Returns
    -------
    dict of str to list of str

    Raises
    ------
    RefusalError
        400: it cannot be read, or has a filter that there is not.
    """
    text = request.query.get("filters", "")
    if not text.strip():
        return {}
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise bad("invalid filter: it is not JSON") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise bad("invalid filter: it is not a JSON object")
    found = {}
    for name, values in content.items():
        # Old clients write {"label": {"a=b": true}}
        texts = [key for key, wanted in values.items() if wanted] if isinstance(values, dict) else values
        if not isinstance(texts, list) or not all(isinstance(value, str) for value in texts):
            raise bad(f"invalid filter {name!r}: its values must be a list of texts")
        if allowed and name not in allowed:
            raise bad(f"invalid filter '{name}'")
        found[name] = list(texts)
    return found

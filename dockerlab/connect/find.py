"""Find the container engine of this machine and say what it can do.

Places are tried in this order: DOCKER_HOST, the docker context, the well-known sockets of Docker Engine, rootless
Docker and Docker Desktop, the sockets of Podman, and last the embedded engine. What is chosen by hand (DOCKER_HOST,
DOCKER_CONTEXT) is binding: when nothing answers there, no other engine is taken behind the learner's back.
The embedded engine is the one that is started where it does not run yet.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

import docker.constants

from dockerlab.connect.boundary import translate
from dockerlab.connect.info import KINDS, Engine, Kind
from dockerlab.connect.isolation import isolator_from, limits_from, security_options, walls_from
from dockerlab.connect.places import Place, places, refuse_remote
from dockerlab.connect.probe import ask_version, make_client, outcome_of
from dockerlab.errors import Attempt, BadInputError, EngineError, EngineNotFoundError

DESCRIBE_TIMEOUT_S = 20.0  # an engine that answers may still be slow to count its containers
READ_TIMEOUT_S = 120.0
EMBEDDED = "the embedded engine"
_NAMES: dict[Kind, str] = {"docker": "Docker Engine", "podman": "Podman", "embedded": "embedded engine"}
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")


@dataclass(frozen=True)
class Search:
    """What looking for an engine gave.

    Attributes
    ----------
    engine : Engine or None
        The first that answered and fits.
    attempts : tuple of Attempt
        Each place that was tried before it, in order, and what was found there.
    advice : str
        What to do when there is none.
    """

    engine: Engine | None
    attempts: tuple[Attempt, ...]
    advice: str


class _PlaceError(Exception):
    """A place does not have an engine that can be used; the message is the outcome."""


def connect(engine: str | None = None, *, environ: Mapping[str, str] = os.environ) -> Engine:
    """Find the engine of this machine.

    Parameters
    ----------
    engine : {"docker", "podman", "embedded"}, optional
        Take only an engine of that kind; DOCKERLAB_ENGINE says so otherwise.
    environ : mapping of str to str
        The environment variables to go by.

    Returns
    -------
    Engine
        The first one that answered.

    Raises
    ------
    EngineNotFoundError
        None answered; has each place that was tried.
    RemoteEngineError
        The engine that was chosen is on another machine.
    BadInputError
        There is no such kind of engine.

    Examples
    --------
    >>> print(connect())  # doctest: +SKIP
    engine:           Docker Engine 27.5.1
    """
    found = search(engine, environ=environ)
    if found.engine is None:
        raise EngineNotFoundError(found.attempts, found.advice)
    return found.engine


def search(engine: str | None = None, *, environ: Mapping[str, str] = os.environ) -> Search:
    """Look for an engine like :func:`connect`, and also tell about the places that were tried.

    Parameters
    ----------
    engine : {"docker", "podman", "embedded"}, optional
        Take only an engine of that kind; DOCKERLAB_ENGINE says so otherwise.
    environ : mapping of str to str
        The environment variables to go by.

    Returns
    -------
    Search
        The engine, if any, and the attempts.

    Raises
    ------
    RemoteEngineError
        The engine that was chosen is on another machine.
    BadInputError
        There is no such kind of engine.
    """
    wanted = _wanted(engine, environ)
    attempts: list[Attempt] = []
    warnings: list[str] = []
    for place in places(environ, wanted):
        refuse_remote(place)
        try:
            found = _open(place, wanted, tuple(warnings))
        except _PlaceError as error:
            attempts.append(Attempt(place.title, str(error)))
            if place.chosen_by == "context":
                warnings.append(
                    f"No engine answers at {place.title}, so another one was taken. The docker command looks there: "
                    "run `docker context use default` to make both agree."
                )
            if place.binding:
                return Search(None, tuple(attempts), f"Start the engine there, or {place.undo}, and run this again.")
        else:
            return Search(found, tuple(attempts), "")
    if wanted in (None, "embedded"):
        try:
            return Search(_start_embedded(environ, tuple(warnings)), tuple(attempts), "")
        except _PlaceError as error:
            attempts.append(Attempt(EMBEDDED, str(error)))
    return Search(None, tuple(attempts), _advice(wanted, attempts))


def protect_loopback(environ: MutableMapping[str, str]) -> None:
    """Keep a proxy from swallowing requests to this machine.

    Parameters
    ----------
    environ : mutable mapping of str to str
        Changed in place: where a proxy variable is set, no_proxy and NO_PROXY get 127.0.0.1, localhost and ::1 added.

    Examples
    --------
    >>> environ = {"HTTP_PROXY": "http://proxy:3128", "NO_PROXY": "example.org"}
    >>> protect_loopback(environ)
    >>> environ["no_proxy"]
    'example.org,127.0.0.1,localhost,::1'
    """
    if not any(environ.get(name) or environ.get(name.upper()) for name in _PROXIES):
        return
    # One list for both: programs differ in which of the two they read, and the one they find hides the other
    texts = (environ.get("no_proxy", ""), environ.get("NO_PROXY", ""))
    entries = [entry.strip() for text in texts for entry in text.split(",") if entry.strip()]
    if "*" not in entries:
        entries += _LOOPBACK
    environ["no_proxy"] = environ["NO_PROXY"] = ",".join(dict.fromkeys(entries))


def _wanted(engine: str | None, environ: Mapping[str, str]) -> Kind | None:
    """Give the kind of engine that was asked for."""
    asked = engine if engine is not None else environ.get("DOCKERLAB_ENGINE", "").strip().lower()
    if not asked and engine is None:
        return None
    if asked not in KINDS:
        raise BadInputError(f"There is no engine {asked!r}.", f"Choose one of {', '.join(KINDS)}, or none of them.")
    return asked


def _start_embedded(environ: Mapping[str, str], warnings: tuple[str, ...]) -> Engine:
    """Start the embedded engine, unless it runs already; its only door."""
    if sys.platform != "linux":
        raise _PlaceError("it runs on Linux only")
    from dockerlab.engine import daemon  # noqa: PLC0415  most learners have another engine
    from dockerlab.engine.places import find_places  # noqa: PLC0415

    try:
        found = find_places(environ)
        daemon.start(found, isolation=environ.get("DOCKERLAB_ISOLATION", "").strip().lower())
    except EngineError as error:
        raise _PlaceError(f"{error.message} {error.advice}") from error
    return _open(Place(EMBEDDED, found.address), "embedded", warnings)


def _open(place: Place, wanted: Kind | None, warnings: tuple[str, ...]) -> Engine:
    """Connect to one place, or raise _PlaceError with the outcome."""
    if not place.address:
        raise _PlaceError("there is no such context; `docker context ls` lists them")
    try:
        version = ask_version(place)
    except Exception as error:  # not only OSError: pywin32 raises its own kind for a named pipe
        raise _PlaceError(outcome_of(error, place)) from error
    api_version = str(version["ApiVersion"])
    kind = _kind(version)
    if wanted is not None and kind != wanted:
        raise _PlaceError(f"{kind} answers there, but {wanted} was asked for")
    minimum = docker.constants.MINIMUM_DOCKER_API_VERSION
    if _number(api_version) < _number(minimum):
        raise _PlaceError(f"it speaks API {api_version}, at least {minimum} is needed: install a newer engine")
    client = make_client(place, api_version, DESCRIBE_TIMEOUT_S)
    try:
        info: dict[str, Any] = client.info()
    except Exception as error:
        client.close()
        raise _PlaceError(f"it answers, but does not describe itself: {translate(error).message}") from error
    client.close()
    if info.get("OSType", "linux") != "linux":
        raise _PlaceError("it runs Windows containers: switch Docker Desktop to Linux containers")
    desktop = "docker desktop" in f"{info.get('OperatingSystem')} {version.get('Platform')}".lower()
    return Engine(
        client=make_client(place, api_version, READ_TIMEOUT_S),
        kind=kind,
        name="Docker Desktop" if desktop else _NAMES[kind],
        version=str(version.get("Version", "")),
        api_version=api_version,
        # Podman makes a new one up for each answer.
        id=f"{place.address} {info.get('DockerRootDir', '')}" if kind == "podman" else str(info.get("ID", "")),
        found_at=place.label,
        address=place.address,
        storage_driver=str(info.get("Driver", "")),
        rootless="rootless" in security_options(info),
        desktop=desktop,
        isolator=isolator_from(info),
        walls=walls_from(info),
        limits=limits_from(info),
        warnings=(*warnings, *(str(text) for text in info.get("Warnings") or ())),
    )


def _kind(version: Mapping[str, Any]) -> Kind:
    """Tell whose engine it is that says this about its version."""
    if "podman" in str(version.get("Components", "")).lower():
        return "podman"
    return "embedded" if "dockerlab" in str(version.get("Platform", "")).lower() else "docker"


def _number(version: str) -> tuple[int, ...]:
    """Make a version comparable."""
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _advice(wanted: Kind | None, attempts: list[Attempt]) -> str:
    """Say what to do when nothing was found."""
    if wanted == "embedded":
        return "Do what is said above; or install Docker or Podman, and take neither --engine nor DOCKERLAB_ENGINE."
    if any("permission denied" in attempt.outcome for attempt in attempts):
        return "Get the permission as said above, or start an engine of your own (rootless Docker or Podman)."
    docker_way = "Docker (start Docker Desktop, or run `sudo systemctl start docker`)"
    podman_way = "Podman (run `systemctl --user start podman.socket`)"
    ways = {"docker": docker_way, "podman": podman_way}.get(wanted or "", f"{docker_way} or {podman_way}")
    return f"Install or start {ways} and run this again; `dockerlab doctor` tells more."

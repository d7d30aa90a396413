"""Ask one place whether an engine answers there, without waiting long."""

from __future__ import annotations

import socket
import sys
import time
from typing import Any, cast

import docker
import docker.constants
import docker.utils
import requests.adapters
import requests.exceptions

from dockerlab.connect.boundary import causes
from dockerlab.connect.places import Place

CONNECT_TIMEOUT_S = 1.0
ANSWER_TIMEOUT_S = 2.0  # with the one above: at most 3 s for a place that never answers
POOL_SIZE = 32  # more than the workers and watchers that talk at the same time


def make_client(place: Place, api_version: str, timeout_s: float) -> docker.DockerClient:
    """Make a client that asks nothing yet and goes by no proxy."""
    client = docker.DockerClient(
        base_url=place.address,
        version=api_version,
        timeout=cast("int", timeout_s),
        tls=cast("bool", place.tls or False),
        max_pool_size=POOL_SIZE,
    )
    # requests would send tcp://127.0.0.1 through HTTP_PROXY or ALL_PROXY
    client.api.trust_env = False
    if client.api.base_url.startswith(("http://", "https://")):
        for scheme in ("http://", "https://"):
            client.api.mount(scheme, requests.adapters.HTTPAdapter(pool_maxsize=POOL_SIZE))
    return client


def ask_version(place: Place) -> dict[str, Any]:
    """Ask the place for its version, within 3 s."""
    _knock(place)
    client = make_client(place, docker.constants.MINIMUM_DOCKER_API_VERSION, ANSWER_TIMEOUT_S)
    try:
        url = f"{client.api.base_url}/version"
        answer = client.api.get(url, timeout=(CONNECT_TIMEOUT_S, ANSWER_TIMEOUT_S), allow_redirects=False)
        answer.raise_for_status()
        version = answer.json()
    finally:
        client.close()
    if not isinstance(version, dict) or "ApiVersion" not in version:
        raise ValueError("the answer has no ApiVersion")
    return version


def _knock(place: Place) -> None:
    """Connect to a socket and hang up: docker-py would leave its end open where that fails, and Python warns of it."""
    address = cast("str", docker.utils.parse_host(place.address, sys.platform == "win32"))
    scheme, _, path = address.partition("://")
    if scheme == "http+unix" and sys.platform != "win32":
        deadline = time.monotonic() + CONNECT_TIMEOUT_S
        while True:
            with socket.socket(socket.AF_UNIX) as knocking:
                knocking.settimeout(CONNECT_TIMEOUT_S)
                try:
                    knocking.connect(f"/{path.lstrip('/')}")
                    break
                except BlockingIOError:  # its queue is full; Linux says so at once instead of waiting
                    if time.monotonic() > deadline:
                        raise TimeoutError from None
            time.sleep(0.05)


def outcome_of(error: Exception, place: Place) -> str:
    """Say in plain words why a place did not give an engine."""
    for cause in causes(error):
        if isinstance(cause, (FileNotFoundError, NotADirectoryError)) or getattr(cause, "winerror", None) == 2:
            return "no such socket"
        if isinstance(cause, PermissionError):
            return f"permission denied: {place.permission_hint}"
        if isinstance(cause, ConnectionRefusedError):
            return "nothing answers there"
        if isinstance(cause, (TimeoutError, requests.exceptions.Timeout)):
            return "no answer in time (time-out)"
    if isinstance(error, (ValueError, requests.exceptions.HTTPError)):
        return "something answers there, but not as a container engine does"
    return f"cannot be used ({error})"

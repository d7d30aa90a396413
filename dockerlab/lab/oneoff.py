"""Single containers: one that runs to its end, one that is left running."""

from __future__ import annotations

import contextlib
import shlex
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import docker
import docker.errors

from dockerlab.connect import engine_errors
from dockerlab.errors import (
    BadInputError,
    ContainerFailedError,
    DiskFullError,
    EngineLostError,
    ImageNotFoundError,
    PortTakenError,
)
from dockerlab.ownership import NAME_LABEL, own_containers

if TYPE_CHECKING:
    from docker.models.containers import Container


@dataclass(frozen=True)
class RunResult:
    """What a container that ran to its end left.

    Parameters
    ----------
    output : str
        What it printed to standard output and standard error.
    exit_code : int
        0 means success.
    start_s : float
        Seconds from asking for the container until its process ran.
    total_s : float
        Seconds from asking for it until it had ended.
    """

    output: str
    exit_code: int
    start_s: float
    total_s: float

    def __str__(self) -> str:
        return self.output.rstrip("\n")

    def __repr__(self) -> str:
        code = "" if self.exit_code == 0 else f"\n[exit code {self.exit_code}]"
        return f"{self}{code}"


def run(
    client: docker.DockerClient,
    image: str,
    command: str | Sequence[str] | None,
    *,
    title: str,
    name: str,
    labels: Mapping[str, str],
    env: Mapping[str, str] | None,
    timeout_s: float,
) -> RunResult:
    """Run a container to its end and remove it; see :meth:`dockerlab.Lab.run`."""
    api = client.api
    begun_s = time.monotonic()
    with _starting(title):
        container_id: str = api.create_container(
            image, _words(command), name=name, labels={**labels, NAME_LABEL: name}, environment=dict(env or {})
        )["Id"]
    try:
        with _starting(title):
            api.start(container_id)
        start_s = time.monotonic() - begun_s
        with engine_errors(), _removal_after(api, container_id, timeout_s) as expired:
            code = int(api.wait(container_id)["StatusCode"])
            if expired.is_set():
                raise ContainerFailedError(
                    f"The container still ran after {timeout_s:g} s, so it was removed.",
                    "Give it more time with timeout_s=..., or use lab.start for a service that does not end.",
                )
            total_s = time.monotonic() - begun_s
            output: bytes = api.logs(container_id)
    finally:
        with engine_errors(), contextlib.suppress(docker.errors.NotFound):
            api.remove_container(container_id, force=True, v=True)
    return RunResult(output.decode(errors="replace"), code, start_s, total_s)


def start(
    client: docker.DockerClient,
    image: str,
    command: str | Sequence[str] | None,
    *,
    title: str,
    name: str,
    labels: Mapping[str, str],
    owned: Mapping[str, str],
    env: Mapping[str, str] | None,
    ports: Mapping[int, int | None] | None,
    volumes: Mapping[str, str] | None,
    init: bool,
) -> Container:
    """Start a container and leave it running; see :meth:`dockerlab.Lab.start`."""
    api = client.api
    with engine_errors():
        for row in own_containers(api, owned):
            if f"/{name}" in row["Names"]:
                api.remove_container(row["Id"], force=True, v=True)
        for volume in volumes or ():
            _have_volume(api, volume, labels=labels, owned=owned)
    with _starting(title):
        container_id: str = api.create_container(
            image,
            _words(command),
            name=name,
            labels={**labels, NAME_LABEL: name},
            environment=dict(env or {}),
            ports=list(ports or ()),
            host_config=api.create_host_config(
                port_bindings={port: ("127.0.0.1", public) for port, public in (ports or {}).items()},
                binds=[f"{volume}:{path}" for volume, path in (volumes or {}).items()],
                init=init or None,
            ),
        )["Id"]
    try:
        with _starting(title):
            api.start(container_id)
    except BaseException:
        with engine_errors(), contextlib.suppress(docker.errors.NotFound):
            api.remove_container(container_id, force=True, v=True)
        raise
    with engine_errors():
        return client.containers.get(container_id)


@contextlib.contextmanager
def _removal_after(api: docker.APIClient, container_id: str, timeout_s: float) -> Iterator[threading.Event]:
    """Kill the container when the block takes longer than `timeout_s`, and set the event."""
    expired = threading.Event()

    def kill() -> None:
        expired.set()
        with contextlib.suppress(docker.errors.APIError):
            api.kill(container_id)

    timer = threading.Timer(timeout_s, kill)
    timer.start()
    try:
        yield expired
    finally:
        timer.cancel()
        timer.join()


def _have_volume(api: docker.APIClient, name: str, *, labels: Mapping[str, str], owned: Mapping[str, str]) -> None:
    """Make a volume of this lab where there is none of that name; refuse one that is somebody else's."""
    try:
        found = api.inspect_volume(name).get("Labels") or {}
    except docker.errors.NotFound:
        api.create_volume(name, labels=dict(labels))
        return
    if any(found.get(key) != value for key, value in owned.items()):
        raise BadInputError(
            f"The volume {name!r} is there already and was not made by this lab.",
            "Choose another name, one that begins with lab.name for instance.",
        )


def _words(command: str | Sequence[str] | None) -> list[str] | None:
    if command is None:
        return None
    return shlex.split(command) if isinstance(command, str) else list(command)


@contextlib.contextmanager
def _starting(title: str) -> Iterator[None]:
    try:
        with engine_errors():
            yield
    except (EngineLostError, DiskFullError, ImageNotFoundError, PortTakenError):
        raise
    except Exception as error:
        message = getattr(error, "message", str(error))
        raise ContainerFailedError(
            f"A container of {title} could not be started: {message}",
            "Mend the command or the image, and run it again.",
        ) from error

"""The image that is made from ``binder/``, and pods of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
import sandbox_image
import sandbox_pod

from dockerlab.connect import connect
from dockerlab.errors import EngineError

if TYPE_CHECKING:
    import docker
    from sandbox_pod import Pod

SECCOMP = {"default": (), "unconfined": ("seccomp=unconfined",)}
"""Docker's own profile, which refuses user namespaces, and what a Kubernetes pod gets when nobody asks for one."""
MEASURED = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[MEASURED] = []


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if config.stash.get(MEASURED, []):
        terminalreporter.section("measured in the sandbox")
        for line in config.stash[MEASURED]:
            terminalreporter.line(line)


@pytest.fixture(scope="session")
def measured(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Give the function that takes a line for the end of the report."""
    return request.config.stash[MEASURED].append


@pytest.fixture(scope="session")
def docker_client(missing: Callable[[str, str], NoReturn]) -> Iterator[docker.DockerClient]:
    try:
        engine = connect("docker")
    except EngineError as error:
        missing("sandbox", f"Docker is needed for a pod. {error}")
    engine.client.api.timeout = 1200  # postBuild says nothing for long
    yield engine.client
    engine.client.close()


@pytest.fixture(scope="session")
def image(docker_client: docker.DockerClient, missing: Callable[[str, str], NoReturn]) -> str:
    """Give the tag of the image made from ``binder/``."""
    try:
        return sandbox_image.ensure(docker_client)
    except sandbox_image.NotHereError as error:
        missing("sandbox", str(error))


@pytest.fixture(scope="module", params=SECCOMP)
def seccomp(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def pod(docker_client: docker.DockerClient, image: str, seccomp: str) -> Iterator[Pod]:
    with sandbox_pod.opened(docker_client, image, SECCOMP[seccomp]) as opened:
        yield opened


@pytest.fixture(scope="module")
def learned(pod: Pod) -> dict[str, Any]:
    """Give what inside.py found in the pod."""
    return pod.learn()

"""The base image: the first of five ways that works here.

A class behind one address must not depend on a public registry, and a learner without a network must be able to work,
so the ladder goes from what is there already to what can be made on the spot.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import docker
import requests
from docker.auth import get_config_header
from docker.errors import APIError, ImageNotFound
from docker.utils.json_stream import json_stream

from dockerlab.commands import unlisted
from dockerlab.connect import engine_errors
from dockerlab.errors import BaseImageError, DiskFullError, EngineLostError, ImageError
from dockerlab.images import rootfs
from dockerlab.images.build import build_context, find
from dockerlab.images.layers import Image

BASE_TAG = "dockerlab/base:1"
"""Name of the base image that the course's Dockerfiles build on."""

BUSYBOX_DIGEST = "sha256:9db7b59979c38555a39def84a31fb98b5296952f9e3afd4f6f11f05b07adfab0"
"""The official image busybox 1.37.0: digest of the index of all its architectures. A tag can be moved, this cannot."""

SILENCE_LIMIT_S = 10.0
"""A registry that says nothing for so long is taken as unreachable."""

PULL_LIMIT_S = 120.0
"""A pull of these 2 MB that still runs after so long is given up."""

_PLACES = (
    "/bin/busybox",
    "/usr/bin/busybox",
    "/sbin/busybox",
    "/usr/lib/initramfs-tools/bin/busybox",
    "/usr/lib/busybox/busybox",
)

_ADVICE = (
    "One of these helps: run `docker pull busybox` where there is a network; set DOCKERLAB_REGISTRY to your class's "
    "registry (host:port) that mirrors library/busybox; install a static busybox on this machine "
    "(`sudo apt-get install busybox-static`); or load a saved image with `docker load -i busybox.tar`."
)

# A machine that is offline now stays so for the next cells too: no second wait for the same registry.
_failed_pulls: dict[str, str] = {}
_lock = threading.Lock()


class RungError(Exception):
    """One way to get the base image did not work; the text says why. Never leaves this module."""


def ensure(client: docker.DockerClient, *, environ: Mapping[str, str] = os.environ) -> Image:
    """Return the base image ``dockerlab/base:1``, making it first where it is not there.

    Ways, in this order: it is there; a ``busybox`` image is on the engine; pulled from the registry by digest; made
    from a static busybox of this machine; the same from Debian's package.

    Parameters
    ----------
    client : docker.DockerClient
        The engine.
    environ : mapping of str to str
        ``DOCKERLAB_REGISTRY`` (host:port) names a registry to pull from instead of the engine's default one.

    Returns
    -------
    Image
        The base image.

    Raises
    ------
    BaseImageError
        None of them worked; the message says what each came to.
    DiskFullError, EngineLostError
        The engine has no room left, or went away.
    """
    registry = environ.get("DOCKERLAB_REGISTRY", "").strip()
    ways: tuple[tuple[str, Callable[[], Image]], ...] = (
        (f"{BASE_TAG} on the engine", lambda: already_there(client)),
        ("a busybox image on the engine", lambda: from_busybox_image(client)),
        (f"busybox from {registry or 'the public registry'}", lambda: from_registry(client, registry=registry)),
        ("a static busybox on this machine", lambda: from_machine(client, environ=environ)),
        ("Debian's package busybox-static", lambda: from_package(client)),
    )
    outcomes = []
    with _lock:
        for name, way in ways:
            try:
                return way()
            except RungError as error:  # noqa: PERF203 - each way may fail
                outcomes.append(f"  - {name}: {error}")
    tried = "\n".join(outcomes)
    raise BaseImageError(f"The base image {BASE_TAG} could not be had. These ways were tried:\n{tried}", _ADVICE)


def already_there(client: docker.DockerClient, *, tag: str = BASE_TAG) -> Image:
    """Rung 1: the image is on the engine."""
    try:
        return find(client, tag)
    except ImageError as error:
        raise RungError("not there") from error


def from_busybox_image(client: docker.DockerClient, *, tag: str = BASE_TAG) -> Image:
    """Rung 2: tag a ``busybox`` image that the engine has, ``busybox:latest`` before others."""
    with engine_errors():
        found = client.api.images(name="busybox")
        names = sorted(name for image in found for name in image.get("RepoTags") or () if _is_busybox(name))
        if not names:
            raise RungError("not there")
        names.sort(key=lambda name: not name.endswith(":latest"))
        _tag(client, names[0], tag)
    return find(client, tag)


def from_registry(
    client: docker.DockerClient,
    *,
    registry: str = "",
    digest: str = BUSYBOX_DIGEST,
    tag: str = BASE_TAG,
    silence_limit_s: float = SILENCE_LIMIT_S,
) -> Image:
    """Rung 3: pull the official busybox by digest, and tag it."""
    name = f"{registry}/library/busybox" if registry else "busybox"
    reference = f"{name}@{digest}"
    if reference in _failed_pulls:
        raise RungError(f"{_failed_pulls[reference]} (not tried again in this session)")
    try:
        _pull(client, name, digest, registry, silence_limit_s)
    except RungError as error:
        _failed_pulls[reference] = str(error)
        raise
    with engine_errors():
        _tag(client, reference, tag)
    return find(client, tag)


def from_machine(client: docker.DockerClient, *, tag: str = BASE_TAG, environ: Mapping[str, str] = os.environ) -> Image:
    """Rung 4: build it from a static busybox that is installed on this machine."""
    on_path = shutil.which("busybox", path=environ.get("PATH", os.defpath))
    places = list(dict.fromkeys(([on_path] if on_path else []) + [place for place in _PLACES if Path(place).exists()]))
    if not places:
        raise RungError("not installed")
    architecture = _architecture(client)
    reasons = []
    for place in places:
        reason = rootfs.unfit(Path(place), architecture)
        if not reason:
            return _make(client, Path(place), tag)
        reasons.append(reason)
    raise RungError("; ".join(reasons))


def from_package(client: docker.DockerClient, *, tag: str = BASE_TAG) -> Image:
    """Rung 5: fetch Debian's package (no root needed), unpack it into a temporary folder and build from that."""
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            raise RungError(f"{program} is not on this machine")
    with tempfile.TemporaryDirectory(prefix="dockerlab-") as folder:
        home = Path(folder)
        package = _download(home)
        _call(["dpkg-deb", "-x", str(package), str(home / "root")], home)
        for place in ("usr/bin/busybox", "bin/busybox"):
            binary = home / "root" / place
            if binary.exists():
                if reason := rootfs.unfit(binary, _architecture(client)):
                    raise RungError(reason)
                return _make(client, binary, tag)
    raise RungError("the package holds no busybox")


def _make(client: docker.DockerClient, binary: Path, tag: str) -> Image:
    # Nobody would type this build, so it stays out of the list of commands.
    try:
        with unlisted():
            return build_context(client, rootfs.context(binary), tag=tag)
    except ImageError as error:
        raise RungError(f"the engine could not build it from {binary.name}: {error.message}") from error


def _pull(client: docker.DockerClient, name: str, digest: str, registry: str, silence_limit_s: float) -> None:
    """Pull with a limit on silence and on the whole, which the SDK's own pull does not have."""
    api = client.api
    headers = {}
    if header := get_config_header(api, registry or "docker.io"):
        headers["X-Registry-Auth"] = header
    url = f"{api.base_url}/v{api.api_version}/images/create"
    params = {"fromImage": name, "tag": digest}
    ends_s = time.monotonic() + PULL_LIMIT_S
    try:
        with (
            _silence_is_failure(silence_limit_s),
            api.post(url, params=params, headers=headers, stream=True, timeout=silence_limit_s) as answer,
        ):
            if not answer.ok:
                raise RungError(_reason(answer.json().get("message", answer.reason)))
            for message in json_stream(answer.iter_content(1024)):
                if isinstance(message, dict) and "error" in message:
                    raise RungError(_reason(str(message["error"])))
                if time.monotonic() > ends_s:
                    raise RungError(f"still not done after {PULL_LIMIT_S:.0f} s")
    except ValueError as error:
        raise RungError(f"the engine's answer to the pull could not be read: {error}") from error


@contextmanager
def _silence_is_failure(limit_s: float) -> Iterator[None]:
    try:
        yield
    except requests.exceptions.ConnectionError as error:
        # A time-out in the middle of a stream arrives as a ConnectionError too.
        if "timed out" not in str(error).lower():
            raise EngineLostError(
                f"The engine went away during a pull: {error}", "Start it again and run this cell again."
            ) from error
        raise RungError(f"no answer within {limit_s:.0f} s") from error
    except requests.exceptions.Timeout as error:
        raise RungError(f"no answer within {limit_s:.0f} s") from error


def _reason(message: str) -> str:
    if "no space left" in message.lower():
        raise DiskFullError(
            f"The engine has no room for the base image: {message}",
            "Remove what this lab made with lab.reset(), then unused images with `docker image prune`.",
        )
    return " ".join(message.split())


def _tag(client: docker.DockerClient, source: str, tag: str) -> None:
    repository, _, version = tag.rpartition(":")
    try:
        client.api.tag(source, repository, version)
    except (APIError, ImageNotFound) as error:
        raise RungError(f"{source} could not be tagged: {error.explanation}") from error


def _is_busybox(name: str) -> bool:
    repository, _, _ = name.rpartition(":")
    return repository in {"busybox", "library/busybox", "docker.io/library/busybox"}


def _architecture(client: docker.DockerClient) -> str:
    with engine_errors():
        return str(client.api.version().get("Arch", ""))


def _download(home: Path) -> Path:
    """Fetch the package with the machine's package lists, else with fresh lists of our own (a pod often has none)."""
    own: list[str] = []
    for folder in ("lists/partial", "cache/archives/partial"):
        (home / folder).mkdir(parents=True)
    for name, folder in (("Dir::State::lists", "lists"), ("Dir::Cache", "cache")):
        own += ["-o", f"{name}={home / folder}"]
    limits = ["-q", "-o", "Acquire::http::Timeout=10", "-o", "Acquire::Retries=0", "-o", "Debug::NoLocking=1"]
    # As root, apt would hand the download to its own user, who cannot write here.
    limits += ["-o", "APT::Sandbox::User=root"]
    try:
        _call(["apt-get", *limits, "download", "busybox-static"], home)
    except RungError:
        _call(["apt-get", *limits, *own, "update"], home)
        _call(["apt-get", *limits, *own, "download", "busybox-static"], home)
    packages = sorted(home.glob("busybox-static_*.deb"))
    if not packages:
        raise RungError("apt-get downloaded nothing")
    return packages[-1]


def _call(words: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RungError(f"{words[0]} did not work: {error}") from error
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise RungError(f"{words[0]} {words[-1]}: {lines[-1] if lines else f'exit code {done.returncode}'}")

"""The places where a container engine of this machine can be."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import docker.errors
from docker.tls import TLSConfig

from dockerlab.errors import RemoteEngineError

_GROUP = "add yourself to the group docker (`sudo usermod -aG docker $USER`), then log out and in again"
_OWN_PODMAN = "that one is root's; start your own with `systemctl --user start podman.socket`"


@dataclass(frozen=True)
class Place:
    """One place to look for an engine.

    Attributes
    ----------
    label : str
        Its name for people.
    address : str
        Where to connect: ``unix://``, ``npipe://`` or ``tcp://``.
    chosen_by : {"", "DOCKER_HOST", "DOCKER_CONTEXT", "context"}
        What chose it; empty for a well-known place.
    podman : bool
        Whether Podman listens there by default.
    tls : TLSConfig or None
        Certificates, when the place wants them.
    """

    label: str
    address: str
    chosen_by: str = ""
    podman: bool = False
    tls: TLSConfig | None = field(default=None, compare=False)

    @property
    def title(self) -> str:
        """The label with the address."""
        return f"{self.label} ({self.address})" if self.address else self.label

    @property
    def binding(self) -> bool:
        """Whether a person chose it, so that no other place may be taken instead."""
        return self.chosen_by in ("DOCKER_HOST", "DOCKER_CONTEXT")

    @property
    def undo(self) -> str:
        """What takes that choice back, as the rest of a sentence."""
        return "run `docker context use default`" if self.chosen_by == "context" else f"unset {self.chosen_by}"

    @property
    def permission_hint(self) -> str:
        """What to do when the permission is missing."""
        return _OWN_PODMAN if self.podman else _GROUP


def places(environ: Mapping[str, str], kind: str | None = None) -> Iterator[Place]:
    """List the places to look at, best first, none twice.

    Parameters
    ----------
    environ : mapping of str to str
        The environment variables to go by.
    kind : {"docker", "podman", "embedded"}, optional
        Leave out the places where that kind is never found.

    Yields
    ------
    Place
        The next place to try; nothing has been connected to.
    """
    if kind == "embedded":
        return
    seen = set()
    for place in (*_chosen(environ), *_well_known(environ)):
        if kind is not None and not place.chosen_by and place.podman != (kind == "podman"):
            continue
        path = place.address.removeprefix("unix://")
        key = os.path.realpath(path) if path != place.address else path
        if key not in seen:
            seen.add(key)
            yield place


def refuse_remote(place: Place) -> None:
    """Refuse a place on another machine.

    Parameters
    ----------
    place : Place
        Where the engine is.

    Raises
    ------
    RemoteEngineError
        It is reached over ssh, or over TCP at an address that is not loopback.
    """
    scheme, _, rest = place.address.partition("://")
    if not rest:
        scheme, rest = "tcp", place.address
    if scheme not in ("tcp", "http", "https", "ssh"):
        return
    try:
        host = urlsplit(f"//{rest}").hostname or ""
    except ValueError:
        host = rest
    if scheme != "ssh" and (host in ("", "localhost") or _is_loopback(host)):
        return
    raise RemoteEngineError(
        f"The engine that {place.label} names is on another machine ({place.address}): the ports of its containers "
        "would open there, and the requests of this course would not reach them.",
        f"Use an engine on this machine: {place.undo}, then start Docker or Podman here.",
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _chosen(environ: Mapping[str, str]) -> Iterator[Place]:
    """Give what the person chose: DOCKER_HOST outranks the context, as with the docker command."""
    folder = Path(environ.get("DOCKER_CONFIG") or _home(environ) / ".docker")
    host = environ.get("DOCKER_HOST", "").strip()
    if host:
        verify = bool(environ.get("DOCKER_TLS_VERIFY"))
        certificates = environ.get("DOCKER_CERT_PATH", "")
        wants_tls = host.startswith("tcp") and (verify or certificates)
        tls = _tls(Path(certificates or folder), verify=verify) if wants_tls else None
        yield Place("DOCKER_HOST", host, "DOCKER_HOST", tls=tls)
        return
    name = environ.get("DOCKER_CONTEXT", "").strip()
    chosen_by = "DOCKER_CONTEXT" if name else "context"
    name = name or str(_read(folder / "config.json").get("currentContext") or "")
    if name in ("", "default"):
        return
    # Not through docker.context: it reads the process's own environment only, and looks for contexts under the working
    # folder when there is no config.json (docker-py 7.1), where the docker command finds them
    identity = hashlib.sha256(name.encode()).hexdigest()
    meta = _read(folder / "contexts" / "meta" / identity / "meta.json")
    endpoint = (meta.get("Endpoints") or {}).get("docker") or {}
    certificates_of_context = folder / "contexts" / "tls" / identity / "docker"
    # TLS only where there are certificates: merely passing a TLSConfig makes docker-py speak https
    found = certificates_of_context.is_dir()
    tls = _tls(certificates_of_context, verify=not endpoint.get("SkipTLSVerify")) if found else None
    yield Place(f"the docker context {name!r}", str(endpoint.get("Host") or ""), chosen_by, tls=tls)


def _well_known(environ: Mapping[str, str]) -> Iterator[Place]:
    """Give the places where engines listen unless told otherwise."""
    if sys.platform == "win32":
        yield Place("the pipe of Docker", "npipe:////./pipe/docker_engine")
        yield Place("the pipe of Docker Desktop", "npipe:////./pipe/dockerDesktopLinuxEngine")
        yield Place("the pipe of Podman", "npipe:////./pipe/podman-machine-default", podman=True)
        return
    home = _home(environ)
    runtime = environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    yield Place("the socket of Docker", "unix:///var/run/docker.sock")
    yield Place("the socket of rootless Docker", f"unix://{runtime}/docker.sock")
    yield Place("the socket of Docker Desktop", f"unix://{home}/.docker/run/docker.sock")
    yield Place("the socket of Docker Desktop on Linux", f"unix://{home}/.docker/desktop/docker.sock")
    yield Place("the socket of rootless Podman", f"unix://{runtime}/podman/podman.sock", podman=True)
    yield Place("the socket of Podman", "unix:///run/podman/podman.sock", podman=True)


def _home(environ: Mapping[str, str]) -> Path:
    home = environ.get("USERPROFILE" if sys.platform == "win32" else "HOME")
    return Path(home) if home else Path.home()


def _read(path: Path) -> dict[str, Any]:
    """Read a JSON object; empty when it cannot be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _tls(folder: Path, *, verify: bool) -> TLSConfig | None:
    """Read the certificates of a folder; None when there are none."""
    authority, certificate, key = (folder / f"{name}.pem" for name in ("ca", "cert", "key"))
    try:
        return TLSConfig(
            client_cert=(str(certificate), str(key)) if certificate.is_file() else None,
            ca_cert=str(authority) if authority.is_file() else None,
            verify=verify,
        )
    except docker.errors.TLSParameterError:
        return None

"""Starting and ending a lab's registry: a process of this machine, or a container where the engine is elsewhere.

The process is Distribution (Debian's program ``docker-registry``) where that is on PATH, else dockerlab's own, which is
always there. Docker Desktop and a rootless Docker have a loopback of their own: they get Distribution's official image.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import docker.errors
import requests

from dockerlab.connect import Engine, engine_errors
from dockerlab.errors import RegistryError
from dockerlab.images.registry import forget_names
from dockerlab.lab.home import Home, replace_file
from dockerlab.ownership import NAME_LABEL, own_containers
from dockerlab.processes import Process, registries_with

IMAGE_VARIABLE = "DOCKERLAB_REGISTRY_IMAGE"
DEFAULT_IMAGE = "registry:2"
PROGRAM = "docker-registry"
OWN_MODULE = "dockerlab.engine.images.serve"
_INNER_PORT = 5000
_START_S = 20.0
_TRIES = 3


@dataclass(frozen=True)
class RegistryRecord:
    """What is kept of a registry, enough to find it again; without a process where it is a container."""

    port: int
    pid: int = 0
    created_s: float = 0.0

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.port}"

    @property
    def process(self) -> Process:
        """The process, perhaps gone."""
        return Process(self.pid, self.created_s)


def open_registry(
    engine: Engine,
    home: Home,
    labels: Mapping[str, str],
    *,
    owned: Mapping[str, str],
    environ: Mapping[str, str] = os.environ,
) -> str:
    """Give the address of the lab's registry, starting it where it does not run; its images and its port stay.

    Parameters
    ----------
    engine : Engine
    home : Home
        Of the lab.
    labels : mapping of str to str
        Of the container, where it is made now.
    owned : mapping of str to str
        Labels by which a container that was made before is found.
    environ : mapping of str to str
        Environment variables.

    Raises
    ------
    RegistryError
        Where it does not start.
    """
    with home.guard():
        if engine.desktop or (engine.rootless and engine.kind != "embedded"):
            return _in_a_container(engine, home, labels, owned, environ.get(IMAGE_VARIABLE, DEFAULT_IMAGE)).address
        record = _load(home)
        if record and record.process.alive() and _answers(record.address):
            return record.address
        _end_processes(home, record)
        return _start(home, record.port if record else 0, environ).address


def end_registry(engine: Engine, home: Home, *, dry_run: bool = False) -> tuple[list[str], list[str]]:
    """End the lab's registry and take its names off the engine's images; say what went, and what was refused.

    Its files are in the lab's folder and go with that; a container of it carries the lab's labels.
    """
    record = _load(home)
    if record is None:
        return [], []
    gone: list[str] = []
    kept: list[str] = []
    # Where it has ended, its port may by now be that of another registry, whose names are not ours
    if record.process.alive() or _free(record.port):
        gone, kept = forget_names(engine.client, record.address, dry_run=dry_run)
    if not dry_run:
        _end_processes(home, record)
    return [*gone, f"registry, port {record.port}"], kept


def _load(home: Home) -> RegistryRecord | None:
    try:
        return RegistryRecord(**json.loads(_path(home).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _save(home: Home, record: RegistryRecord) -> None:
    home.path.mkdir(parents=True, exist_ok=True)
    replace_file(_path(home), json.dumps(asdict(record)))


def _path(home: Home) -> Path:
    return home.path / "registry.json"


def _end_processes(home: Home, record: RegistryRecord | None) -> None:
    """End the process that was noted, and any that was started by a process killed before it could note it."""
    for process in (*((record.process,) if record and record.pid else ()), *registries_with(home.registry)):
        process.end()
        if child := _CHILDREN.pop(process.pid, None):
            child.wait()


def _start(home: Home, wanted: int, environ: Mapping[str, str]) -> RegistryRecord:
    """Start the process, on the port that it had before where that is free."""
    home.registry.mkdir(mode=0o700, parents=True, exist_ok=True)
    log = home.registry / "log"
    for attempt in range(_TRIES):
        port = wanted if wanted and not attempt and _free(wanted) else _free_port()
        with log.open("wb") as output:
            child = subprocess.Popen(
                _command(home.registry, port, environ),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=Path(__file__).parents[2],  # `python -m` looks there first, and not in the learner's folder
                env={name: value for name, value in environ.items() if not name.startswith(("REGISTRY_", "OTEL_"))},
                start_new_session=True,
            )
        _CHILDREN[child.pid] = child
        try:
            born = Process.of(child.pid)
            record = RegistryRecord(port, born.pid, born.created_s)
            if _comes_up(child, record.address):
                _save(home, record)
                return record
        except BaseException:
            _stop(child)
            raise
        _stop(child)  # somebody was quicker to take the port: another one
    raise RegistryError(
        f"The registry did not start:\n{log.read_text(errors='replace')[-2000:]}", "Run `dockerlab doctor`."
    )


def _command(folder: Path, port: int, environ: Mapping[str, str]) -> list[str]:
    program = shutil.which(PROGRAM, path=environ.get("PATH", os.defpath))
    if program is None:
        return [sys.executable, "-m", OWN_MODULE, str(folder / "own"), str(port)]
    settings = {
        "version": 0.1,
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "distribution")}, "delete": {"enabled": True}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    (folder / "config.yml").write_text(json.dumps(settings), encoding="utf-8")  # JSON is YAML, too
    return [program, "serve", str(folder / "config.yml")]


def _comes_up(child: subprocess.Popen[bytes], address: str) -> bool:
    ends = time.monotonic() + _START_S
    while child.poll() is None and time.monotonic() < ends:
        if _answers(address):
            return child.poll() is None
        time.sleep(0.02)
    return False


def _stop(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.wait()
    _CHILDREN.pop(child.pid, None)


# Popen objects of this process, so that an ended registry is reaped and no warning is raised for a forgotten one.
_CHILDREN: dict[int, subprocess.Popen[bytes]] = {}


def _answers(address: str) -> bool:
    with requests.Session() as session:
        session.trust_env = False  # no proxy leads to loopback
        with contextlib.suppress(requests.RequestException):
            return session.get(f"http://{address}/v2/", timeout=2.0).ok
    return False


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _in_a_container(
    engine: Engine, home: Home, labels: Mapping[str, str], owned: Mapping[str, str], image: str
) -> RegistryRecord:
    """Find or start the registry as a container of the lab; the container has the images."""
    api, name = engine.client.api, f"{home.name}-registry"
    with engine_errors():
        found = [str(row["Id"]) for row in own_containers(api, {**owned, NAME_LABEL: name})]
        if not found:
            try:
                engine.client.images.get(image)
            except docker.errors.ImageNotFound:
                engine.client.images.pull(image)
            # A chosen port: what was pushed is named after it, so it must be the same after a restart
            host = api.create_host_config(port_bindings={_INNER_PORT: ("127.0.0.1", _free_port())})
            marks = {**labels, NAME_LABEL: name}
            found = [api.create_container(image, name=name, labels=marks, ports=[_INNER_PORT], host_config=host)["Id"]]
        api.start(found[0])  # one that runs stays as it is
        ports = api.inspect_container(found[0])["NetworkSettings"]["Ports"] or {}
    bound = ports.get(f"{_INNER_PORT}/tcp") or [{"HostPort": "0"}]  # none where it has exited already
    record = RegistryRecord(int(bound[0]["HostPort"]))
    ends = time.monotonic() + _START_S
    while not _answers(record.address):
        if time.monotonic() > ends:
            raise RegistryError(f"The registry in the image {image} did not start.", f"Look at `docker logs {name}`.")
        time.sleep(0.1)
    _save(home, record)
    return record

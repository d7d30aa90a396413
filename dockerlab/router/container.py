"""HAProxy as a container, where this machine has no program for it: the official image."""

from __future__ import annotations

import contextlib
import io
import tarfile
import time
from collections.abc import Mapping
from typing import Any

import docker.errors

from dockerlab.connect import Engine, engine_errors
from dockerlab.errors import ImageNotFoundError, RouterError
from dockerlab.ownership import NAME_LABEL, own_containers
from dockerlab.router.config import config, listen
from dockerlab.router.record import RouterRecord
from dockerlab.router.runtime import RuntimeApi

IMAGE_VARIABLE = "DOCKERLAB_HAPROXY_IMAGE"
DEFAULT_IMAGE = "haproxy:2.8-alpine"
_INNER_PORT, _PREVIEW_PORT, _CONTROL_PORT = 8080, 8081, 9999


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
        with listen(port) as listener:
            chosen = int(listener.getsockname()[1])
        text = config(
            control=f"ipv4@0.0.0.0:{_CONTROL_PORT}",
            bind=f"*:{_INNER_PORT}",
            preview=f"*:{_PREVIEW_PORT}",
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
                api.put_archive(container_id, "/", _tar("dockerlab.cfg", text))
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

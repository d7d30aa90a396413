"""The containers of one fleet: made, found and removed by their labels."""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import docker.errors

from dockerlab.commands import Call, translate
from dockerlab.connect import Engine, engine_errors
from dockerlab.errors import DiskFullError, EngineLostError, ImageNotFoundError, ReplicaFailedError
from dockerlab.fleet.model import Revision, State
from dockerlab.fleet.steps import Step
from dockerlab.ownership import NAME_LABEL, own_containers
from dockerlab.router.runtime import adding, admitting, draining, removing, weighing

FLEET_LABEL, REVISION_LABEL, PORT_LABEL = "dockerlab.fleet", "dockerlab.revision", "dockerlab.port"
WORKERS = 8
"""Calls side by side. Docker Engine is 15 % quicker with 8 than with 4, and no quicker with more."""
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
_STATES: Mapping[str, State] = {
    "created": "created",
    "running": "running",
    "paused": "running",
    "restarting": "running",
}


@dataclass(frozen=True)
class Container:
    """One container of the fleet, as the engine lists it.

    Parameters
    ----------
    id : str
    name : str
    revision : int
    state : {"created", "running", "exited"}
    address : str
        ``host:port`` where the router reaches it, empty while it has none.
    created_s : float
        Seconds since the epoch.
    exit_code : int or None
        Set once it has exited.
    """

    id: str
    name: str
    revision: int
    state: State
    address: str
    created_s: float
    exit_code: int | None


class Replicas:
    """Makes, lists and removes the containers of one fleet.

    Parameters
    ----------
    engine : Engine
    labels : mapping
        Labels of the lab and the fleet; they decide what belongs here.
    made : mapping
        Further labels of what is made.
    prefix : str
        Start of the containers' names.
    network : str
        Network that the router shares; empty where it reaches the containers by ports on loopback.
    stop_grace_s : float
        Seconds between the stop signal and the kill.
    init : bool
        Run the engine's init as process 1.
    """

    def __init__(
        self,
        engine: Engine,
        labels: Mapping[str, str],
        *,
        made: Mapping[str, str],
        prefix: str,
        network: str,
        stop_grace_s: float,
        init: bool,
    ) -> None:
        self._api: Any = engine.client.api  # its stubs do not know that a command may be missing
        self._labels = dict(labels)
        self._made = dict(made)
        self._prefix = prefix
        self._network = network
        self._stop_grace_s = stop_grace_s
        self._init = init

    def new_name(self) -> str:
        """Make up a name that no other replica has."""
        return f"{self._prefix}-{''.join(secrets.choice(_ALPHABET) for _ in range(5))}"

    def start(self, name: str, revision: Revision) -> Container:
        """Create and start one container.

        Raises
        ------
        ImageNotFoundError
            Where the image is gone.
        ReplicaFailedError
            Where the engine cannot start it, for instance because its command does not exist.
        EngineError
            Where the engine went away or is full.
        """
        api = self._api
        with engine_errors():
            try:
                container_id: str = api.create_container_from_config(self._config(name, revision), name)["Id"]
            except docker.errors.ImageNotFound as error:
                raise ImageNotFoundError(revision.image) from error
        try:
            with engine_errors():
                api.start(container_id)
                return self._inspect(container_id)
        except Exception as error:
            with contextlib.suppress(EngineLostError):
                self.remove(container_id, grace_s=0)
            if isinstance(error, EngineLostError | DiskFullError):
                raise
            raise ReplicaFailedError(
                f"The replica {name} of {revision.image} could not be started: {getattr(error, 'message', error)}",
                replica=name,
                exit_code=None,
                logs="",
            ) from error

    def _config(self, name: str, revision: Revision) -> dict[str, Any]:
        """Give the body of the call that creates a container."""
        port = revision.target_port
        bindings: Mapping[int | str, Any] = {} if self._network else {port: ("127.0.0.1", None)}
        host_config = self._api.create_host_config(
            port_bindings=bindings, network_mode=self._network or None, init=self._init or None
        )
        config: dict[str, Any] = self._api.create_container_config(
            revision.image_id,
            None,
            # Linux allows 64 characters, and no hyphen first.
            hostname=name[-63:].lstrip("-"),
            environment=dict(revision.env),
            labels={
                **self._made,
                **self._labels,
                NAME_LABEL: name,
                REVISION_LABEL: str(revision.number),
                PORT_LABEL: str(port),
            },
            ports=[port],
            host_config=host_config,
        )
        return config

    def commands(self, step: Step, revision: Revision) -> tuple[str, ...]:
        """Give what a person would type for a step: to Docker, and to the router's run-time API."""
        name, pool = step.replica, step.pool
        match step.action:
            case "start":
                call = Call("POST", "/containers/create", {"name": name}, self._config(name, revision))
                run = translate(call, {revision.image_id: revision.image}) or ""
                address = f"{'IP' if self._network else '127.0.0.1'}:PORT"
                return run.replace("docker create", "docker run -d", 1), f"router: {adding(name, address, pool)}"
            case "admit":
                return (f"router: {admitting(name, pool)}",)
            case "drain":
                return (f"router: {draining(name, pool)}",)
            case "remove":
                stop, delete = removing(name, pool)
                grace = f"docker stop -t {round(self._stop_grace_s)} {name}"
                return f"router: {stop}", f"router: {delete}", grace, f"docker rm -f -v {name}"
            case "weight":
                return (f"router: {weighing(step.green)}",)
            case "advance":
                return ()

    def list(self) -> list[Container]:
        """List the containers of the fleet, in no order.

        Raises
        ------
        EngineError
            Where the engine does not answer.
        """
        with engine_errors():
            rows = own_containers(self._api, self._labels)
        # One that somebody is removing already is as good as gone.
        return [self._from_list(row) for row in rows if row["State"] not in {"removing", "dead"}]

    def remove(self, container_id: str, *, grace_s: float | None = None) -> None:
        """Stop and remove one container with its anonymous volumes; one that is gone already is fine."""
        grace = self._stop_grace_s if grace_s is None else grace_s
        with engine_errors():
            try:
                if grace > 0:
                    self._api.stop(container_id, timeout=round(grace))
                self._api.remove_container(container_id, force=True, v=True)
            except docker.errors.NotFound:
                pass
            except docker.errors.APIError as error:
                if "already in progress" not in str(error):
                    raise

    def remove_all(self) -> None:
        """Remove every container of the fleet, side by side and without a grace period."""
        with ThreadPoolExecutor(WORKERS) as pool:
            for future in [pool.submit(self.remove, container.id, grace_s=0) for container in self.list()]:
                future.result()

    def last_words(self, container_id: str) -> tuple[int | None, str]:
        """Give the exit code (None while it runs) and the last 20 lines that it printed."""
        with engine_errors():
            try:
                state = self._api.inspect_container(container_id)["State"]
                logs: bytes = self._api.logs(container_id, tail=20)
            except docker.errors.NotFound:
                return None, ""
        return (None if state["Running"] else int(state["ExitCode"])), logs.decode(errors="replace")

    def _from_list(self, row: Mapping[str, Any]) -> Container:
        state = _STATES.get(row["State"], "exited")
        code = re.match(r"Exited \((\d+)\)", row.get("Status", ""))
        address = ""
        if self._network:
            networks = (row.get("NetworkSettings") or {}).get("Networks") or {}
            ip = (networks.get(self._network) or {}).get("IPAddress", "")
            address = f"{ip}:{row['Labels'].get(PORT_LABEL, 80)}" if ip else ""
        else:
            public = [p["PublicPort"] for p in row.get("Ports") or () if p.get("PublicPort")]
            address = f"127.0.0.1:{public[0]}" if public else ""
        return Container(
            id=row["Id"],
            name=row["Names"][0].lstrip("/"),
            revision=int(row["Labels"].get(REVISION_LABEL, 0)),
            state=state,
            address=address if state == "running" else "",
            created_s=float(row["Created"]),
            exit_code=int(code[1]) if code and state == "exited" else None,
        )

    def _inspect(self, container_id: str) -> Container:
        """Give a container that was just started; the list of a busy engine can lag behind."""
        filters = {"id": container_id}
        rows = self._api.containers(all=True, filters=filters)
        if not rows:
            raise docker.errors.NotFound(f"No such container: {container_id}")
        return self._from_list(rows[0])

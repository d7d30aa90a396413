"""How long does a rolling update of 30 replicas take, one at a time and five at a time, and what does it lose?

The peer is Docker Swarm on the same engine, as a swarm of one node: `docker service update --image`. Both do it with
the same images, start-first and so many at once, with the same signal and grace period, and under the same load. Both
are timed until the last old replica has ended.

Where a choice was open, swarm got what makes it quickest:

- The image is given by its id, so nothing is pulled or asked of a registry (`--no-resolve-image`).
- `--update-delay 0s`, and `--update-monitor 1ns`, as leaving it out means 5 s more.
- Old tasks stay as stopped containers (swarm keeps 5 a replica); the fleet's time includes removing them.
- The health check asks /healthz, as the fleet's router does. The engine looks for the first time one interval after the
  start: here 0.1 s, about what the router takes. But each look starts a process in the container, and 30 replicas with
  10 looks a second are more than a small machine can do. So a replica that was healthy once waits 30 s before the next
  look, which is Docker's default (the router: 2 s). Docker 25 has `--health-start-interval` for this; the command below
  does the same on any engine.

How the requests get to swarm's tasks: not by published ports. Swarm cannot publish on loopback only, and its routing
mesh and virtual addresses need IPVS, which not every kernel has. What works everywhere is `--endpoint-mode dnsrr`: the
service's name stands for the addresses of the tasks that are healthy and not on their way out. It takes an overlay
network, as swarm knows names on no other. A small container there takes each connection at a port on loopback, looks
the name up and hands the connection on. Like the routing mesh, and unlike the fleet's router, it tries nothing twice.

A swarm that is there already is used if this node is a manager, and stays. Otherwise one is made that listens on
loopback only, and is left at the end.
"""

from __future__ import annotations

import json
import secrets
import signal
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import docker.errors
from _bench import report, web_image
from docker.types import (
    ContainerSpec,
    EndpointSpec,
    Healthcheck,
    NetworkAttachmentConfig,
    Placement,
    ServiceMode,
    TaskTemplate,
    UpdateConfig,
)

import dockerlab as dl
from dockerlab.errors import EngineNotFoundError, RemoteEngineError
from dockerlab.images import Image
from dockerlab.lab import Lab

REPLICAS, BATCHES, ROUNDS, RATE_RPS, LIMIT = 30, (1, 5), 3, 30, 0.7
GRACE_S, SETTLE_S, TIMEOUT_S, POLL_S = 10, 3, 300, 0.1
LABELS = {"dockerlab.benchmark": ""}
SECOND = 1_000_000_000
HEALTH = "[ ! -e /tmp/was-healthy ] || sleep 30; wget -q -O /dev/null http://127.0.0.1/healthz && : > /tmp/was-healthy"
QUESTION = f"rolling update of {REPLICAS} replicas, {{}} at a time, against docker service update"


@dataclass(frozen=True)
class Update:
    """One rolling update under load; `lost` and `sent` are None where no request could get there."""

    seconds: float
    lost: int | None = None
    sent: int | None = None


class Service:
    """A swarm service of the sample service.

    Parameters
    ----------
    client : docker.DockerClient
    node, network : str
        Ids of the node that runs all tasks, and of the network that they are on.
    """

    def __init__(self, client: docker.DockerClient, node: str, network: str) -> None:
        self.name = f"dockerlab-bench-{secrets.token_hex(3)}"
        self._api: Any = client.api  # its stubs say too little about services
        self._node = node
        self._network = network
        self._id = ""

    def create(self, image: Image) -> None:
        """Create it; return when all tasks are healthy."""
        self._id = self._api.create_service(**self._spec(image, 1))["ID"]
        self._wait(lambda: self._healthy(image) == REPLICAS)

    def update(self, image: Image, batch: int) -> None:
        """Update it; return when all new tasks are healthy and all old ones have ended."""
        version = self._api.inspect_service(self._id)["Version"]["Index"]
        old = {row["Id"] for row in self._containers()}
        self._api.update_service(self._id, version, **self._spec(image, batch))
        self._wait(self._updated)
        self._wait(lambda: not old & {row["Id"] for row in self._containers()})
        assert self._healthy(image) == REPLICAS

    def remove(self) -> None:
        """Remove it; return when its containers are gone."""
        if self._id:
            self._api.remove_service(self._id)
            self._wait(lambda: not self._containers(all=True))

    def _spec(self, image: Image, batch: int) -> dict[str, Any]:
        # Many retries stand for a start period: with one, Docker 25 would look every 5 s only.
        health = Healthcheck(test=["CMD-SHELL", HEALTH], interval=SECOND // 10, timeout=60 * SECOND, retries=100)
        container = ContainerSpec(
            image.id, labels=LABELS, healthcheck=health, stop_grace_period=GRACE_S * SECOND, stop_signal="SIGTERM"
        )
        return {
            "name": self.name,
            "labels": LABELS,
            "task_template": TaskTemplate(
                container,
                placement=Placement(constraints=[f"node.id=={self._node}"]),
                networks=[NetworkAttachmentConfig(self._network)],
            ),
            "mode": ServiceMode("replicated", replicas=REPLICAS),
            "endpoint_spec": EndpointSpec(mode="dnsrr"),
            "update_config": UpdateConfig(
                parallelism=batch, order="start-first", delay=0, monitor=1, failure_action="pause"
            ),
        }

    def _updated(self) -> bool:
        state = (self._api.inspect_service(self._id).get("UpdateStatus") or {}).get("State", "")
        assert state in {"", "updating", "completed"}, state
        return bool(state == "completed")

    def _healthy(self, image: Image) -> int:
        """Count the tasks that run; one with a health check runs, for swarm, once that has passed."""
        tasks = self._api.tasks({"service": self._id, "desired-state": "running"})
        return sum(
            task["Status"]["State"] == "running" and task["Spec"]["ContainerSpec"]["Image"] == image.id
            for task in tasks
        )

    def _containers(self, *, all: bool = False) -> Sequence[Mapping[str, Any]]:  # noqa: A002 - the engine's word
        label = f"com.docker.swarm.service.id={self._id}"
        rows: Sequence[Mapping[str, Any]] = self._api.containers(all=all, filters={"label": label})
        return rows

    def _wait(self, done: Callable[[], bool]) -> None:
        end_s = time.monotonic() + TIMEOUT_S
        while not done():
            if time.monotonic() > end_s:
                errors = {task["Status"].get("Err", "") for task in self._api.tasks({"service": self._id})}
                raise TimeoutError(f"The swarm does not get ready: {', '.join(sorted(errors - {''}))}")
            time.sleep(POLL_S)


@contextmanager
def one_node(client: docker.DockerClient) -> Iterator[str]:
    """Give the id of this node in a swarm; a swarm that was made for it is left again."""
    state = client.info()["Swarm"]
    if state["LocalNodeState"] != "inactive":
        if not state.get("ControlAvailable"):
            sys.exit("This engine is in a swarm, and not as a manager: nothing can be measured here.")
        yield state["NodeID"]
        return
    bridge = "docker_gwbridge"
    had_bridge = bool(client.networks.list(names=[bridge]))
    # The gossip between nodes and the path of their data are on the address that is advertised. Port 0: a free one.
    client.api.init_swarm(advertise_addr="127.0.0.1", listen_addr="127.0.0.1:0")
    try:
        yield client.info()["Swarm"]["NodeID"]
    finally:
        client.api.leave_swarm(force=True)
        if not had_bridge:
            _insist(lambda: client.api.remove_network(bridge))


@contextmanager
def network_for_tasks(client: docker.DockerClient) -> Iterator[str]:
    """Make a network for the tasks and for the container in front of them; give its id."""
    name = f"dockerlab-bench-{secrets.token_hex(3)}"
    network = client.networks.create(name, driver="overlay", attachable=True, labels=LABELS)
    try:
        yield str(network.id)
    finally:
        # The tasks' ends of it go a moment after their containers.
        _insist(network.remove)


@contextmanager
def front(client: docker.DockerClient, image: Image, network: str, service: str) -> Iterator[str]:
    """Hand the connections to a port on loopback on to the tasks; give the url, or "" where nothing gets through."""
    container = client.containers.run(
        image.id,
        ["nc", "-ll", "-p", "80", "-e", "nc", service, "80"],
        detach=True,
        network=network,
        ports={"80/tcp": ("127.0.0.1", 0)},
        labels=LABELS,
    )
    try:
        container.reload()
        ports: Any = container.ports
        url = f"http://127.0.0.1:{ports['80/tcp'][0]['HostPort']}"
        yield url if _answers(url) else ""
    finally:
        container.remove(force=True, v=True)


def _answers(url: str) -> bool:
    for _ in range(20):
        try:
            with urllib.request.urlopen(f"{url}/cgi-bin/whoami", timeout=2):
                return True
        except OSError:  # noqa: PERF203 - each try counts
            time.sleep(0.5)
    return False


def _insist(remove: Callable[[], object]) -> None:
    """Remove something that the engine may still use for a moment; say so where it never lets go of it."""
    said = ""
    for _ in range(60):
        try:
            remove()
        except docker.errors.NotFound:  # noqa: PERF203 - each try counts
            return
        except docker.errors.APIError as error:
            said = str(error.explanation)
            time.sleep(0.5)
        else:
            return
    print(f"  left over: {said}", file=sys.stderr)


def under_load(lab: Lab, url: str, update: Callable[[], None]) -> Update:
    """Do an update while requests come in."""

    def timed() -> float:
        begun_s = time.perf_counter()
        update()
        return time.perf_counter() - begun_s

    time.sleep(SETTLE_S)
    if not url:
        return Update(timed())
    with lab.traffic(url, rate=RATE_RPS) as traffic:
        time.sleep(1)
        seconds = timed()
        time.sleep(1)
    summary = traffic.results.summary()
    assert summary.sent_share >= 0.99
    answered = len(set(traffic.results.replica) - {""})
    print(f"    {answered} replicas answered; {summary.lost_by_kind}", file=sys.stderr)
    return Update(seconds, summary.lost, summary.sent)


def by_fleet(lab: Lab, images: Sequence[Image]) -> dict[int, Update]:
    """Update a fleet with each size of a batch, to and fro between the images."""
    web = lab.fleet("web", images[0], replicas=REPLICAS, stop_grace_s=GRACE_S)
    updates = {}
    for turn, batch in enumerate(BATCHES):

        def update(batch: int = batch, image: Image = images[(turn + 1) % 2]) -> None:
            rollout = web.rollout(image, dl.RollingUpdate(max_surge=batch, max_unavailable=0))
            assert rollout.status == "Complete"

        updates[batch] = under_load(lab, web.url, update)
    web.remove()
    return updates


def by_swarm(lab: Lab, images: Sequence[Image], node: str, network: str) -> dict[int, Update]:
    """Update a swarm service likewise."""
    service = Service(lab.client, node, network)
    updates = {}
    try:
        service.create(images[0])
        with front(lab.client, images[0], network, service.name) as url:
            for turn, batch in enumerate(BATCHES):

                def update(batch: int = batch, image: Image = images[(turn + 1) % 2]) -> None:
                    service.update(image, batch)

                updates[batch] = under_load(lab, url, update)
    finally:
        service.remove()
    return updates


def lost(updates: Sequence[Update], name: str) -> dict[str, object]:
    """Give what the updates lost and were sent, of all rounds together."""
    if any(update.lost is None for update in updates):
        return {f"lost_{name}": None, f"{name}_note": "measured without a load: no request gets to its tasks here"}
    return {
        f"lost_{name}": sum(update.lost or 0 for update in updates),
        f"sent_{name}": sum(update.sent or 0 for update in updates),
    }


def measure(lab: Lab) -> bool:
    """Let both update in turn, and print a line for each size of a batch."""
    images = [web_image(lab, 1), web_image(lab, 2)]
    ours: list[dict[int, Update]] = []
    peer: list[dict[int, Update]] = []
    with one_node(lab.client) as node, network_for_tasks(lab.client) as network:
        contenders = [(ours, partial(by_fleet, lab, images)), (peer, partial(by_swarm, lab, images, node, network))]
        for turn in range(ROUNDS):
            for done, contend in contenders[:: -1 if turn % 2 else 1]:
                done.append(contend())
                print(f"  {contend.func.__name__}: {done[-1]}", file=sys.stderr)
    held = []
    for batch in BATCHES:
        sides = {"ours": [one[batch] for one in ours], "peer": [one[batch] for one in peer]}
        seconds = {name: [update.seconds for update in updates] for name, updates in sides.items()}
        more = {**lost(sides["ours"], "ours"), **lost(sides["peer"], "peer")}
        held.append(report(QUESTION.format(batch), seconds["ours"], seconds["peer"], limit=LIMIT, more=more))
    return all(held)


def main() -> int:
    """Measure and print."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was made is removed then too
    try:
        lab = Lab(engine="docker")
    except (EngineNotFoundError, RemoteEngineError) as error:
        for batch in BATCHES:
            note = f"not measured, as it takes Docker Engine: {error.message}"
            print(json.dumps({"question": QUESTION.format(batch), "note": note}), flush=True)
        return 0
    with lab:
        return 0 if measure(lab) else 1


if __name__ == "__main__":
    sys.exit(main())

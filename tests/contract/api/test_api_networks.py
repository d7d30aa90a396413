"""Networks: made, listed, joined, left, removed; names and addresses on them."""

from __future__ import annotations

import ipaddress
from typing import Any

import docker.errors
import pytest
from bench import Bench
from support import until

SERVE = ["sh", "-c", "mkdir -p /w && hostname > /w/index.html && exec httpd -f -p 80 -h /w"]


def status_of(call: Any, *arguments: Any, **options: Any) -> tuple[int, str]:
    with pytest.raises(docker.errors.APIError) as caught:
        call(*arguments, **options)
    return caught.value.status_code, str(caught.value.explanation)


def asked(container: Any, host: str) -> str:
    return str(container.exec_run(["timeout", "2", "wget", "-q", "-O", "-", f"http://{host}/"]).output.decode().strip())


def test_a_whole_life(bench: Bench) -> None:
    made = bench.network(labels={"a": "b"})
    told = bench.api.inspect_network(made.id)
    assert (told["Name"], told["Id"], told["Driver"], told["Scope"]) == (made.name, made.id, "bridge", "local")
    assert (told["Internal"], told["Attachable"], told["Ingress"]) == (False, False, False)
    assert told["Labels"] == {**bench.labels, "a": "b"}
    assert told["Containers"] == {}
    assert len(made.id) == 64
    (config,) = told["IPAM"]["Config"]
    assert ipaddress.ip_network(config["Subnet"]).is_private
    assert bench.api.inspect_network(made.name)["Id"] == bench.api.inspect_network(made.id[:10])["Id"] == made.id
    made.remove()
    with pytest.raises(docker.errors.NotFound, match=f"network {made.id} not found"):
        bench.api.inspect_network(made.id)


def test_a_name_twice(bench: Bench) -> None:
    made = bench.network()
    answer = status_of(bench.client.networks.create, made.name, check_duplicate=True)
    assert answer == (409, f"network with name {made.name} already exists")


def test_the_ones_that_are_always_there(bench: Bench) -> None:
    names = {entry["Name"]: entry["Driver"] for entry in bench.api.networks()}
    assert {"bridge": "bridge", "host": "host", "none": "null"}.items() <= names.items()
    for name in ("bridge", "host", "none"):
        status, text = status_of(bench.api.remove_network, name)
        assert (status, "pre-defined network and cannot be removed" in text) == (403, True)


def test_listing(bench: Bench) -> None:
    first, second = bench.network(labels={"role": "a"}), bench.network(labels={"role": "b"})

    def names(**filters: Any) -> set[str]:
        given = {**filters, "label": [bench.filter["label"], *filters.get("label", ())]}
        return {entry["Name"] for entry in bench.api.networks(filters=given)}

    assert names() == {first.name, second.name}
    assert names(label=["role=a"]) == {first.name}
    assert names(name=[second.name]) == {second.name}
    assert names(id=[first.id[:12]]) == {first.name}
    assert names(driver=["bridge"]) == {first.name, second.name}
    assert names(driver=["host"]) == set()
    assert names(type=["custom"]) == {first.name, second.name}
    assert names(type=["builtin"]) == set()


def test_containers_reach_each_other_by_name_alias_and_address(bench: Bench) -> None:
    network = bench.network()
    api = bench.api
    config = api.create_networking_config({network.name: api.create_endpoint_config(aliases=["web", "other"])})
    server = api.create_container(
        bench.base, SERVE, name=bench.fresh(), labels=bench.labels, networking_config=config,
        host_config=api.create_host_config(network_mode=network.name, init=True),
    )  # fmt: skip
    api.start(server)
    second = bench.start(SERVE, network=network.name, name=bench.fresh(), init=True)
    client = bench.start(network=network.name)
    told = api.inspect_container(server)
    endpoint = told["NetworkSettings"]["Networks"][network.name]
    assert {"web", "other"} <= set(endpoint["Aliases"])
    assert endpoint["NetworkID"] == network.id
    hostname = told["Id"][:12]
    for host in ("web", "other", told["Name"][1:], hostname, endpoint["IPAddress"]):
        until(lambda host=host: asked(client, host) == hostname)
    # Two servers on the same port of one network, and each also by its own localhost.
    assert asked(client, second.name) == second.id[:12]
    assert asked(second, "localhost") == asked(second, "127.0.0.1") == second.id[:12]
    containers = api.inspect_network(network.id)["Containers"]
    assert set(containers) == {told["Id"], second.id, client.id}
    assert containers[told["Id"]]["Name"] == told["Name"][1:]
    assert containers[told["Id"]]["IPv4Address"].split("/")[0] == endpoint["IPAddress"]
    assert len({entry["IPv4Address"] for entry in containers.values()}) == 3


def test_names_are_not_known_elsewhere(bench: Bench) -> None:
    first, second = bench.network(), bench.network()
    server = bench.start(SERVE, network=first.name, name=bench.fresh(), init=True)
    near, far = bench.start(network=first.name), bench.start(network=second.name)
    until(lambda: asked(near, server.name) == server.id[:12])
    assert server.id[:12] not in asked(far, server.name)


def test_joining_and_leaving(bench: Bench) -> None:
    first, second = bench.network(), bench.network()
    server = bench.start(SERVE, network=first.name, name=bench.fresh(), init=True)
    client = bench.start(network=second.name)
    second.connect(server, aliases=["joined"])
    server.reload()
    assert set(server.attrs["NetworkSettings"]["Networks"]) == {first.name, second.name}
    until(lambda: asked(client, "joined") == server.id[:12])
    assert asked(client, server.name) == server.id[:12]
    assert status_of(second.connect, server)[0] in (403, 409)
    second.disconnect(server)
    server.reload()
    assert set(server.attrs["NetworkSettings"]["Networks"]) == {first.name}
    assert server.id[:12] not in asked(client, "joined")
    status, text = status_of(second.disconnect, server)
    assert status in (403, 404, 500)
    assert "is not connected to" in text


def test_it_is_not_removed_while_it_is_used(bench: Bench) -> None:
    network = bench.network()
    made = bench.start(network=network.name)
    status, text = status_of(network.remove)
    assert status in (403, 409)
    assert "has active endpoints" in text
    made.remove(force=True)
    network.remove()


def test_prune_with_a_label(bench: Bench) -> None:
    used, idle = bench.network(), bench.network()
    bench.start(network=used.name)
    assert bench.client.networks.prune(filters=bench.filter)["NetworksDeleted"] == [idle.name]
    assert bench.api.inspect_network(used.name)["Id"] == used.id
    assert not bench.client.networks.prune(filters=bench.filter)["NetworksDeleted"]


def test_no_network(bench: Bench) -> None:
    made = bench.start(SERVE, network_mode="none", init=True)
    until(lambda: asked(made, "127.0.0.1") == made.id[:12])
    made.reload()
    assert made.attrs["HostConfig"]["NetworkMode"] == "none"
    assert made.attrs["NetworkSettings"]["Networks"]["none"]["IPAddress"] == ""


def test_the_network_of_the_machine(bench: Bench) -> None:
    made = bench.start(network_mode="host")
    made.reload()
    assert list(made.attrs["NetworkSettings"]["Networks"]) == ["host"]
    assert made.exec_run("true")[0] == 0


def test_a_container_keeps_its_network_over_a_restart(bench: Bench) -> None:
    network = bench.network()
    server = bench.start(SERVE, network=network.name, name=bench.fresh(), init=True)
    client = bench.start(network=network.name)
    until(lambda: asked(client, server.name) == server.id[:12])
    server.restart(timeout=1)
    until(lambda: asked(client, server.name) == server.id[:12])


def test_a_subnet_of_ones_own(bench: Bench) -> None:
    from docker.types import IPAMConfig, IPAMPool

    pool = IPAMPool(subnet="10.213.7.0/24", gateway="10.213.7.1")
    network = bench.network(ipam=IPAMConfig(pool_configs=[pool]))
    made = bench.start(network=network.name)
    made.reload()
    address = made.attrs["NetworkSettings"]["Networks"][network.name]["IPAddress"]
    assert ipaddress.ip_address(address) in ipaddress.ip_network("10.213.7.0/24")

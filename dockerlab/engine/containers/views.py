"""What Docker shows of a container: ``docker inspect`` and ``docker ps``."""

from __future__ import annotations

import shlex
import time
from typing import Any

from dockerlab.engine.containers import clock, ports
from dockerlab.engine.containers.container import Container
from dockerlab.engine.containers.networks import Networks
from dockerlab.engine.refusals import RefusalError

_EMPTY = {"LinkLocalIPv6Address": "", "LinkLocalIPv6PrefixLen": 0, "SecondaryIPAddresses": None}
_NO_IPV6 = {"IPv6Gateway": "", "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0}


def inspect(container: Container, networks: Networks, driver: str, size: tuple[int, int] | None) -> dict[str, Any]:
    """Give ``GET /containers/{id}/json``; `size` is that of the writable layer and of the whole root."""
    record = container.record
    folder = container.folder
    made = bool(record.started_ns)
    row = {
        "Id": record.id,
        "Created": clock.written(record.created_ns),
        "Path": record.argv[0],
        "Args": record.argv[1:],
        "State": _state(container),
        "Image": record.image_id,
        "ResolvConfPath": str(folder / "resolv.conf") if made else "",
        "HostnamePath": str(folder / "hostname") if made else "",
        "HostsPath": str(folder / "hosts") if made else "",
        "LogPath": str(container.log.path) if made else "",
        "Name": f"/{record.name}",
        "RestartCount": record.restarts,
        "Driver": driver,
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": sorted(container.execs) or None,
        "HostConfig": record.host,
        "GraphDriver": {"Data": None, "Name": driver},
        "Mounts": record.mounts,
        "Config": record.config,
        "NetworkSettings": _network_settings(container, networks),
    }
    if size:
        row.update(SizeRw=size[0], SizeRootFs=size[1])
    return row


def row_of(container: Container, networks: Networks, image: str, size: tuple[int, int] | None) -> dict[str, Any]:
    """Give one row of ``GET /containers/json``."""
    record = container.record
    row = {
        "Id": record.id,
        "Names": [f"/{record.name}"],
        "Image": image,
        "ImageID": record.image_id,
        "Command": command_text(record.argv),
        "Created": record.created_ns // 10**9,
        "Ports": _port_rows(container),
        "Labels": record.labels,
        "State": record.status,
        "Status": status_text(container),
        "HostConfig": {"NetworkMode": record.host["NetworkMode"]},
        "NetworkSettings": {"Networks": _networks(container, networks)},
        "Mounts": record.mounts,
    }
    if size:
        row.update(SizeRw=size[0], SizeRootFs=size[1])
    return row


def command_text(argv: list[str]) -> str:
    """Write a command as one line."""
    return " ".join(argv[:1] + [shlex.quote(one) if one else "''" for one in argv[1:]])


def status_text(container: Container) -> str:  # noqa: PLR0911  one for each status
    """Write the status as ``docker ps`` shows it: ``Up 2 seconds (healthy)``, ``Exited (137) 3 hours ago``."""
    record = container.record
    if record.status == "created":
        return "Created"
    if record.status == "removing":
        return "Removal In Progress"
    if record.status == "dead":
        return "Dead"
    ended = clock.ago(_since(record.finished_ns))
    if record.status == "restarting":
        return f"Restarting ({record.exit_code}) {ended} ago"
    if record.status == "exited":
        return f"Exited ({record.exit_code}) {ended} ago"
    up = f"Up {clock.ago(container.up_s())}"
    if record.status == "paused":
        return f"{up} (Paused)"
    if record.health is None:
        return up
    status = record.health["Status"]
    return f"{up} ({'health: starting' if status == 'starting' else status})"


def _since(time_ns: int) -> float:
    return max(0.0, (time.time_ns() - time_ns) / 1e9)


def _state(container: Container) -> dict[str, Any]:
    record = container.record
    state = {
        "Status": record.status,
        "Running": record.running or record.status == "restarting",
        "Paused": record.status == "paused",
        "Restarting": record.status == "restarting",
        "OOMKilled": False,
        "Dead": record.status == "dead",
        "Pid": container.process.pid if container.process else 0,
        "ExitCode": record.exit_code,
        "Error": record.error,
        "StartedAt": clock.written(record.started_ns),
        "FinishedAt": clock.written(record.finished_ns),
    }
    if record.health is not None:
        state["Health"] = record.health
    return state


def _network_settings(container: Container, networks: Networks) -> dict[str, Any]:
    found = _networks(container, networks)
    main = found.get("bridge") or {}
    return {
        "Bridge": "",
        "SandboxID": container.id if container.process else "",
        "HairpinMode": False,
        **_EMPTY,
        "Ports": _port_table(container),
        "SandboxKey": "",
        "SecondaryIPv6Addresses": None,
        "EndpointID": main.get("EndpointID", ""),
        "Gateway": main.get("Gateway", ""),
        **_NO_IPV6,
        "IPAddress": main.get("IPAddress", ""),
        "IPPrefixLen": main.get("IPPrefixLen", 0),
        "MacAddress": main.get("MacAddress", ""),
        "Networks": found,
    }


def _networks(container: Container, networks: Networks) -> dict[str, Any]:
    found = {}
    for name, wanted in container.record.networks.items():
        try:
            network = networks.get(name)
        except RefusalError:
            network = None
        endpoint = network.endpoints.get(container.id) if network else None
        subnet = network.subnet if network and endpoint else None
        aliases = list(wanted.get("Aliases") or ())
        if network and not network.predefined:
            aliases = list(dict.fromkeys((*aliases, container.id[:12])))
        found[name] = {
            "IPAMConfig": wanted.get("IPAMConfig"),
            "Links": None,
            "Aliases": aliases or None,
            "NetworkID": network.id if network else "",
            "EndpointID": endpoint.id if endpoint else "",
            "Gateway": network.gateway if network and subnet else "",
            "IPAddress": endpoint.address if endpoint else "",
            "IPPrefixLen": subnet.prefixlen if subnet else 0,
            **_NO_IPV6,
            "MacAddress": endpoint.mac if endpoint else "",
            "DriverOpts": None,
        }
    return found


def _port_table(container: Container) -> dict[str, Any]:
    process = container.process
    if process is None or container.record.host["NetworkMode"] == "host":
        return {}
    table: dict[str, Any] = dict.fromkeys(container.record.config.get("ExposedPorts") or {})
    table = {"/".join(map(str, ports.parse(key))): None for key in table}
    for (port, protocol), (host, public) in process.ports.items():
        table[f"{port}/{protocol}"] = [{"HostIp": host, "HostPort": str(public)}]
    return table


def _port_rows(container: Container) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for key, bound in _port_table(container).items():
        port, _, protocol = key.partition("/")
        if not bound:
            rows.append({"PrivatePort": int(port), "Type": protocol})
        rows += [
            {"IP": one["HostIp"], "PrivatePort": int(port), "PublicPort": int(one["HostPort"]), "Type": protocol}
            for one in bound or ()
        ]
    return rows

"""All networks, and what may be asked of one."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dockerlab.engine import files
from dockerlab.engine.containers import fields
from dockerlab.engine.containers.network import PREDEFINED, Network
from dockerlab.engine.refusals import RefusalError, bad, conflict

_POOLS = (
    *(ipaddress.IPv4Network(f"172.{number}.0.0/16") for number in range(18, 32)),
    *ipaddress.IPv4Network("192.168.0.0/16").subnets(new_prefix=20),
)


class Networks:
    """All networks, kept in one file. Short, but `create` and `remove` write it.

    Parameters
    ----------
    path : Path
        The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._networks: dict[str, Network] = {}
        kept: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError):
            kept = json.loads(path.read_text(encoding="utf-8"))
        for row in kept.get("networks", ()):
            with contextlib.suppress(KeyError, TypeError, ValueError):
                subnet = ipaddress.IPv4Network(row.pop("subnet")) if row.get("subnet") else row.pop("subnet", None)
                network = Network(**row, subnet=subnet)
                self._networks[network.name] = network
        for name, driver in PREDEFINED.items():
            if name not in self._networks:
                made = Network(name, secrets.token_hex(32), driver, time.time_ns())
                if name == "bridge":
                    made.subnet, made.gateway = ipaddress.IPv4Network("172.17.0.0/16"), "172.17.0.1"
                    made.options = {"com.docker.network.bridge.default_bridge": "true"}
                self._networks[name] = made
        self._save()

    def get(self, name: str) -> Network:
        """Find one by name, id, or the unique start of an id; 404 where there is none."""
        name = "bridge" if name == "default" else name
        if name in self._networks:
            return self._networks[name]
        found = [one for one in self._networks.values() if name and one.id.startswith(name)]
        if len(found) > 1:
            raise bad(f"network {name} is ambiguous ({len(found)} matches found based on ID prefix)")
        if not found:
            raise RefusalError(404, f"network {name} not found")
        return found[0]

    def list(self) -> list[Network]:
        """Give all, in no order."""
        return list(self._networks.values())

    def create(self, body: Mapping[str, Any]) -> Network:
        """Make one as POST /networks/create says.

        Raises
        ------
        RefusalError
            400: bad input. 403: the pool overlaps. 404: no such driver. 409: the name is taken.
        """
        name, driver = fields.text(body, "Name"), fields.text(body, "Driver") or "bridge"
        if not name.strip() or "/" in name:
            raise bad(f"invalid network name: {name!r}")
        if name in ("default", *PREDEFINED):
            raise RefusalError(403, f"operation is not permitted on predefined {name} network ")
        if name in self._networks:
            raise conflict(f"network with name {name} already exists")
        if driver != "bridge":
            raise _no_such_driver(driver)
        if fields.yes(body, "EnableIPv6"):
            raise RefusalError(501, "the embedded engine of dockerlab has no IPv6 networks")
        subnet, gateway, chosen = self._pool(fields.table(body, "IPAM"))
        options = {key: str(value) for key, value in fields.table(body, "Options").items()}
        network = Network(
            name,
            secrets.token_hex(32),
            driver,
            time.time_ns(),
            subnet,
            gateway,
            fields.labels(body),
            options,
            internal=fields.yes(body, "Internal"),
            attachable=fields.yes(body, "Attachable"),
            chosen=chosen,
        )
        self._networks[name] = network
        self._save()
        return network

    def remove(self, network: Network) -> None:
        """Remove one; 403 where it is predefined or a container is on it."""
        if network.predefined:
            raise RefusalError(403, f"{network.name} is a pre-defined network and cannot be removed")
        if network.endpoints:
            raise RefusalError(
                403,
                f"error while removing network: network {network.name} id {network.id} has active endpoints",
            )
        self._networks.pop(network.name, None)
        self._save()

    def _pool(self, ipam: Mapping[str, Any]) -> tuple[ipaddress.IPv4Network, str, bool]:
        if fields.text(ipam, "Driver") not in ("", "default"):
            raise RefusalError(404, f"IPAM driver {ipam['Driver']} not found")
        taken = [one.subnet for one in self._networks.values() if one.subnet]
        config = fields.tables(ipam, "Config")
        if len(config) > 1:
            raise bad("bridge driver doesn't support multiple subnets")
        row = config[0] if config else {}
        text = fields.text(row, "Subnet")
        if text:
            try:
                subnet = ipaddress.IPv4Network(text, strict=False)
            except ValueError:
                raise bad(f"Invalid subnet {text} : invalid CIDR address: {text}") from None
            if subnet.num_addresses < 4:
                raise bad(f"Invalid subnet {text} : it has no room for a gateway and a container")
            if any(subnet.overlaps(one) for one in taken):
                raise RefusalError(403, "Pool overlaps with other one on this address space")
        else:
            free = (one for one in _POOLS if not any(one.overlaps(other) for other in taken))
            found = next(free, None)
            if found is None:
                raise RefusalError(
                    500, "could not find an available, non-overlapping IPv4 address pool among the defaults"
                )
            subnet = found
        gateway = fields.text(row, "Gateway") or str(subnet.network_address + 1)
        if not _is_in(gateway, subnet):
            raise bad(f"failed to allocate gateway ({gateway}): Requested address is out of range")
        return subnet, gateway, bool(text)

    def _save(self) -> None:
        rows = []
        for one in self._networks.values():
            row = {key: getattr(one, key) for key in ("name", "id", "driver", "created_ns", "gateway", "labels")}
            row.update(options=one.options, internal=one.internal, attachable=one.attachable, chosen=one.chosen)
            rows.append({**row, "subnet": str(one.subnet) if one.subnet else None})
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.replace(self._path, json.dumps({"networks": rows}).encode())


def check_endpoint(network: Network, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Check what a container wants of a network, and give what is kept of it.

    Raises
    ------
    RefusalError
        400: aliases or an address where there cannot be any.
    """
    aliases = fields.texts(wanted, "Aliases") or []
    if aliases and network.predefined:
        raise bad("network-scoped alias is supported only for containers in user defined networks")
    ipam = fields.table(wanted, "IPAMConfig")
    address = fields.text(ipam, "IPv4Address")
    if address:
        if network.predefined:
            raise bad("user specified IP address is supported on user defined networks only")
        if not network.chosen or network.subnet is None:
            raise bad(
                "user specified IP address is supported only when connecting to networks with user configured subnets"
            )
        if not _is_in(address, network.subnet):
            raise bad(f"Invalid address {address}: It does not belong to any of this network's subnets")
    if fields.texts(wanted, "Links"):
        raise RefusalError(501, "the embedded engine of dockerlab has no links: use a network of your own and names")
    return {"Aliases": aliases, "IPAMConfig": ipam or None}


def _is_in(address: str, subnet: ipaddress.IPv4Network) -> bool:
    try:
        return ipaddress.IPv4Address(address) in subnet
    except ValueError:
        return False


def _no_such_driver(driver: str) -> RefusalError:
    if driver in ("host", "null"):
        return RefusalError(403, f'only one instance of "{driver}" network is allowed')
    if driver in ("overlay", "macvlan", "ipvlan"):
        return RefusalError(501, f"the embedded engine of dockerlab has no networks of the kind {driver}")
    return RefusalError(404, f'plugin "{driver}" not found')

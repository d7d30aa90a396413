"""A network: its address pool, and who has which address. The isolator makes the connections themselves."""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dockerlab.engine.containers.clock import written
from dockerlab.engine.containers.volumes import has_labels
from dockerlab.engine.refusals import RefusalError, bad

PREDEFINED = {"bridge": "bridge", "host": "host", "none": "null"}


@dataclass
class Endpoint:
    """A container's place on a network."""

    id: str
    name: str
    address: str
    names: tuple[str, ...]

    @property
    def mac(self) -> str:
        """The address that Docker would give its interface."""
        return "02:42:" + ":".join(f"{int(part):02x}" for part in self.address.split(".")) if self.address else ""


@dataclass
class Network:
    """A network, and the running containers on it by id."""

    name: str
    id: str
    driver: str
    created_ns: int
    subnet: ipaddress.IPv4Network | None = None
    gateway: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    options: dict[str, str] = field(default_factory=dict)
    internal: bool = False
    attachable: bool = False
    chosen: bool = False
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    _last: int = 0

    @property
    def predefined(self) -> bool:
        """Whether it is always there."""
        return self.name in PREDEFINED

    def join(self, container: str, name: str, names: tuple[str, ...], wanted: str = "") -> Endpoint:
        """Give a container a place.

        Raises
        ------
        RefusalError
            The wanted address is taken or outside (400, 403), or there are none left (500).
        """
        address = self._address(wanted) if self.subnet else ""
        made = Endpoint(secrets.token_hex(32), name, address, names)
        self.endpoints[container] = made
        return made

    def leave(self, container: str) -> None:
        """Free a container's place."""
        self.endpoints.pop(container, None)

    def _address(self, wanted: str) -> str:
        if self.subnet is None:
            return ""
        taken = {one.address for one in self.endpoints.values()} | {self.gateway}
        if wanted:
            if wanted in taken:
                raise RefusalError(403, "Address already in use")
            return wanted
        size = self.subnet.num_addresses
        base = int(self.subnet.network_address)
        for step in range(1, size):  # go on behind the last one, as Docker does: an address is not reused at once
            offset = (self._last + step) % size
            if 0 < offset < size - 1:
                address = str(ipaddress.IPv4Address(base + offset))
                if address not in taken:
                    self._last = offset
                    return address
        raise RefusalError(500, f"no available IPv4 addresses on this network's address pools: {self.name} ({self.id})")

    def shown(self, *, containers: bool = True) -> dict[str, Any]:
        """Give what Docker shows of it."""
        config = [{"Subnet": str(self.subnet), "Gateway": self.gateway}] if self.subnet else []
        length = self.subnet.prefixlen if self.subnet else 0
        rows = {
            key: {
                "Name": one.name,
                "EndpointID": one.id,
                "MacAddress": one.mac,
                "IPv4Address": f"{one.address}/{length}" if one.address else "",
                "IPv6Address": "",
            }
            for key, one in (self.endpoints.items() if containers else ())
        }
        return {
            "Name": self.name,
            "Id": self.id,
            "Created": written(self.created_ns),
            "Scope": "local",
            "Driver": self.driver,
            "EnableIPv6": False,
            "IPAM": {"Driver": "default", "Options": None, "Config": config},
            "Internal": self.internal,
            "Attachable": self.attachable,
            "Ingress": False,
            "ConfigFrom": {"Network": ""},
            "ConfigOnly": False,
            "Containers": rows,
            "Options": self.options,
            "Labels": self.labels,
        }


def passes(network: Network, filters: Mapping[str, list[str]]) -> bool:
    """Tell whether a network passes filters: name, id, label, driver, type, scope; 400 for a type that there is not."""
    for kind in filters.get("type", ()):
        if kind not in ("builtin", "custom"):
            raise bad(f"invalid filter: 'type'='{kind}'")
    tests = {
        "name": lambda one: one in network.name,
        "id": network.id.startswith,
        "driver": lambda one: one == network.driver,
        "scope": lambda one: one == "local",
        "type": lambda one: one == ("builtin" if network.predefined else "custom"),
    }
    if not all(any(map(test, filters[name])) for name, test in tests.items() if filters.get(name)):
        return False
    return has_labels(network.labels, filters.get("label", ()))

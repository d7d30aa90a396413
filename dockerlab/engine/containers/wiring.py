"""Containers on their networks: addresses while they run, and the names that they know each other by."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path
from typing import Any

from dockerlab.engine.containers import hosts
from dockerlab.engine.containers.container import Container
from dockerlab.engine.containers.network import Network
from dockerlab.engine.containers.networks import Networks, check_endpoint
from dockerlab.engine.containers.record import Record
from dockerlab.engine.refusals import unsupported

_LATER_S = 0.02


def hostname(record: Record) -> str:
    """Give the name of a container's machine where nobody chose one."""
    return socket.gethostname() if record.host["NetworkMode"] == "host" else record.id[:12]


class Wiring:
    """Joins containers to networks and keeps their /etc/hosts up to date.

    Parameters
    ----------
    networks : Networks
    isolator : Isolator
    events : Events
    """

    def __init__(self, networks: Networks, isolator: Any, events: Any) -> None:
        self._networks = networks
        self._events = events
        self._isolator = isolator
        self._stale: set[str] = set()
        self._running: dict[str, Container] = {}
        self._task: asyncio.Task[None] | None = None

    def join(self, container: Container) -> tuple[str, ...]:
        """Give a container that is about to start its places and its three files; give its addresses."""
        addresses = [self._place(container, name) for name in container.record.networks]
        self._running[container.id] = container
        self._write(container)
        self._later(container)
        for network in self._joined(container):
            self.tell(network, container, "connect")
        return tuple(one for one in addresses if one)

    def leave(self, container: Container) -> None:
        """Free the places of a container that has ended."""
        self._running.pop(container.id, None)
        self._later(container)
        for network in self._joined(container):
            network.leave(container.id)
            self.tell(network, container, "disconnect")

    def is_internal(self, container: Container) -> bool:
        """Tell whether none of a container's networks leads out."""
        return _is_internal(self._joined(container))

    def tell(self, network: Network, container: Container, action: str) -> None:
        """Tell everybody that a container came to a network, or went."""
        about = {"container": container.id, "name": network.name, "type": network.driver}
        self._events.emit("network", action, network.id, about)

    def _check_internal(self, container: Container, later: list[Network]) -> None:
        if _is_internal(later) != self.is_internal(container):
            raise unsupported(
                "the embedded engine of dockerlab cannot give a running container a way out, or take it away, "
                "by an internal network: stop the container first"
            )

    def _joined(self, container: Container) -> list[Network]:
        return [network for network in self._networks.list() if container.id in network.endpoints]

    def connect(self, container: Container, network: Network) -> None:
        """Add a running container to one more network; 501 where that would open or close its way out."""
        self._check_internal(container, [*self._joined(container), network])
        self._place(container, network.name)
        self._changed(container)

    def disconnect(self, container: Container, network: Network) -> None:
        """Take a running container off a network; 501 where that would close its way out."""
        self._check_internal(container, [one for one in self._joined(container) if one is not network])
        self._later(container)
        network.leave(container.id)
        self._changed(container)

    def renamed(self, container: Container) -> None:
        """Make others know the new name."""
        for network in self._joined(container):
            network.endpoints[container.id].name = container.name
            network.endpoints[container.id].names = _names(container, network.name)
        self._later(container)

    def _place(self, container: Container, name: str) -> str:
        network = self._networks.get(name)
        wanted = check_endpoint(network, container.record.networks[name])
        address = (wanted.get("IPAMConfig") or {}).get("IPv4Address") or ""
        return network.join(container.id, container.name, _names(container, network.name), address).address

    def _changed(self, container: Container) -> None:
        self._isolator.join(
            container.id, tuple(network.endpoints[container.id].address for network in self._joined(container))
        )
        self._write(container)
        self._later(container)

    def _write(self, container: Container) -> None:
        host = container.record.host
        with contextlib.suppress(FileNotFoundError):  # removed meanwhile
            hosts.write(container.folder / "hosts", self._hosts(container))
            hosts.write(container.folder / "hostname", f"{container.record.config.get('Hostname') or ''}\n")
            hosts.write(container.folder / "resolv.conf", hosts.resolv_text(host))

    def _hosts(self, container: Container) -> str:
        own, others = [], []
        config = container.record.config
        name = config.get("Hostname") or ""
        full = f"{name}.{config['Domainname']}" if config.get("Domainname") else ""
        for network in self._networks.list():
            mine = network.endpoints.get(container.id)
            if mine is None or not mine.address:
                continue
            own.append((mine.address, tuple(one for one in (full, name) if one)))
            if not network.predefined:  # as in Docker, names are for networks of one's own
                others += [(one.address, one.names) for one in network.endpoints.values()]
        return hosts.hosts_text(container.record.host.get("ExtraHosts") or (), [*own, *others])

    def _later(self, container: Container) -> None:
        """Write the files of its neighbours soon, once for many changes."""
        for network in self._joined(container):
            if not network.predefined:
                self._stale |= set(network.endpoints)
        if self._stale and self._task is None:
            self._task = asyncio.ensure_future(self._refresh())

    async def _refresh(self) -> None:
        await asyncio.sleep(_LATER_S)
        stale, self._stale, self._task = self._stale, set(), None
        texts: dict[Path, str] = {}
        for number, key in enumerate(sorted(stale)):
            container = self._running.get(key)
            if container:
                texts[container.folder / "hosts"] = self._hosts(container)
            if number % 10 == 9:
                await asyncio.sleep(0)
        await asyncio.to_thread(_write_all, texts)


def _is_internal(networks: list[Network]) -> bool:
    return bool(networks) and all(network.internal for network in networks)


def _names(container: Container, network: str) -> tuple[str, ...]:
    aliases = container.record.networks.get(network, {}).get("Aliases") or ()
    return tuple(dict.fromkeys((container.name, *aliases, container.id[:12])))


def _write_all(texts: dict[Path, str]) -> None:
    for path, content in texts.items():
        with contextlib.suppress(OSError):
            if path.exists():
                hosts.write(path, content)

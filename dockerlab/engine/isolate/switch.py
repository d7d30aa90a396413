"""The network of the containers: who listens where, and who may reach whom.

A container's ``bind`` and ``connect`` come here before the kernel carries them out (see ``mediator``). A port that it
binds is in truth a port of this machine's loopback: the published one, or one that nobody else is told. So two
containers both listen on port 80, a published port is served by the container itself without anybody in between, and a
connection to another container is one on loopback. Decisions are made here, as plain values; nothing here blocks.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
from dataclasses import dataclass, field
from pathlib import Path

from dockerlab.engine.isolate.spec import Published
from dockerlab.engine.refusals import RefusalError, bad, failed

LOOPBACK = "127.0.0.1"
_DNS = 53
_KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
_ANYWHERE = ("", "0.0.0.0", "::")  # noqa: S104 - nothing is bound there: it stands for loopback here

Port = tuple[int, str]
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass
class Endpoint:
    """The place of one container in the network.

    Attributes
    ----------
    id : str
        The container.
    network : str
        ``"none"`` or the name of a network.
    internal : bool
        Whether there is no way out of its networks.
    addresses : tuple of str
        Its own IPv4 addresses.
    apart : bool
        Whether the kernel gives it a network namespace of its own.
    published : dict
        Container port and protocol: address and port of this machine.
    hostname, domainname : str
        Its names.
    tracers : set of int
        The processes that hold it, where the kernel has no namespace for its processes.
    main : int
        Its main process.
    bound : dict
        Port and protocol that it listens on: the port of this machine's loopback, and whether others may reach it.
    """

    id: str
    network: str = "bridge"
    internal: bool = False
    addresses: tuple[str, ...] = ()
    apart: bool = False
    hostname: str = ""
    domainname: str = ""
    tracers: set[int] = field(default_factory=set)
    main: int = 0
    published: dict[Port, tuple[str, int]] = field(default_factory=dict)
    bound: dict[Port, tuple[int, bool]] = field(default_factory=dict)
    held: dict[Port, socket.socket] = field(default_factory=dict)


@dataclass(frozen=True)
class Route:
    """Where a connection goes: to ``address`` (by a socket of this machine), or as the kernel would do, or nowhere."""

    address: tuple[str, int] | None = None
    error: int = 0


PASS = Route()


class Switch:
    """All endpoints."""

    def __init__(self) -> None:
        self._endpoints: dict[str, Endpoint] = {}
        self._taken: dict[tuple[int, str], str] = {}  # port of this machine: container

    def attach(self, endpoint: Endpoint, wanted: tuple[Published, ...]) -> None:
        """Take a container in, and reserve the ports that it publishes.

        Raises
        ------
        RefusalError
            A port is taken (500, in Docker's words), or an address is not one of loopback (400).
        """
        self._endpoints[endpoint.id] = endpoint
        try:
            for item in wanted:
                self._publish(endpoint, item)
        except BaseException:
            self.detach(endpoint.id)
            raise

    def detach(self, container: str) -> None:
        """Forget a container; its ports are free again."""
        endpoint = self._endpoints.pop(container, None)
        if endpoint is None:
            return
        for held in endpoint.held.values():
            held.close()
        self._taken = {port: owner for port, owner in self._taken.items() if owner != container}

    def join(self, container: str, addresses: tuple[str, ...]) -> None:
        """Give a running container other addresses: it was connected to a network, or taken off one."""
        if container in self._endpoints:
            self._endpoints[container].addresses = addresses

    def listen(self, endpoint: Endpoint, address: Address, port: int, protocol: str) -> socket.socket | int:
        """Decide on ``bind``: give the socket to take instead, or the number of an error, or -1 to let it pass."""
        inside = _is_loopback(address)
        if not (inside or address.is_unspecified or str(address) in endpoint.addresses):
            return -1
        if protocol == "udp" and port == 0:
            # A client that asks for any port, for instance to look a name up
            return socket.socket(socket.AF_INET, socket.SOCK_DGRAM) if endpoint.apart else -1
        key = (port, protocol)
        public = not inside
        if public and key in endpoint.published:
            return self._hand_over(endpoint, key)
        ours = endpoint.bound.get(key, (0, False))[0] if port else 0
        made = socket.socket(socket.AF_INET, _KINDS[protocol])
        try:
            _reuse(made, protocol)
            made.bind((LOOPBACK, ours))
        except OSError as error:
            made.close()
            return error.errno or errno.EADDRINUSE
        real = made.getsockname()[1]
        endpoint.bound[(port or real, protocol)] = (real, public)
        return made

    def route(self, endpoint: Endpoint, address: Address, port: int, protocol: str) -> Route:
        """Decide where a ``connect`` goes."""
        key = (port, protocol)
        if _is_loopback(address) or address.is_unspecified or str(address) in endpoint.addresses:
            if key in endpoint.bound:
                return Route((LOOPBACK, endpoint.bound[key][0]))
            if port == _DNS:  # the name server of this machine may live on its loopback
                return Route((str(address), port)) if endpoint.apart else PASS
            return PASS if endpoint.apart else Route(error=errno.ECONNREFUSED)
        return self._route_out(endpoint, address, port, protocol)

    def _route_out(self, endpoint: Endpoint, address: Address, port: int, protocol: str) -> Route:
        """Decide on a connection that leaves the container."""
        if endpoint.network == "none":
            return Route(error=errno.ENETUNREACH)
        for other in self._endpoints.values():
            if str(address) in other.addresses:
                if not _share(endpoint, str(address)):
                    return Route(error=errno.EHOSTUNREACH)
                real, public = other.bound.get((port, protocol), (0, False))
                return Route((LOOPBACK, real)) if public else Route(error=errno.ECONNREFUSED)
        if endpoint.internal:
            return Route(error=errno.ENETUNREACH)
        return Route((str(address), port)) if endpoint.apart else PASS

    def _publish(self, endpoint: Endpoint, item: Published) -> None:
        if item.protocol not in _KINDS:
            raise bad(f"the protocol {item.protocol} cannot be published here, only tcp and udp")
        host = LOOPBACK if item.host_ip in _ANYWHERE else item.host_ip
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            raise bad(f"invalid IP address in port binding: {host}") from None
        if not address.is_loopback or address.version != 4:
            raise bad(f"this engine publishes ports on the loopback of this machine only, not on {host}")
        made = socket.socket(socket.AF_INET, _KINDS[item.protocol])
        try:
            _reuse(made, item.protocol)
            if item.host_port and (item.host_port, item.protocol) in self._taken:
                raise OSError(errno.EADDRINUSE, "")
            made.bind((host, item.host_port))
        except OSError as error:
            made.close()
            raise _port_trouble(endpoint.id, host, item.host_port, error) from error
        real = made.getsockname()[1]
        self._taken[(real, item.protocol)] = endpoint.id
        key = (item.port, item.protocol)
        if key in endpoint.published:  # one more port of this machine for the same one: only the first is served
            made.close()
            raise bad(f"port {item.port}/{item.protocol} can be published once here, not on two ports of this machine")
        endpoint.published[key] = (host, real)
        endpoint.held[key] = made

    def _hand_over(self, endpoint: Endpoint, key: Port) -> socket.socket | int:
        """Give the socket of a published port: the one that was held for it, or one more when it is bound anew."""
        held = endpoint.held.pop(key, None)
        host, real = endpoint.published[key]
        endpoint.bound[key] = (real, True)
        if held is not None:
            return held
        made = socket.socket(socket.AF_INET, _KINDS[key[1]])
        try:
            _reuse(made, key[1])
            made.bind((host, real))
        except OSError as error:
            made.close()
            return error.errno or errno.EADDRINUSE
        return made


def _reuse(made: socket.socket, protocol: str) -> None:
    """Let a port be taken again at once after its last connections; of two that listen, the second still fails."""
    if protocol == "tcp":
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)


def _is_loopback(address: Address) -> bool:
    mapped = getattr(address, "ipv4_mapped", None)
    return address.is_loopback or (mapped is not None and mapped.is_loopback)


def _share(endpoint: Endpoint, address: str) -> bool:
    """Tell whether a container has an address in the same network (each is a /16)."""
    network = address.rpartition(".")[0].rpartition(".")[0]
    return any(own.rpartition(".")[0].rpartition(".")[0] == network for own in endpoint.addresses)


def _port_trouble(container: str, host: str, port: int, error: OSError) -> RefusalError:
    if error.errno == errno.EACCES:
        reason = f"listen tcp4 {host}:{port}: bind: permission denied"
        with contextlib.suppress(OSError):
            reason += _lowest_port()
    elif error.errno == errno.EADDRINUSE:
        reason = f"Bind for {host}:{port} failed: port is already allocated"
    else:
        reason = f"Bind for {host}:{port} failed: {error.strerror}"
    return failed(f"driver failed programming external connectivity on endpoint {container[:12]}: {reason}")


def _lowest_port() -> str:
    text = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text(encoding="ascii")
    return f" (the lowest port that you may use is {text.strip()})"

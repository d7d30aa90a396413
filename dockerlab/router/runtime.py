"""HAProxy's run-time API: servers come and go without a reload, so no connection is lost.

The order of the commands matters. ``enable server`` would make a server UP before its first check has passed; a server
is therefore added in drain, where checks run but no traffic flows, and is made ready once the check passes.
Source: HAProxy management guide, "Unix Socket commands"; the order was verified on HAProxy 2.6 and 2.8.
"""

from __future__ import annotations

import csv
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from dockerlab.errors import RouterError
from dockerlab.fleet.model import Health, Traffic

BACKEND = "app"
CHECK = "check inter 2s fastinter 200ms downinter 100ms fall 2 rise 1 weight 100"
_TIMEOUT_S = 5.0
_AGAIN = "Run the cell that makes the fleet again: a router that is gone is started anew."


@dataclass(frozen=True)
class Server:
    """One server of the router.

    Parameters
    ----------
    name : str
        Name of the replica behind it.
    health : {"starting", "healthy", "unhealthy"}
        What the check says: "healthy" is HAProxy's L7OK.
    traffic : {"drain", "ready", "maint"}
        What HAProxy does with it.
    sessions : int
        Requests in flight.
    address : str
        ``host:port``.
    """

    name: str
    health: Health
    traffic: Traffic
    sessions: int
    address: str


class RuntimeApi:
    """Commands to a running HAProxy.

    Parameters
    ----------
    address : str
        ``unix:/path`` or ``tcp:host:port`` of the stats socket.
    """

    def __init__(self, address: str) -> None:
        self.address = address

    def send(self, command: str) -> str:
        """Send `command` and return the answer.

        Raises
        ------
        RouterError
            Where HAProxy does not answer.
        """
        try:
            with self._connect() as connection:
                connection.sendall(command.encode() + b"\n")
                parts = []
                while part := connection.recv(65536):
                    parts.append(part)
        except OSError as error:
            raise RouterError(f"The router does not answer ({error}).", _AGAIN) from error
        return b"".join(parts).decode()

    def _connect(self) -> socket.socket:
        kind, _, where = self.address.partition(":")
        if kind == "tcp":
            host, _, port = where.rpartition(":")
            return socket.create_connection((host, int(port)), timeout=_TIMEOUT_S)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(_TIMEOUT_S)
        try:
            connection.connect(where)
        except OSError:
            connection.close()
            raise
        return connection

    def wait(self, timeout_s: float) -> bool:
        """Wait until HAProxy answers; tell whether it did within `timeout_s` seconds."""
        end_s = time.monotonic() + timeout_s
        while time.monotonic() < end_s:
            try:
                if self.send("show info"):
                    return True
            except RouterError:
                pass
            time.sleep(0.01)
        return False

    def add(self, name: str, address: str) -> None:
        """Add the server `name` at ``host:port``, checked but without traffic.

        Raises
        ------
        RouterError
            Where HAProxy refuses it.
        """
        # One line: HAProxy carries it out whole even when this process is killed meanwhile.
        server = f"{BACKEND}/{name}"
        answer = self.send(
            f"add server {server} {address} {CHECK}; set server {server} state drain; enable health {server}"
        )
        if "registered" not in answer and "already exists" not in answer.lower():
            raise RouterError(f"The router refused the server {name} at {address}: {answer.strip()}", _AGAIN)

    def admit(self, name: str) -> None:
        """Send requests to `name`."""
        self.send(f"set server {BACKEND}/{name} state ready")

    def drain(self, name: str) -> None:
        """Send `name` no new requests; those in flight go on."""
        self.send(f"set server {BACKEND}/{name} state drain")

    def remove(self, name: str) -> None:
        """Take `name` out; what is still in flight on it is cut off."""
        server = f"{BACKEND}/{name}"
        self.send(f"set server {server} state maint; shutdown sessions server {server}")
        for _ in range(50):
            answer = self.send(f"del server {server}")
            if "deleted" in answer or "No such" in answer:
                return
            time.sleep(0.02)
        raise RouterError(f"The router does not let go of the server {name}: {answer.strip()}", _AGAIN)

    def servers(self) -> dict[str, Server]:
        """Give all servers by name."""
        answer = self.send(f"show servers state {BACKEND}; show stat {BACKEND} 4 -1")
        states, _, stats = answer.partition("# pxname")
        rows = csv.DictReader(("pxname" + stats).splitlines())
        sessions = {row["svname"]: int(row["scur"] or 0) + int(row["qcur"] or 0) for row in rows}
        lines = [line.split() for line in states.splitlines() if line.strip()]
        header = next((line[1:] for line in lines if line[0] == "#"), [])
        servers = [_server(dict(zip(header, line, strict=True))) for line in lines if len(line) == len(header)]
        return {server.name: replace(server, sessions=sessions.get(server.name, 0)) for server in servers}

    def retries(self) -> int:
        """Count connections to replicas that were tried again since the router started."""
        # Type 2 of `show stat` is a backend's own line.
        rows = csv.DictReader(self.send(f"show stat {BACKEND} 2 -1").lstrip("# ").splitlines())
        return sum(int(row[name] or 0) for row in rows for name in ("wretr", "wredis"))


# HAProxy's numbers: SRV_ST_STOPPED, HCHK_STATUS_INI, SRV_ADMF_MAINT (three bits) and SRV_ADMF_DRAIN (two bits).
_STOPPED, _NOT_CHECKED, _MAINT, _DRAIN = 0, 1, 0x07, 0x18


def _server(state: Mapping[str, str]) -> Server:
    admin = int(state["srv_admin_state"], 0)
    traffic: Traffic = "maint" if admin & _MAINT else "drain" if admin & _DRAIN else "ready"
    # A server that failed one check of the two that take it down still counts as healthy: so does HAProxy.
    health: Health = "healthy"
    # Not srv_check_result: that is unknown again while each later check is under way.
    if int(state["srv_check_status"]) <= _NOT_CHECKED:
        health = "starting"
    elif int(state["srv_op_state"]) == _STOPPED:
        health = "unhealthy"
    return Server(state["srv_name"], health, traffic, 0, f"{state['srv_addr']}:{state['srv_port']}")

"""HAProxy's run-time API: servers come and go without a reload, so no connection is lost.

The order of the commands matters. ``enable server`` would make a server UP before its first check has passed; a server
is therefore added in drain, where checks run but no traffic flows, and is made ready once the check passes.
Source: HAProxy management guide, "Unix Socket commands"; the order was verified on HAProxy 2.6 and 2.8.

There are two pools of servers (backends), blue and green. A variable says how many percent of the requests go to green.
One command changes it, so all requests can be switched over at one moment.
"""

from __future__ import annotations

import csv
import re
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from dockerlab.errors import RouterError
from dockerlab.fleet.analysis import Measured
from dockerlab.fleet.model import Health, Pool, Traffic

POOLS: tuple[Pool, ...] = ("blue", "green")
WEIGHT = "proc.green"
"""The share of the requests that goes to the green pool, in percent."""
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
    pool : {"blue", "green"}
        The backend that it belongs to.
    """

    name: str
    health: Health
    traffic: Traffic
    sessions: int
    address: str
    pool: Pool


@dataclass(frozen=True)
class Look:
    """What the router says at one moment.

    Parameters
    ----------
    servers : dict of str to Server
        By name.
    green : int
        Percent of the requests that go to the green pool.
    counted : dict of Pool to Measured
        What each pool has answered since the router started.
    """

    servers: dict[str, Server]
    green: int
    counted: dict[Pool, Measured]


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
        except BaseException:  # Stop, too
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

    def add(self, name: str, address: str, pool: Pool = "blue") -> None:
        """Add the server `name` at ``host:port`` to a pool, checked but without traffic.

        Raises
        ------
        RouterError
            Where HAProxy refuses it.
        """
        answer = self.send(adding(name, address, pool))
        if "registered" not in answer and "already exists" not in answer.lower():
            raise RouterError(f"The router refused the server {name} at {address}: {answer.strip()}", _AGAIN)

    def admit(self, name: str, pool: Pool = "blue") -> None:
        """Send requests to `name`."""
        self.send(admitting(name, pool))

    def drain(self, name: str, pool: Pool = "blue") -> None:
        """Send `name` no new requests; those in flight go on."""
        self.send(draining(name, pool))

    def remove(self, name: str, pool: Pool = "blue") -> None:
        """Take `name` out; what is still in flight on it is cut off."""
        stop, delete = removing(name, pool)
        self.send(stop)
        for _ in range(50):
            answer = self.send(delete)
            if "deleted" in answer or "No such" in answer:
                return
            time.sleep(0.02)
        raise RouterError(f"The router does not let go of the server {name}: {answer.strip()}", _AGAIN)

    def weigh(self, green: int) -> None:
        """Send so many percent of the requests to the green pool, and the rest to the blue one.

        Raises
        ------
        RouterError
            Where HAProxy refuses it.
        """
        answer = self.send(f"{weighing(green)}; get var {WEIGHT}")
        if f"value=<{green}>" not in answer:
            raise RouterError(f"The router does not take the weight {green}: {answer.strip()}", _AGAIN)

    def look(self) -> Look:
        """Give all servers, the weight, and what the pools have answered."""
        answer = self.send(f"show servers state; get var {WEIGHT}; show stat -1 6 -1")
        states, _, stats = answer.partition("# pxname")
        servers = _servers(states)
        weight = re.search(rf"{re.escape(WEIGHT)}: type=sint value=<(\d+)>", states)
        counted: dict[Pool, Measured] = {}
        for row in csv.DictReader(("pxname" + stats).splitlines()):
            if row["svname"] == "BACKEND":
                for pool in POOLS:
                    if row["pxname"] == pool:
                        counted[pool] = _counted(row)
            elif row["svname"] in servers:
                sessions = int(row["scur"] or 0) + int(row["qcur"] or 0)
                servers[row["svname"]] = replace(servers[row["svname"]], sessions=sessions)
        return Look(servers, int(weight[1]) if weight else 0, counted)

    def servers(self) -> dict[str, Server]:
        """Give all servers by name."""
        return self.look().servers

    def load(self) -> dict[str, tuple[bool, int, int]]:
        """Give for each server whether it gets requests, how many are in flight, and how many it got so far."""
        rows = csv.DictReader(self.send("show stat -1 4 -1").lstrip("# ").splitlines())
        return {
            row["svname"]: (
                row["status"].startswith("UP"),
                int(row["scur"] or 0) + int(row["qcur"] or 0),
                int(row["stot"] or 0),
            )
            for row in rows
        }

    def retries(self) -> int:
        """Count connections to replicas that were tried again since the router started."""
        # Type 2 of `show stat` is a backend's own line.
        rows = csv.DictReader(self.send("show stat -1 2 -1").lstrip("# ").splitlines())
        return sum(int(row[name] or 0) for row in rows for name in ("wretr", "wredis"))


# HAProxy's numbers: SRV_ST_STOPPED, HCHK_STATUS_INI, SRV_ADMF_MAINT (three bits) and SRV_ADMF_DRAIN (two bits).
_STOPPED, _NOT_CHECKED, _MAINT, _DRAIN = 0, 1, 0x07, 0x18


def adding(name: str, address: str, pool: Pool) -> str:
    """Give the commands that add a server: one line, which HAProxy carries out whole also when we are killed."""
    server = f"{pool}/{name}"
    return f"add server {server} {address} {CHECK}; set server {server} state drain; enable health {server}"


def admitting(name: str, pool: Pool) -> str:
    """Give the command that sends requests to a server."""
    return f"set server {pool}/{name} state ready"


def draining(name: str, pool: Pool) -> str:
    """Give the command that sends a server no new requests."""
    return f"set server {pool}/{name} state drain"


def removing(name: str, pool: Pool) -> tuple[str, str]:
    """Give the commands that cut a server off, and take it out."""
    server = f"{pool}/{name}"
    return f"set server {server} state maint; shutdown sessions server {server}", f"del server {server}"


def weighing(green: int) -> str:
    """Give the command that sends so many percent of the requests to the green pool."""
    return f"experimental-mode on; set var {WEIGHT} int({green})"


def _servers(answer: str) -> dict[str, Server]:
    lines = [line.split() for line in answer.splitlines() if line.strip()]
    header = next((line[1:] for line in lines if line[0] == "#"), [])
    rows = [dict(zip(header, line, strict=True)) for line in lines if len(line) == len(header)]
    return {row["srv_name"]: _server(row, pool) for row in rows for pool in POOLS if row["be_name"] == pool}


def _counted(row: Mapping[str, str]) -> Measured:
    # A request that no server answered ends in a 503 or 504 of the router's own, which counts as 5xx too.
    answers = [int(row[f"hrsp_{kind}"] or 0) for kind in ("1xx", "2xx", "3xx", "4xx", "5xx", "other")]
    return Measured(sum(answers), answers[4], int(row["ttime"] or 0) / 1000)


def _server(state: Mapping[str, str], pool: Pool) -> Server:
    admin = int(state["srv_admin_state"], 0)
    traffic: Traffic = "maint" if admin & _MAINT else "drain" if admin & _DRAIN else "ready"
    # A server that failed one check of the two that take it down still counts as healthy: so does HAProxy.
    health: Health = "healthy"
    # Not srv_check_result: that is unknown again while each later check is under way.
    if int(state["srv_check_status"]) <= _NOT_CHECKED:
        health = "starting"
    elif int(state["srv_op_state"]) == _STOPPED:
        health = "unhealthy"
    return Server(state["srv_name"], health, traffic, 0, f"{state['srv_addr']}:{state['srv_port']}", pool)

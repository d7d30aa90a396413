"""Ports of a container and of this machine."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import Any

from dockerlab.engine.isolate.spec import Published
from dockerlab.engine.refusals import bad, unsupported

_RANGE = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
_PROTOCOLS = ("tcp", "udp")


def parse(text: str) -> tuple[int, str]:
    """Read ``80``, ``80/tcp`` or ``53/udp``; 400 where it is none of these."""
    number, slash, protocol = text.partition("/")
    protocol = protocol.lower() if slash else "tcp"
    if protocol not in (*_PROTOCOLS, "sctp"):
        raise bad(f"invalid port specification: {text!r}: unknown protocol {protocol!r}")
    if not re.fullmatch(r"[0-9]{1,5}", number) or not 1 <= int(number) <= 65535:
        raise bad(f'invalid port specification: "{number}"')
    return int(number), protocol


def published(bindings: Mapping[str, Any], exposed: Iterable[str], every: bool) -> tuple[Published, ...]:
    """Read ``PortBindings``, and where `every` is set all exposed ports; 400 where something is wrong.

    Parameters
    ----------
    bindings : mapping
        ``{"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]}``
    exposed : iterable of str
    every : bool

    Returns
    -------
    tuple of Published
    """
    found = []
    for key, rows in bindings.items():
        port, protocol = parse(key)
        if rows is not None and not isinstance(rows, list):
            raise bad(f"invalid port bindings of {key}: they must be a list")
        if rows and len(rows) > 1:
            raise unsupported(
                f"the embedded engine of dockerlab publishes port {key} once only, not on {len(rows)} ports"
            )
        for row in rows or ():
            if not isinstance(row, Mapping):
                raise bad(f"invalid port binding of {key}: it must be an object")
            host = _host(row.get("HostIp"))
            found.append(Published(port, protocol, host, _host_port(row.get("HostPort"))))
    if every:
        bound = {(one.port, one.protocol) for one in found}
        found += [Published(*pair) for pair in map(parse, exposed) if pair not in bound]
    return tuple(found)


def _host(value: object) -> str:
    if value in (None, ""):
        return "0.0.0.0"  # noqa: S104  Docker's meaning of an empty one; the isolator decides what it dares
    try:
        return str(ipaddress.ip_address(str(value)))
    except ValueError:
        raise bad(f"invalid IP address: {value}") from None


def _host_port(value: object) -> int:
    if value in (None, ""):
        return 0
    found = _RANGE.fullmatch(str(value))
    # Of a range the first is taken
    if not isinstance(value, str) or not found or int(found[2] or found[1]) > 65535:
        raise bad(f'invalid port specification: "{value}"')
    return int(found[1])

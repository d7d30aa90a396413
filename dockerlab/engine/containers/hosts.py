"""The three files that tell a container its names: /etc/hosts, /etc/hostname, /etc/resolv.conf."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

_HEAD = """127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
ff00::0\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""
NAMES = ("resolv.conf", "hostname", "hosts")


def hosts_text(extra: Iterable[str], rows: Iterable[tuple[str, Sequence[str]]]) -> str:
    """Write /etc/hosts.

    Parameters
    ----------
    extra : iterable of str
        ``"name:address"`` as of ``--add-host``.
    rows : iterable of (str, sequence of str)
        Addresses and their names.
    """
    lines = [_HEAD]
    for one in extra:
        name, _, address = one.partition(":")
        lines.append(f"{'127.0.0.1' if address == 'host-gateway' else address}\t{name}\n")
    lines += [f"{address}\t{' '.join(names)}\n" for address, names in rows if address and names]
    return "".join(lines)


def resolv_text(host: Mapping[str, Any]) -> str:
    """Write /etc/resolv.conf: this machine's, changed by ``--dns`` and its like."""
    kept = []
    with contextlib.suppress(OSError):
        kept = Path("/etc/resolv.conf").read_text(encoding="utf-8", errors="replace").splitlines()
    for key, name in (("nameserver", "Dns"), ("search", "DnsSearch"), ("options", "DnsOptions")):
        values = host.get(name)
        if values:
            kept = [line for line in kept if line.split()[:1] != [key]]
            kept += [f"{key} {one}" for one in values] if key == "nameserver" else [f"{key} {' '.join(values)}"]
    return "\n".join(line for line in kept if not line.startswith("#")) + "\n"


def write(path: Path, content: str) -> None:
    """Write a file in place: it is mounted into a container, which would not see another one of that name."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        raw = content.encode()
        os.pwrite(descriptor, raw, 0)
        os.ftruncate(descriptor, len(raw))
    finally:
        os.close(descriptor)

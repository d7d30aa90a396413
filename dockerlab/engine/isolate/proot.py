"""How a container is started with PRoot: its command line, as a pure function of what is wanted."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from dockerlab.engine.isolate.snapshots import Rootfs
from dockerlab.engine.isolate.spec import Command, Spec

_DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "shm")


@dataclass(frozen=True)
class PRoot:
    """A PRoot that works here: where it is, and its version."""

    program: Path
    version: str


def candidates() -> list[Path]:
    """Give the PRoots that this machine has."""
    found = shutil.which("proot")
    return [Path(found)] if found else []


def arguments(spec: Spec, command: Command, rootfs: Rootfs) -> list[str]:
    """Make the command line of a process in a container.

    PRoot has no process 1 and no namespaces: a second process of a container is simply one more with the same root.
    """
    words = ["proot", "-v", "-1"]
    words += ["-0"] if (command.uid, command.gid) == (0, 0) else ["-i", f"{command.uid}:{command.gid}"]
    # Not -k for the host name: with it, PRoot 5.1 breaks the opening of folders
    words += ["-r", str(rootfs.root), "-w", command.workdir]
    for place in ("/proc", "/sys", *(f"/dev/{name}" for name in _DEVICES)):
        if os.path.exists(place):
            words += ["-b", place]
    for source, target in mounts(spec, rootfs):
        words += ["-b", f"{source}:{target}"]
    return [*words, *command.argv]


def mounts(spec: Spec, rootfs: Rootfs) -> list[tuple[Path, str]]:
    """Give what is laid over a container's root, outer places first: a file system in memory is a folder here."""
    found = [(rootfs.folder / "tmpfs" / str(number), one.target) for number, one in enumerate(spec.tmpfs)]
    found += [(mount.source, mount.target) for mount in spec.mounts]
    return sorted(found, key=lambda item: item[1].count("/"))

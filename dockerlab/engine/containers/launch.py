"""From a record to what the isolator is asked to run."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

from dockerlab.engine.containers import hostconfig, hosts, mounts, ports, users
from dockerlab.engine.containers.container import Container
from dockerlab.engine.containers.record import Record
from dockerlab.engine.containers.volumes import Volumes
from dockerlab.engine.isolate import inside
from dockerlab.engine.isolate.spec import Command, Mount, Spec
from dockerlab.engine.refusals import RefusalError
from dockerlab.engine.users import User

_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


async def command_of(
    isolator: Any,
    container: Container,
    argv: Sequence[str],
    *,
    env: Sequence[str] = (),
    workdir: str = "",
    user: str = "",
    tty: bool = False,
    privileged: bool = False,
) -> Command:
    """Make a command that runs in a container, with its environment, folder and user where nothing else is said."""
    record = container.record
    name = user or record.config.get("User") or ""
    more = record.host.get("GroupAdd") or ()
    who = User()
    if not users.is_root(name) or more:
        async with isolator.root(record.id) as root:
            who = await asyncio.to_thread(users.find, root, name, more)
    return Command(
        argv=tuple(argv),
        env=environment(record, [*(record.config.get("Env") or ()), *env], home=who.home, tty=tty),
        workdir=workdir or record.config.get("WorkingDir") or "/",
        uid=who.uid,
        gid=who.gid,
        groups=who.groups,
        tty=tty,
        privileged=privileged,
    )


def environment(record: Record, own: Sequence[str], *, home: str, tty: bool) -> tuple[str, ...]:
    """Give the whole environment; later ones win, and what has no value is left out, as Docker does."""
    found = {"PATH": _PATH.partition("=")[2], "HOSTNAME": record.config.get("Hostname") or ""}
    if tty:
        found["TERM"] = "xterm"
    for one in own:
        name, given, value = one.partition("=")
        if given:
            found[name] = value
        else:
            found.pop(name, None)
    found.setdefault("HOME", home)
    return tuple(f"{name}={value}" for name, value in found.items())


def spec_of(container: Container, command: Command, addresses: tuple[str, ...], *, internal: bool = False) -> Spec:
    """Give everything that the isolator needs to know."""
    record = container.record
    host = record.host
    mode = "none" if record.config.get("NetworkDisabled") else next(iter(record.networks), "none")
    apart = mode in ("none", "host")
    targets = {point["Destination"] for point in record.mounts}
    own = [Mount(container.folder / name, f"/etc/{name}") for name in hosts.NAMES if f"/etc/{name}" not in targets]
    files = [
        Mount(Path(point["Source"]), point["Destination"], not point["RW"])
        for point in record.mounts
        if point["Type"] != "tmpfs"
    ]
    return Spec(
        id=record.id,
        command=command,
        hostname=record.config.get("Hostname") or "",
        domainname=record.config.get("Domainname") or "",
        mounts=(*own, *files),
        tmpfs=tuple(
            mounts.memory(point["Destination"], point["Mode"]) for point in record.mounts if point["Type"] == "tmpfs"
        ),
        init=bool(host.get("Init")),
        read_only=bool(host.get("ReadonlyRootfs")),
        network=mode,
        addresses=addresses,
        internal=internal,
        published=()
        if apart
        else ports.published(
            host.get("PortBindings") or {}, record.config.get("ExposedPorts") or (), bool(host.get("PublishAllPorts"))
        ),
        ulimits=hostconfig.ulimits(host),
    )


def make_points(wanted: Sequence[mounts.Wanted], volumes: Volumes) -> tuple[list[dict[str, Any]], list[str], list[str]]:
    """Make volumes and missing folders; give ``Mounts``, the new volumes, the places to copy up. Blocks."""
    points, made, copied = [], [], []
    for one in wanted:
        point = {"Type": one.kind, "Source": one.source, "Destination": one.target, "Mode": one.mode}
        if one.kind == "volume":
            known = {volume.name for volume in volumes.list()}
            volume = volumes.create(one.source, one.labels)
            if volume.name not in known:
                made.append(volume.name)
            if one.copy_up:
                copied.append(one.target)
            point = {"Type": "volume", "Name": volume.name, "Source": str(volume.path), "Destination": one.target}
            point.update(Driver="local", Mode=one.mode)
        elif one.kind == "bind" and one.make_source:
            with contextlib.suppress(FileExistsError):
                try:
                    Path(one.source).mkdir(parents=True)
                except OSError as error:
                    if isinstance(error, FileExistsError):
                        raise
                    raise RefusalError(
                        500, f"error while creating mount source path '{one.source}': {error.strerror}"
                    ) from error
        points.append({**point, "RW": not one.read_only, "Propagation": "rprivate" if one.kind == "bind" else ""})
    return mounts.in_order(points), made, copied


def copy_up(root: int, points: Sequence[dict[str, Any]], targets: Sequence[str]) -> None:
    """Put what the image has at the place of an empty volume into it, as Docker does. Blocks."""
    for point in points:
        if point["Type"] != "volume" or point["Destination"] not in targets:
            continue
        volume = Path(point["Source"])
        if any(volume.iterdir()):
            continue
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), contextlib.ExitStack() as opened:
            source = inside.open_file(root, point["Destination"], os.O_RDONLY | os.O_DIRECTORY)
            opened.callback(os.close, source)
            target = os.open(volume, os.O_RDONLY | os.O_DIRECTORY)
            opened.callback(os.close, target)
            # The binary file of `tempfile` is one in all that matters
            file = cast("BinaryIO", opened.enter_context(tempfile.TemporaryFile()))
            inside.pack(source, "/", file)
            file.seek(0)
            inside.unpack(target, "/", file)
            volume.chmod(os.fstat(source).st_mode & 0o7777 | 0o700)

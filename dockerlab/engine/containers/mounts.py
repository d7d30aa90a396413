"""What a container sees of this machine: ``Binds``, ``Mounts``, ``Volumes`` and ``Tmpfs``, checked."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dockerlab.engine.containers import fields
from dockerlab.engine.containers.stats import machine_bytes
from dockerlab.engine.containers.volumes import check_name
from dockerlab.engine.isolate.spec import Memory
from dockerlab.engine.refusals import bad, unsupported

_MODES = {"", "ro", "rw", "z", "Z", "nocopy", "cached", "delegated", "consistent"}
_MODES |= {"private", "rprivate", "shared", "rshared", "slave", "rslave"}


@dataclass(frozen=True)
class Wanted:
    """A mount as it was asked for; ``source`` is a path, the name of a volume, or empty for an anonymous one."""

    kind: str
    source: str
    target: str
    read_only: bool = False
    mode: str = ""
    copy_up: bool = True
    make_source: bool = False
    labels: Mapping[str, str] | None = None


def wanted(config: Mapping[str, Any], host: Mapping[str, Any]) -> tuple[Wanted, ...]:
    """Read all mounts of a container, one for each place; 400 where something is wrong.

    Parameters
    ----------
    config, host : mapping
        ``Config``, with the image's volumes in it, and ``HostConfig``.
    """
    found: dict[str, Wanted] = {}
    for text in fields.texts(host, "Binds") or ():
        _add(found, _bind(text))
    for row in fields.tables(host, "Mounts"):
        _add(found, _mount(row))
    for target, options in fields.table(host, "Tmpfs").items():
        _add(found, _tmpfs(_target(target, "tmpfs"), str(options)))
    for target in fields.table(config, "Volumes"):
        place = _clean(target)
        if place != "/" and place not in found:
            found[place] = Wanted("volume", "", place)
    return tuple(found.values())


def _add(found: dict[str, Wanted], one: Wanted) -> None:
    if one.target in found:
        raise bad(f"Duplicate mount point: {one.target}")
    found[one.target] = one


def _bind(text: str) -> Wanted:
    parts = text.split(":")
    if len(parts) == 1:
        return Wanted("volume", "", _target(parts[0], "volume", text))
    if len(parts) > 3 or not parts[0] or not parts[1]:
        raise bad(f"invalid volume specification: '{text}'")
    source, target, mode = parts[0], parts[1], parts[2] if len(parts) == 3 else ""
    modes = set(mode.split(","))
    if not modes <= _MODES or {"ro", "rw"} <= modes:
        raise bad(f"invalid mode: {mode}")
    if source.startswith("/"):
        target = _target(target, "bind", text)
        return Wanted("bind", source, target, "ro" in modes, mode, make_source=True)
    check_name(source)
    return Wanted("volume", source, _target(target, "volume", text), "ro" in modes, mode or "z", "nocopy" not in modes)


def _mount(row: Mapping[str, Any]) -> Wanted:
    kind, source = fields.text(row, "Type") or "volume", fields.text(row, "Source")
    if kind not in ("bind", "volume", "tmpfs"):
        raise bad(f'invalid mount config for type "{kind}": mount type unknown')
    target = fields.text(row, "Target")
    if not target:
        raise bad(f'invalid mount config for type "{kind}": field Target must not be empty')
    target = _target(target, kind)
    read_only = fields.yes(row, "ReadOnly")
    if kind == "tmpfs":
        told = fields.table(row, "TmpfsOptions")
        size, mode = fields.whole(told, "SizeBytes"), fields.whole(told, "Mode")
        words = [f"size={size}" if size else "", f"mode={mode:o}" if mode else ""]
        return _tmpfs(target, ",".join(filter(None, words)), read_only=read_only)
    if kind == "bind":
        if not source.startswith("/"):
            raise bad(
                f"invalid mount config for type \"bind\": invalid mount path: '{source}' mount path must be absolute"
            )
        make = fields.yes(fields.table(row, "BindOptions"), "CreateMountpoint")
        if not make and not Path(source).exists():
            raise bad(f'invalid mount config for type "bind": bind source path does not exist: {source}')
        return Wanted(kind, source, target, read_only, make_source=make)
    options = fields.table(row, "VolumeOptions")
    driver = fields.table(options, "DriverConfig")
    if fields.text(driver, "Name") not in ("", "local") or driver.get("Options"):
        raise unsupported("the embedded engine of dockerlab has no volume drivers and no options of the local one")
    if source:
        check_name(source)
    copy_up = not fields.yes(options, "NoCopy")
    return Wanted(kind, source, target, read_only, "z", copy_up, labels=fields.labels(options))


def _tmpfs(target: str, options: str, *, read_only: bool = False) -> Wanted:
    memory(target, options)
    return Wanted("tmpfs", "", target, read_only, options)


def memory(target: str, options: str) -> Memory:
    """Read the options of a file system in memory: its size and its mode; others have no effect here.

    Raises
    ------
    RefusalError
        400 where one of them is no number.

    Examples
    --------
    >>> memory("/tmp", "rw,size=64k,mode=700")
    Memory(target='/tmp', size_bytes=65536, mode=448)
    """
    told = dict(word.partition("=")[::2] for word in options.split(","))
    size = re.fullmatch(r"(\d+)([kmg%]?)", told.get("size", "0").lower())
    mode = re.fullmatch(r"[0-7]{1,4}", told.get("mode", "1777"))
    if size is None or mode is None:
        raise bad(f'invalid tmpfs option "{options}"')
    units = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "%": machine_bytes() // 100}
    return Memory(target, int(size[1]) * units[size[2]], int(mode[0], 8))


def _target(path: str, kind: str, text: str = "") -> str:
    if not path.startswith("/"):
        said = f"invalid mount config for type \"{kind}\": invalid mount path: '{path}' mount path must be absolute"
        raise bad(f"invalid volume specification: '{text}': {said}" if text else said)
    place = _clean(path)
    if place == "/":
        raise bad("invalid specification: destination can't be '/'")
    return place


def _clean(path: str) -> str:
    return posixpath.normpath("/" + path.lstrip("/"))


def in_order(points: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Sort mounts so that one below another comes after it."""
    return sorted(map(dict, points), key=lambda point: point["Destination"].count("/"))

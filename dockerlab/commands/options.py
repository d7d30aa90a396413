"""The options of ``docker create`` and ``docker run`` for what the body of a create call holds; pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

_FULL_ID = re.compile(r"^(?:sha256:)?([0-9a-f]{12})[0-9a-f]{52}$")
Names = Mapping[str, str]


def named(reference: str, names: Names) -> str:
    """Return the name of what has this id, else a short form of the id that the command line takes too."""
    if reference in names:
        return names[reference]
    found = _FULL_ID.match(reference)
    return found[1] if found else reference


def switches(body: Mapping[str, Any], host: Mapping[str, Any]) -> list[str]:
    """Return the options that are on or off."""
    wanted = (
        ("-i", body.get("OpenStdin")),
        ("-t", body.get("Tty")),
        ("--init", host.get("Init")),
        ("--rm", host.get("AutoRemove")),
        ("--read-only", host.get("ReadonlyRootfs")),
        ("--privileged", host.get("Privileged")),
        ("-P", host.get("PublishAllPorts")),
    )
    return [flag for flag, on in wanted if on]


def ports(body: Mapping[str, Any], host: Mapping[str, Any]) -> list[str]:
    """Return what publishes and exposes ports."""
    words: list[str] = []
    bindings = host.get("PortBindings") or {}
    for port, places in sorted(bindings.items()):
        inside = port.removesuffix("/tcp")
        for place in places or [{}]:
            address, outside = place.get("HostIp") or "", place.get("HostPort") or ""
            words += [
                "-p",
                f"{address}:{outside}:{inside}" if address else f"{outside}:{inside}" if outside else inside,
            ]
    for port in sorted(set(body.get("ExposedPorts") or ()) - set(bindings)):
        words += ["--expose", port.removesuffix("/tcp")]
    return words


def mounts(volumes: Iterable[str], host: Mapping[str, Any], names: Names) -> list[str]:
    """Return what mounts volumes, folders and memory."""
    words: list[str] = []
    for bind in host.get("Binds") or ():
        words += ["-v", bind.removesuffix(":rw")]
    for mount in host.get("Mounts") or ():
        parts = [f"type={mount.get('Type', 'volume')}"]
        if source := mount.get("Source"):
            parts.append(f"source={named(source, names)}")
        parts.append(f"target={mount.get('Target', '')}")
        words += ["--mount", ",".join(parts + (["readonly"] if mount.get("ReadOnly") else []))]
    for place, options in sorted((host.get("Tmpfs") or {}).items()):
        words += ["--tmpfs", f"{place}:{options}" if options else place]
    covered = {place for word in words for place in word.split(":")[1:2]}
    covered |= {str(mount.get("Target")) for mount in host.get("Mounts") or ()}
    for place in sorted(set(volumes) - covered):
        words += ["-v", place]
    for source in host.get("VolumesFrom") or ():
        words += ["--volumes-from", source]
    return words


def networks(body: Mapping[str, Any], host: Mapping[str, Any], names: Names) -> list[str]:
    """Return what connects the container to networks."""
    words: list[str] = []
    mode = host.get("NetworkMode") or "default"
    if mode != "default":
        kind, colon, other = mode.partition(":")
        words += ["--network", f"{kind}:{named(other, names)}" if colon else named(mode, names)]
    endpoints = (body.get("NetworkingConfig") or {}).get("EndpointsConfig") or {}
    for network, settings in endpoints.items():
        if mode == "default":
            words += ["--network", named(network, names)]
        for alias in (settings or {}).get("Aliases") or ():
            words += ["--network-alias", alias]
        if address := ((settings or {}).get("IPAMConfig") or {}).get("IPv4Address"):
            words += ["--ip", address]
    return words


def _size(size_bytes: int) -> str:
    for unit, factor in (("g", 1 << 30), ("m", 1 << 20), ("k", 1 << 10)):
        if size_bytes > 0 and size_bytes % factor == 0:
            return f"{size_bytes // factor}{unit}"
    return str(size_bytes)


# Where in the body, which option, and how the value is written.
_HOST_VALUES: tuple[tuple[str, str, Callable[[Any], Any]], ...] = (
    ("Memory", "--memory", _size),
    ("MemorySwap", "--memory-swap", _size),
    ("MemoryReservation", "--memory-reservation", _size),
    ("ShmSize", "--shm-size", _size),
    ("NanoCpus", "--cpus", lambda value: f"{value / 1e9:g}"),
    ("CpuShares", "--cpu-shares", str),
    ("CpuQuota", "--cpu-quota", str),
    ("CpuPeriod", "--cpu-period", str),
    ("CpusetCpus", "--cpuset-cpus", str),
    ("PidsLimit", "--pids-limit", str),
    ("PidMode", "--pid", str),
    ("IpcMode", "--ipc", str),
    ("UsernsMode", "--userns", str),
    ("CapAdd", "--cap-add", list),
    ("CapDrop", "--cap-drop", list),
    ("SecurityOpt", "--security-opt", list),
    ("GroupAdd", "--group-add", list),
    ("ExtraHosts", "--add-host", list),
    ("Dns", "--dns", list),
)
_BODY_VALUES = (
    ("Hostname", "--hostname"),
    ("User", "--user"),
    ("WorkingDir", "--workdir"),
    ("StopSignal", "--stop-signal"),
    ("StopTimeout", "--stop-timeout"),
)


def valued(body: Mapping[str, Any], host: Mapping[str, Any]) -> list[str]:
    """Return the options that have a value, limits above all."""
    words: list[str] = []
    for key, flag in _BODY_VALUES:
        if body.get(key) not in (None, ""):
            words += [flag, str(body[key])]
    for key, flag, write in _HOST_VALUES:
        if host.get(key):
            written = write(host[key])
            for value in written if isinstance(written, list) else [written]:
                words += [flag, str(value)]
    policy = host.get("RestartPolicy") or {}
    if policy.get("Name") and policy["Name"] != "no":
        count = policy.get("MaximumRetryCount")
        words += ["--restart", f"{policy['Name']}:{count}" if count else policy["Name"]]
    for limit in host.get("Ulimits") or ():
        words += ["--ulimit", f"{limit.get('Name')}={limit.get('Soft')}:{limit.get('Hard')}"]
    for key, value in sorted((host.get("Sysctls") or {}).items()):
        words += ["--sysctl", f"{key}={value}"]
    return words


def health(check: Mapping[str, Any]) -> list[str]:
    """Return the options of a health check."""
    test = check.get("Test") or []
    if test[:1] == ["NONE"]:
        return ["--no-healthcheck"]
    words: list[str] = []
    if test:
        words += ["--health-cmd", test[1] if test[0] == "CMD-SHELL" else shlex.join(test[1:])]
    for key, flag in (
        ("Interval", "--health-interval"),
        ("Timeout", "--health-timeout"),
        ("StartPeriod", "--health-start-period"),
    ):
        if check.get(key):
            words += [flag, f"{check[key] / 1e9:g}s"]
    return words + (["--health-retries", str(check["Retries"])] if check.get("Retries") else [])


def environment(value: Sequence[str] | Mapping[str, str] | None) -> list[str]:
    """Return variables as ``NAME=value``, however they were given."""
    if isinstance(value, Mapping):
        return [f"{key}={text}" for key, text in value.items()]
    return list(value or ())


def words_of(value: str | Sequence[str] | None) -> list[str]:
    """Return a command as words, however it was given."""
    return [value] if isinstance(value, str) else list(value or ())

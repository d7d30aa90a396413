"""``HostConfig``: what a container may use of this machine. What cannot be had is said in a warning or refused."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from dockerlab.engine.containers import fields, ports
from dockerlab.engine.refusals import RefusalError, bad, unsupported

_NOT_MOUNTED = "or the cgroup is not mounted."
_DISCARDED = {
    "Memory": f"Your kernel does not support memory limit capabilities {_NOT_MOUNTED} Limitation discarded.",
    "MemoryReservation": f"Your kernel does not support memory soft limit capabilities {_NOT_MOUNTED} "
    "Limitation discarded.",
    "MemorySwap": f"Your kernel does not support swap limit capabilities {_NOT_MOUNTED} Limitation discarded.",
    "MemorySwappiness": f"Your kernel does not support memory swappiness capabilities {_NOT_MOUNTED} "
    "Memory swappiness discarded.",
    "KernelMemory": f"Your kernel does not support kernel memory limit capabilities {_NOT_MOUNTED} "
    "Limitation discarded.",
    "KernelMemoryTCP": f"Your kernel does not support kernel memory TCP limit capabilities {_NOT_MOUNTED} "
    "Limitation discarded.",
    "NanoCpus": f"Your kernel does not support CPU CFS scheduler {_NOT_MOUNTED} NanoCPUs discarded.",
    "CpuShares": f"Your kernel does not support CPU shares {_NOT_MOUNTED} Shares discarded.",
    "CpuPeriod": f"Your kernel does not support CPU CFS scheduler {_NOT_MOUNTED} CPU period discarded.",
    "CpuQuota": f"Your kernel does not support CPU CFS scheduler {_NOT_MOUNTED} CPU quota discarded.",
    "CpusetCpus": f"Your kernel does not support cpuset {_NOT_MOUNTED} Cpuset discarded.",
    "CpusetMems": f"Your kernel does not support cpuset {_NOT_MOUNTED} Cpuset discarded.",
    "PidsLimit": f"Your kernel does not support PIDs limit capabilities {_NOT_MOUNTED} PIDs limit discarded.",
    "OomKillDisable": "Your kernel does not support OomKillDisable. OomKillDisable discarded.",
    "OomScoreAdj": "The embedded engine of dockerlab does not set OOM scores. OomScoreAdj discarded.",
    "BlkioWeight": f"Your kernel does not support Block I/O weight {_NOT_MOUNTED} Weight discarded.",
    "Privileged": "The embedded engine of dockerlab has no privileges itself. Privileged discarded.",
    "CapAdd": "The embedded engine of dockerlab cannot give capabilities. CapAdd discarded.",
    "CapDrop": "The embedded engine of dockerlab has a fixed set of capabilities. CapDrop discarded.",
    "CgroupParent": f"Your kernel does not support control groups {_NOT_MOUNTED} CgroupParent discarded.",
}
_REFUSED = {
    "Devices": "devices",
    "DeviceRequests": "device requests",
    "DeviceCgroupRules": "device rules",
    "Sysctls": "kernel parameters (Sysctls)",
    "Links": "links; use a network of your own and the names of its containers",
    "BlkioWeightDevice": "limits on block devices",
    "BlkioDeviceReadBps": "limits on block devices",
    "BlkioDeviceWriteBps": "limits on block devices",
    "BlkioDeviceReadIOps": "limits on block devices",
    "BlkioDeviceWriteIOps": "limits on block devices",
    "StorageOpt": "storage options",
}
_POLICIES = ("", "no", "always", "unless-stopped", "on-failure")
_HOST = re.compile(r"[^:\s\0]+:[^\s\0]+")
_SMALLEST_MEMORY = 6 << 20

_DEFAULTS: dict[str, Any] = {
    **dict.fromkeys(("Binds", "VolumesFrom", "CapAdd", "CapDrop", "Dns", "DnsOptions", "DnsSearch", "ExtraHosts")),
    **dict.fromkeys(("GroupAdd", "Links", "SecurityOpt", "BlkioWeightDevice", "BlkioDeviceReadBps")),
    **dict.fromkeys(("BlkioDeviceWriteBps", "BlkioDeviceReadIOps", "BlkioDeviceWriteIOps", "Devices")),
    **dict.fromkeys(("DeviceCgroupRules", "DeviceRequests", "MemorySwappiness", "PidsLimit", "Ulimits")),
    **dict.fromkeys(("ContainerIDFile", "VolumeDriver", "Cgroup", "PidMode", "UTSMode", "UsernsMode"), ""),
    **dict.fromkeys(("Isolation", "CgroupParent", "CpusetCpus", "CpusetMems"), ""),
    **dict.fromkeys(("AutoRemove", "Privileged", "PublishAllPorts", "ReadonlyRootfs", "OomKillDisable"), False),
    **dict.fromkeys(("OomScoreAdj", "CpuShares", "Memory", "NanoCpus", "BlkioWeight", "CpuPeriod", "CpuQuota"), 0),
    **dict.fromkeys(("CpuRealtimePeriod", "CpuRealtimeRuntime", "KernelMemory", "KernelMemoryTCP"), 0),
    **dict.fromkeys(("MemoryReservation", "MemorySwap", "CpuCount", "CpuPercent"), 0),
    **dict.fromkeys(("IOMaximumIOps", "IOMaximumBandwidth"), 0),
    "CgroupnsMode": "host",
    "IpcMode": "private",
    "ShmSize": 67108864,
    "Runtime": "runc",
    "ConsoleSize": [0, 0],
    "MaskedPaths": None,
    "ReadonlyPaths": None,
}


def read(body: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Check ``HostConfig``; give it complete, and the warnings.

    Raises
    ------
    RefusalError
        400: bad input. 501: what this engine cannot do.
    """
    _check_types(body)
    for name, what in _REFUSED.items():
        if body.get(name):
            raise unsupported(f"the embedded engine of dockerlab has no {what}")
    _check_modes(body)
    _check_rest(body)
    warnings = [text for name, text in _DISCARDED.items() if text and _is_set(body, name)]
    if body.get("ShmSize") not in (None, 0, 67108864):
        warnings.append("The embedded engine of dockerlab does not size /dev/shm. ShmSize discarded.")
    warnings += [
        f"The embedded engine of dockerlab has fixed walls. SecurityOpt {option} discarded."
        for option in fields.texts(body, "SecurityOpt") or ()
        if not option.startswith("no-new-privileges")
    ]
    log = fields.table(body, "LogConfig")
    if log.get("Config"):
        warnings.append(
            "The embedded engine of dockerlab keeps the last 64 MiB of a log at most. Options of LogConfig discarded."
        )
    found = {key: value for key, value in body.items() if value is not None}
    host = {**_DEFAULTS, **found}
    host["NetworkMode"] = fields.text(body, "NetworkMode") or "default"
    host["RestartPolicy"] = restart_policy(fields.table(body, "RestartPolicy"), bool(body.get("AutoRemove")))
    host["PortBindings"] = fields.table(body, "PortBindings")
    host["LogConfig"] = {"Type": log.get("Type") or "json-file", "Config": log.get("Config") or {}}
    host["ShmSize"] = host["ShmSize"] or 67108864
    if host["NetworkMode"] == "host" and any(host["PortBindings"].values()):
        warnings.append("Published ports are discarded when using host network mode")
    return host, warnings


def restart_policy(body: Mapping[str, Any], auto_remove: bool = False) -> dict[str, Any]:
    """Check a restart policy; 400 in Docker's words."""
    name, most = fields.text(body, "Name"), fields.whole(body, "MaximumRetryCount")
    if name not in _POLICIES:
        raise bad(f"invalid restart policy '{name}'")
    if most < 0:
        raise bad("maximum retry count cannot be negative")
    if most and name != "on-failure":
        raise bad(f"maximum retry count cannot be used with restart policy '{name}'")
    if auto_remove and name not in ("", "no"):
        raise bad("can't create 'AutoRemove' container with restart policy")
    return {"Name": name, "MaximumRetryCount": most}


def ulimits(host: Mapping[str, Any]) -> tuple[tuple[str, int, int], ...]:
    """Read ``Ulimits``; 400 where one makes no sense."""
    import resource  # noqa: PLC0415  not on every platform that imports this package

    found = []
    for row in fields.tables(host, "Ulimits"):
        name, soft, hard = fields.text(row, "Name"), fields.whole(row, "Soft"), fields.whole(row, "Hard")
        if not hasattr(resource, f"RLIMIT_{name.upper()}"):
            raise bad(f"invalid ulimit type: {name}")
        if hard != -1 and (soft > hard or soft == -1):
            raise bad(f"ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}")
        found.append((name, soft, hard))
    return tuple(found)


def _is_set(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name)
    if name in ("MemorySwap", "MemorySwappiness", "PidsLimit") and value in (-1, None):
        return False
    return bool(value)


def _check_types(body: Mapping[str, Any]) -> None:
    for name, default in _DEFAULTS.items():
        if name in ("ConsoleSize", "MaskedPaths", "ReadonlyPaths"):
            continue
        if isinstance(default, bool):
            fields.yes(body, name)
        elif isinstance(default, int) or name in ("PidsLimit", "MemorySwappiness"):
            fields.whole(body, name)
        elif isinstance(default, str):
            fields.text(body, name)
    for name in ("CapAdd", "CapDrop", "Dns", "DnsOptions", "DnsSearch", "ExtraHosts", "GroupAdd", "VolumesFrom"):
        fields.texts(body, name)
    fields.yes(body, "Init")


def _check_modes(body: Mapping[str, Any]) -> None:
    for name, allowed in (
        ("PidMode", ("", "private")),
        ("UTSMode", ("", "private")),
        ("IpcMode", ("", "private", "shareable", "none")),
        ("UsernsMode", ("", "host")),
        ("CgroupnsMode", ("", "private", "host")),
    ):
        if fields.text(body, name) not in allowed:
            raise unsupported(f"the embedded engine of dockerlab has no {name} {body[name]!r}")
    if fields.text(body, "NetworkMode").startswith("container:"):
        raise unsupported("the embedded engine of dockerlab cannot share the network of another container")
    if fields.text(body, "Runtime") not in ("", "runc"):
        raise bad(f"Unknown runtime specified {body['Runtime']}")
    if fields.text(body, "VolumeDriver") not in ("", "local"):
        driver = body["VolumeDriver"]
        raise RefusalError(404, f'error looking up volume plugin {driver}: plugin "{driver}" not found')
    kind = fields.text(fields.table(body, "LogConfig"), "Type")
    if kind not in ("", "json-file", "local"):
        raise bad(f'error looking up logging plugin {kind}: plugin "{kind}" not found')


def _check_rest(body: Mapping[str, Any]) -> None:
    memory, cpus = fields.whole(body, "Memory"), fields.whole(body, "NanoCpus")
    if memory < 0 or 0 < memory < _SMALLEST_MEMORY:
        raise bad("Minimum memory limit allowed is 6MB")
    there = len(os.sched_getaffinity(0))
    if cpus < 0 or cpus > there * 10**9:
        raise bad(f"Range of CPUs is from 0.01 to {there}.00, as there are only {there} CPUs available")
    for one in fields.texts(body, "ExtraHosts") or ():
        if not _HOST.fullmatch(one):
            raise bad(f'bad format for add-host: "{one}"')
    for name in ("Dns", "DnsSearch", "DnsOptions"):
        for one in fields.texts(body, name) or ():
            if not one or any(character.isspace() for character in one):
                raise bad(f"invalid value {one!r} for {name}")
    ports.published(fields.table(body, "PortBindings"), (), False)
    ulimits(body)

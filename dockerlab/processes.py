"""Processes by number and time of birth: a number alone may belong to somebody else by now."""

from __future__ import annotations

import contextlib
import itertools
import os
from dataclasses import dataclass
from pathlib import Path

_SAME_S = 0.05


@dataclass(frozen=True)
class Process:
    """One process of this machine.

    Parameters
    ----------
    pid : int
        Its number.
    created_s : float
        When it was made, on a clock that only this module compares.
    """

    pid: int
    created_s: float

    @classmethod
    def of(cls, pid: int) -> Process:
        """Look a living process up by its number."""
        return cls(pid, _created_s(pid))

    @classmethod
    def current(cls) -> Process:
        """Give this process."""
        return cls.of(os.getpid())

    def alive(self) -> bool:
        """Tell whether it still runs."""
        import psutil  # noqa: PLC0415

        try:
            same = abs(_created_s(self.pid) - self.created_s) < _SAME_S
            return same and psutil.Process(self.pid).status() != psutil.STATUS_ZOMBIE
        except (psutil.Error, OSError):
            return False

    def is_me(self) -> bool:
        """Tell whether it is this process."""
        return self.pid == os.getpid() and self.alive()

    def end(self, *, timeout_s: float = 5.0) -> None:
        """Ask it to end, and kill it where it has not within `timeout_s` seconds; one that is gone is fine."""
        import psutil  # noqa: PLC0415

        if not self.alive():
            return
        try:
            process = psutil.Process(self.pid)
            process.terminate()
            try:
                process.wait(timeout_s)
            except psutil.TimeoutExpired:
                process.kill()
        except psutil.NoSuchProcess:
            pass


def haproxies_with(config: Path) -> list[Process]:
    """Give the HAProxy processes that were started with the configuration file `config`."""
    import psutil  # noqa: PLC0415

    found = []
    for process in psutil.process_iter(["name", "cmdline"]):
        words = process.info["cmdline"] or []
        with contextlib.suppress(psutil.Error, OSError):
            if process.info["name"] == "haproxy" and ("-f", str(config)) in itertools.pairwise(words):
                found.append(Process.of(process.pid))
    return found


def registries_with(folder: Path) -> list[Process]:
    """Give the registries that were started with their files in `folder`."""
    import psutil  # noqa: PLC0415

    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        with contextlib.suppress(psutil.Error, OSError):
            serves = "serve" in words or "dockerlab.engine.images.serve" in words
            if serves and any(Path(word).parent == folder for word in words):
                found.append(Process.of(process.pid))
    return found


def _created_s(pid: int) -> float:
    """Give when a process was made: since the start of the machine on Linux, since the epoch elsewhere.

    The first kind stays as it is when the clock of the machine is set.
    """
    stat = Path(f"/proc/{pid}/stat")
    if stat.exists():
        # Field 22, counted behind the name, which is in parentheses and may hold anything.
        ticks = int(stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19])
        # Ticks begin anew with each start of the machine, whose mark keeps two starts apart.
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
        return int(boot[:4], 16) * 1e9 + ticks / os.sysconf("SC_CLK_TCK")
    import psutil  # noqa: PLC0415

    return float(psutil.Process(pid).create_time())


def is_running(pid: int) -> bool:
    """Tell whether any process has that number."""
    import psutil  # noqa: PLC0415

    return bool(psutil.pid_exists(pid))

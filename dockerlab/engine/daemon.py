"""Start, stop and look at the engine from outside. Everything here blocks."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock

from dockerlab.engine import lock
from dockerlab.engine.journal import end_of
from dockerlab.engine.places import Places
from dockerlab.errors import EngineError

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 15.0  # it gives containers 10 s
ANSWER_TIMEOUT_S = 3.0
_PAUSE_S = 0.02
_ALIASES = {"bwrap": "bubblewrap"}
_SHOWN = (
    "runs",
    "process",
    "memory",
    "isolator",
    "storage_driver",
    "containers",
    "containers_running",
    "images",
    "socket",
    "data",
)


@dataclass(frozen=True)
class Status:
    """What can be seen of the engine from outside.

    Attributes
    ----------
    running : bool
        Whether it answers.
    pid : int or None
        Its process; there may be one that does not answer.
    memory_bytes : int or None
        What that process itself has in memory, without containers.
    places : Places
        Its folders.
    info : dict
        Its answer to ``GET /info``; empty when it does not answer.
    """

    running: bool
    pid: int | None
    memory_bytes: int | None
    places: Places
    info: dict[str, Any]

    @property
    def rows(self) -> tuple[tuple[str, str], ...]:
        """The same as pairs of a label and a text."""
        runs = "yes" if self.running else "no" if self.pid is None else "it does not answer"
        memory = f"{self.memory_bytes / 1e6:.0f} MB" if self.memory_bytes else None
        facts = {**self.as_dict(), "runs": runs, "process": self.pid, "memory": memory}
        return tuple((name.replace("_", " "), str(facts[name])) for name in _SHOWN if facts[name] not in (None, ""))

    def as_dict(self) -> dict[str, Any]:
        """Give everything as JSON values.

        Returns
        -------
        dict
            What is not known is None.
        """
        own = self.info.get("Dockerlab") or {}
        return {
            "running": self.running,
            "pid": self.pid,
            "memory_bytes": self.memory_bytes,
            "version": self.info.get("ServerVersion"),
            "isolator": own.get("Isolator"),
            "walls": own.get("Walls"),
            "storage_driver": self.info.get("Driver"),
            "containers": self.info.get("Containers"),
            "containers_running": self.info.get("ContainersRunning"),
            "images": self.info.get("Images"),
            "socket": str(self.places.socket),
            "data": str(self.places.data),
            "log": str(self.places.log),
            "warnings": self.info.get("Warnings") or [],
        }


def start(places: Places, *, isolation: str = "", idle_exit_s: float = 0.0) -> bool:
    """Start the engine unless it answers already, and wait until it does.

    However many processes ask at the same moment, one engine is started.

    Parameters
    ----------
    places : Places
        Its folders.
    isolation : str
        ``"bubblewrap"`` or ``"proot"``; the best that works here when it is empty.
    idle_exit_s : float
        Let it end by itself when it had nothing to do for so long; 0 is never.

    Returns
    -------
    bool
        Whether it was started now.

    Raises
    ------
    EngineError
        It did not start; has the end of its log. Or it runs already, with another isolation.
    """
    _only_linux()
    places.make()
    with _alone(places):
        if answers(places):
            _check_isolation(places, isolation)
            return False
        _launch(places, isolation, idle_exit_s)
    return True


def stop(places: Places) -> bool:
    """Stop the engine: its containers end, its store stays.

    Parameters
    ----------
    places : Places
        Its folders.

    Returns
    -------
    bool
        Whether there was one.

    Raises
    ------
    EngineError
        It cannot be ended.
    """
    _only_linux()
    if not places.data.is_dir():
        return False
    with _alone(places):
        pid = _holder(places)
        if pid is None:
            return False
        for number, patience_s in ((signal.SIGTERM, STOP_TIMEOUT_S), (signal.SIGKILL, 5.0)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
            deadline = time.monotonic() + patience_s
            while time.monotonic() < deadline:
                if lock.holder(places.lock) != pid:
                    return True
                time.sleep(_PAUSE_S)
    raise EngineError(f"The embedded engine (process {pid}) does not end.", "Restart this machine or its session.")


def status(places: Places) -> Status:
    """Look at the engine.

    Parameters
    ----------
    places : Places
        Its folders.

    Returns
    -------
    Status
        Also when there is none.
    """
    pid = lock.holder(places.lock)
    info: dict[str, Any] = {}
    with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
        content = json.loads(_get(places, "/info"))
        info = content if isinstance(content, dict) else {}
    return Status(bool(info), pid, _memory_bytes(pid) if pid else None, places, info)


def answers(places: Places) -> bool:
    """Tell whether the engine answers."""
    try:
        return _get(places, "/_ping") == b"OK"
    except (OSError, http.client.HTTPException):
        return False


@contextlib.contextmanager
def _alone(places: Places) -> Iterator[None]:
    """Keep other processes and threads from starting or stopping it at the same time."""
    waiting = filelock.FileLock(places.start_lock, timeout=START_TIMEOUT_S + STOP_TIMEOUT_S, mode=0o600)
    try:
        waiting.acquire()
    except (filelock.Timeout, OSError) as error:
        raise EngineError(
            f"The embedded engine can be neither started nor stopped: {places.start_lock} is not to be had ({error}).",
            "Another process may be starting or stopping it: wait a moment and run this again.",
        ) from error
    try:
        yield
    finally:
        waiting.release()


def _check_isolation(places: Places, asked: str) -> None:
    """Refuse an engine that runs with another isolation than was asked for."""
    actual = str((status(places).info.get("Dockerlab") or {}).get("Isolator") or "") if asked else ""
    if asked and _ALIASES.get(asked, asked) != actual:
        raise EngineError(
            f"The embedded engine runs already, with {actual}, but {asked} was asked for.",
            "Run `dockerlab engine stop` first, which ends its containers.",
        )


def _launch(places: Places, isolation: str, idle_exit_s: float) -> None:
    command = [sys.executable, str(Path(__file__).with_name("boot.py")), "--detach"]
    command += ["--data", str(places.data), "--runtime", str(places.runtime)]
    if isolation:
        command += ["--isolation", isolation]
    if idle_exit_s:
        command += ["--idle-exit", str(idle_exit_s)]
    ready, told = os.pipe()
    try:
        with open(places.log, "ab", opener=_private) as log:
            # The one that is waited for here only forks
            subprocess.run(
                [*command, "--ready", str(told)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",  # it must not keep a folder of the learner's busy
                pass_fds=(told,),
                start_new_session=True,
                check=False,
                timeout=START_TIMEOUT_S,
            )
    except (OSError, subprocess.TimeoutExpired) as error:
        os.close(ready)
        raise _not_started(places, f"{error}") from error
    finally:
        os.close(told)
    with open(ready, "rb", buffering=0) as reading:
        said = _read_line(reading.fileno(), START_TIMEOUT_S)
    if said != b"ready":
        raise _not_started(places, "it ended" if not said else "it did not answer in time")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _read_line(file: int, timeout_s: float) -> bytes:
    """Read what the server says when it listens: nothing when it ended, ``b"late"`` when it said nothing in time."""
    import select  # noqa: PLC0415

    readable, _, _ = select.select([file], [], [], timeout_s)
    return os.read(file, 64).strip() if readable else b"late"


def _not_started(places: Places, reason: str) -> EngineError:
    printed = end_of(places.log).strip()
    wrote = f"\nThe end of its log ({places.log}):\n{printed}" if printed else ""
    return EngineError(
        f"The embedded engine did not start: {reason}.{wrote}",
        "Look at the last lines of the log, and at what `dockerlab doctor` says about this machine.",
    )


def _holder(places: Places) -> int | None:
    """Give the server's process; waits a moment for one that has not written its number yet."""
    for _ in range(5):
        pid = lock.holder(places.lock)
        if pid is not None:
            return pid
        time.sleep(_PAUSE_S)
    return None


def _memory_bytes(pid: int) -> int | None:
    with contextlib.suppress(OSError, ValueError, IndexError):
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    return None


def _get(places: Places, path: str) -> bytes:
    connection = _Connection(places.socket)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    finally:
        connection.close()


class _Connection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=ANSWER_TIMEOUT_S)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(ANSWER_TIMEOUT_S)
        try:
            self.sock.connect(self._path)
        except OSError:
            self.sock.close()
            raise


def _only_linux() -> None:
    if sys.platform != "linux":
        raise EngineError(
            "The embedded engine runs on Linux only: it needs the Linux kernel's walls between processes.",
            "Install Docker Desktop or Podman on this machine.",
        )

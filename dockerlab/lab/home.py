"""Where a lab keeps its files, whose it is, and which process drives it."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import secrets
import shutil
import stat
import subprocess
import sys
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dockerlab.errors import BadInputError, LabLockedError, StateError
from dockerlab.processes import Process, haproxies_with, registries_with

if TYPE_CHECKING:
    import filelock

LOCKS = 64
NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")


def check_name(kind: str, name: str) -> str:
    """Give `name` back where it can name containers.

    Raises
    ------
    BadInputError
        Where it cannot.
    """
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise BadInputError(
            f"{name!r} cannot be the name of a {kind}.",
            "Use small letters, digits and hyphens, a letter first, at most 31 of them.",
        )
    return name


def ephemeral_name() -> str:
    """Name the lab of this process: the same each time it is asked for, so that running a cell again finds the lab."""
    me = Process.current()
    mark = f"{platform.node()} {me.pid} {me.created_s}"
    return f"lab-{hashlib.sha256(mark.encode()).hexdigest()[:6]}"


def state_root() -> Path:
    """Give the folder with the state of all labs of this user, making it."""
    import platformdirs  # noqa: PLC0415 - `import dockerlab` must stay quick

    return private_folder(Path(platformdirs.user_state_path("dockerlab", appauthor=False)))


def owner() -> str:
    """Give the mark of this user, 8 hex digits: learners on one engine never meet, whatever they call their labs."""
    path = state_root() / "owner"
    with _file_lock(path.with_name(".owner.lock")):
        mark = path.read_text(encoding="ascii").strip() if path.exists() else ""
        if not re.fullmatch("[0-9a-f]{8}", mark):
            mark = secrets.token_hex(4)
            replace_file(path, mark)
        return mark


def private_folder(path: Path) -> Path:
    """Make `path` a folder that only this user can enter.

    Raises
    ------
    StateError
        Where it belongs to somebody else or cannot be made.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.lstat()
        if stat.S_ISLNK(found.st_mode):
            raise StateError(path, "it is a link, and must be a folder")
        if hasattr(os, "getuid") and found.st_uid != os.getuid():
            raise StateError(path, "it belongs to another user")
        path.chmod(0o700)
    except OSError as error:
        raise StateError(path, error.strerror or str(error)) from error
    return path


@dataclass(frozen=True)
class Holder:
    """The process that drives a lab, and the number of its watchdog (0 where there is none)."""

    process: Process
    watchdog: int = 0


class Home:
    """The files of one lab.

    Parameters
    ----------
    name : str
        Name of the lab.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = state_root() / "labs" / name
        # A unix socket's path may be 107 bytes long at most, so not below the state folder.
        user = os.getuid() if hasattr(os, "getuid") else os.getlogin()
        self._runtime_root = Path(tempfile.gettempdir()) / f"dockerlab-{user}"
        self._runtime = self._runtime_root / f"{owner()}-{name}"

    @classmethod
    def all(cls) -> list[Home]:
        """Give the homes of all labs of this user, by name."""
        return [cls(path.name) for path in sorted(state_root().glob("labs/*")) if path.is_dir()]

    @property
    def state_path(self) -> Path:
        """The state file."""
        return self.path / "state.json"

    @property
    def registry(self) -> Path:
        """The folder with the registry's images, settings and log."""
        return self.path / "registry"

    @property
    def _holder_path(self) -> Path:
        return self.path / "holder.json"

    def runtime(self) -> Path:
        """Give the folder for sockets, making it."""
        private_folder(self._runtime_root)
        return private_folder(self._runtime)

    def holder(self) -> Holder | None:
        """Give the process that drives the lab, None where there is none alive."""
        try:
            content = json.loads(self._holder_path.read_text(encoding="utf-8"))
            holder = Holder(Process(int(content["pid"]), float(content["created_s"])), int(content["watchdog"]))
        except (OSError, ValueError, TypeError, KeyError):
            return None
        return holder if holder.process.alive() else None

    def take(self, *, watched: bool, engine_address: str = "") -> None:
        """Make this process the one that drives the lab; with a watchdog that cleans up after it where asked for.

        Parameters
        ----------
        watched : bool
        engine_address : str
            Where the watchdog finds the engine; its own search where left out.

        Raises
        ------
        LabLockedError
            Where another live process drives it.
        """
        private_folder(self.path)
        with self.guard():
            holder = self.holder()
            if holder and not holder.process.is_me():
                raise LabLockedError(self.name, holder.process.pid)
            watchdog = _watchdog(self.name, engine_address) if watched else 0
            if holder and holder.watchdog == watchdog:
                return
            me = Process.current()
            content = {"pid": me.pid, "created_s": me.created_s, "watchdog": watchdog}
            replace_file(self._holder_path, json.dumps(content))

    def release(self) -> None:
        """Let another process drive the lab."""
        with self.guard():
            holder = self.holder()
            if holder is None or holder.process.is_me():
                self._holder_path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the lab's files, and end a router and a registry that were started but never recorded."""
        for config in self._runtime.glob("*.cfg"):
            for stray in haproxies_with(config):
                stray.end()
        for stray in registries_with(self.registry):
            stray.end()
        shutil.rmtree(self.path, ignore_errors=True)
        shutil.rmtree(self._runtime, ignore_errors=True)

    def guard(self) -> filelock.BaseFileLock:
        """Give the lock under which the holder of this lab is looked at and changed."""
        # A lock file cannot be removed safely, so a few serve all labs: a new one for each would pile up.
        number = zlib.crc32(self.name.encode()) % LOCKS
        return _file_lock(state_root() / f".labs-{number:02}.lock")


def _file_lock(path: Path) -> filelock.BaseFileLock:
    import filelock  # noqa: PLC0415 - `import dockerlab` must stay quick

    return filelock.FileLock(path)


def replace_file(path: Path, text: str) -> None:
    """Replace a file in one move: whoever reads it finds the old text or the new one."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise StateError(path, error.strerror or str(error)) from error


def _watchdog(name: str, engine_address: str) -> int:
    """Give the number of this process's watchdog for a lab, starting one where there is none."""
    known = _WATCHDOGS.get(name)
    if known is None or known.poll() is not None:
        _WATCHDOGS[name] = known = _start_watchdog(name, engine_address)
    return known.pid


def _start_watchdog(name: str, engine_address: str) -> subprocess.Popen[bytes]:
    # -S and -E: the waiting needs nothing but the standard library, and so costs 8 MB. The package's folder is named,
    # as the folder of a notebook may hold a docker.py or the like that would stand in the way of the clean-up.
    script = Path(__file__).with_name("watchdog.py")
    return subprocess.Popen(
        [sys.executable, "-S", "-E", str(script), str(os.getpid()), name, str(script.parents[2])],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **({"DOCKER_HOST": engine_address} if engine_address else {})},
        start_new_session=True,
    )


# One a lab; they end with this process.
_WATCHDOGS: dict[str, subprocess.Popen[bytes]] = {}

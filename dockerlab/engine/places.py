"""Where the engine keeps its things: images and containers in a data folder, its socket in a runtime folder."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from dockerlab.errors import EngineError

SOCKET_LIMIT_BYTES = 100  # the kernel takes 108 at most, some systems 104, both with the zero at the end


@dataclass(frozen=True)
class Places:
    """The folders of one engine.

    Attributes
    ----------
    data : Path
        What stays: images, containers, volumes, the log.
    runtime : Path
        What is gone after a restart of the machine: the socket.
    """

    data: Path
    runtime: Path

    @property
    def socket(self) -> Path:
        """Where the engine listens."""
        return self.runtime / "engine.sock"

    @property
    def address(self) -> str:
        """The value for DOCKER_HOST."""
        return f"unix://{self.socket}"

    @property
    def images(self) -> Path:
        """The store of images."""
        return self.data / "images"

    @property
    def roots(self) -> Path:
        """The file systems of containers."""
        return self.data / "roots"

    @property
    def temporary(self) -> Path:
        """What is only needed while a request runs; emptied at the start."""
        return self.data / "tmp"

    @property
    def lock(self) -> Path:
        """Held by the server for its whole life, with its process number in it."""
        return self.data / "engine.lock"

    @property
    def start_lock(self) -> Path:
        """Held by whoever starts or stops the server from outside."""
        return self.data / "start.lock"

    @property
    def log(self) -> Path:
        """What the server has to say."""
        return self.data / "engine.log"

    def make(self) -> None:
        """Make the folders, readable by their owner alone.

        Raises
        ------
        EngineError
            One of them cannot be made, or belongs to somebody else.
        """
        make_private(self.data, may_be_link=True)
        make_private(self.runtime.parent)  # whoever could write to it could put another folder in our place
        make_private(self.runtime)
        if len(os.fsencode(self.socket)) >= SOCKET_LIMIT_BYTES:
            raise EngineError(
                f"The path of the engine's socket is too long: {self.socket}.",
                "Set XDG_RUNTIME_DIR or TMPDIR to a folder with a shorter path and run this again.",
            )


def find_places(environ: Mapping[str, str] = os.environ) -> Places:
    """Say where the engine of this user keeps its things. Makes nothing.

    Parameters
    ----------
    environ : mapping of str to str
        ``XDG_DATA_HOME`` says where the data is, ``XDG_RUNTIME_DIR`` or else ``TMPDIR`` where the socket is. Each data
        folder has an engine of its own.

    Returns
    -------
    Places

    Raises
    ------
    EngineError
        There is no folder for the socket.
    """
    home = environ.get("XDG_DATA_HOME", "").strip()
    if home.startswith("/"):
        data = Path(home) / "dockerlab" / "engine"
    else:
        data = platformdirs.user_data_path("dockerlab", appauthor=False) / "engine"
    # A folder of its own for each data folder: two engines must not share a socket. The real path, so that one data
    # folder does not get two sockets by two names.
    digest = hashlib.sha256(os.fsencode(os.path.realpath(data))).hexdigest()[:8]
    return Places(data, _runtime(environ) / digest)


def make_private(folder: Path, *, may_be_link: bool = False) -> None:
    """Make a folder that only its owner can enter, and see to it that it is one.

    Parameters
    ----------
    folder : Path
        What is missing of its parents is made like it.
    may_be_link : bool
        Whether it may be a link to a folder, for instance on a bigger disk.

    Raises
    ------
    EngineError
        It cannot be made, is a link, or belongs to somebody else.
    """
    try:
        for part in reversed([path for path in (folder, *folder.parents) if not os.path.lexists(path)]):
            part.mkdir(mode=0o700, exist_ok=True)
        found = folder.stat() if may_be_link else folder.lstat()
        ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
        if ours and stat.S_IMODE(found.st_mode) & 0o077:
            folder.chmod(0o700)
    except OSError as error:
        raise _unusable(folder, error.strerror or type(error).__name__) from error
    if not ours:
        raise _unusable(folder, "it is not a folder, or belongs to another user")


def _runtime(environ: Mapping[str, str]) -> Path:
    """Give the folder for sockets: the session's, or one below the folder for temporary files named by user."""
    session = environ.get("XDG_RUNTIME_DIR", "").strip()
    if session.startswith("/") and _is_ours(Path(session)):
        runtime = Path(session) / "dockerlab"
        if len(os.fsencode(runtime)) + len("/12345678/engine.sock") < SOCKET_LIMIT_BYTES:
            return runtime
    temporary = Path(environ.get("TMPDIR", "").strip() or tempfile.gettempdir())
    return temporary.absolute() / f"dockerlab-{os.getuid()}"


def _is_ours(folder: Path) -> bool:
    try:
        found = folder.stat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and os.access(folder, os.W_OK | os.X_OK)


def _unusable(folder: Path, reason: str) -> EngineError:
    return EngineError(
        f"The embedded engine cannot use the folder {folder}: {reason}.",
        "Remove it or set XDG_RUNTIME_DIR and XDG_DATA_HOME to folders of your own, and run this again.",
    )

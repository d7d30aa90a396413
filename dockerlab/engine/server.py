"""The engine's process: takes the lock, listens, and ends cleanly."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import resource
import signal
import socket
import sys
import uuid
from pathlib import Path

from aiohttp import web

from dockerlab.engine import files
from dockerlab.engine.api import (
    archive,
    build,
    commit,
    containers,
    disk,
    images,
    networks,
    streams,
    system,
    transfers,
    volumes,
)
from dockerlab.engine.api import exec as exec_
from dockerlab.engine.api.app import State, make_app
from dockerlab.engine.api.complaints import server_log
from dockerlab.engine.containers.lifecycle import Containers
from dockerlab.engine.containers.networks import Networks
from dockerlab.engine.containers.volumes import Volumes
from dockerlab.engine.events import Events
from dockerlab.engine.idle import Idle
from dockerlab.engine.images import Images
from dockerlab.engine.isolate import NoIsolatorError, open_isolator
from dockerlab.engine.journal import Journal
from dockerlab.engine.lock import Lock
from dockerlab.engine.places import Places
from dockerlab.errors import EngineError

log = logging.getLogger(__name__)
BACKLOG = 512
STOP_S = 8.0  # for containers; whoever stops the engine waits a little longer
LAST_ANSWERS_S = 1.0


def serve(places: Places, *, isolation: str = "", idle_exit_s: float = 0.0, ready: int = -1) -> int:
    """Be the engine until a signal ends it.

    Parameters
    ----------
    places : Places
        Its folders; made when they are missing.
    isolation : str
        ``"bubblewrap"`` or ``"proot"``; the best that works here when it is empty.
    idle_exit_s : float
        End when no container ran and nobody asked anything for so long; 0 is never.
    ready : int
        File descriptor to write ``ready`` to once it listens, and then to close.

    Returns
    -------
    int
        The exit code: 0 after a signal, 1 when it could not start.
    """
    try:
        places.make()
    except EngineError as error:
        print(error, file=sys.stderr)  # noqa: T201  it goes into the log
        return 1
    logging.basicConfig(level=logging.INFO, handlers=[Journal(places.log)])
    lock = Lock(places.lock)
    if not lock.take():
        log.error("another engine serves the data folder %s", places.data)
        return 1
    try:
        _raise_descriptors()
        asyncio.run(_Server(places, isolation, idle_exit_s).run(ready))
    except EngineError as error:
        log.error("%s", error)
        return 1
    except Exception:
        log.exception("the engine broke")
        return 1
    finally:
        lock.release()
    return 0


class _Server:
    def __init__(self, places: Places, isolation: str, idle_exit_s: float) -> None:
        self._places = places
        self._isolation = isolation
        self._idle_exit_s = idle_exit_s
        self._ending = asyncio.Event()

    async def run(self, ready: int) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ending.set)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        state = await self._open()
        idle = Idle(self._idle_exit_s, lambda: _is_busy(state), self._ending.set)
        app = make_app(state, _routes(), [idle.middleware()])
        runner = web.AppRunner(
            app, access_log=None, logger=server_log(), handler_cancellation=True, shutdown_timeout=LAST_ANSWERS_S
        )
        await runner.setup()
        try:
            await web.SockSite(runner, _listen(self._places.socket), backlog=BACKLOG).start()
            log.info("version %s listens at %s", state.version, self._places.socket)
            if ready >= 0:
                with contextlib.suppress(OSError):
                    os.write(ready, b"ready\n")
                os.close(ready)
            idle.watch()
            await self._ending.wait()
            log.info("ending")
        finally:
            with contextlib.suppress(OSError):
                self._places.socket.unlink()
            await self._close(state)
            await runner.cleanup()

    async def _open(self) -> State:
        """Open the parts; the image store reads its files while the isolator looks at the machine."""
        opening = asyncio.ensure_future(open_isolator(self._places.roots, choice=self._isolation or None))
        try:
            await asyncio.to_thread(_empty, self._places.temporary)
            store = await asyncio.to_thread(Images, self._places.images)
            isolator = await opening
        except NoIsolatorError as error:
            what, _, advice = str(error).rpartition(". ")
            if not what:
                what, advice = advice.rstrip("."), "Use a machine that is, or one with Docker Engine or Podman."
            raise EngineError(f"{what}.", advice) from error
        finally:
            opening.cancel()
        log.info("isolation by %s %s", isolator.name, isolator.report.version)
        events = Events()
        data = self._places.data
        nets = await asyncio.to_thread(Networks, data / "networks.json")
        kept = await asyncio.to_thread(Volumes, data / "volumes")
        lot = Containers(data / "containers", store, isolator, nets, kept, events)
        await lot.open()
        await isolator.tidy([container.id for container in lot.list()])
        wanted = lot.diff_ids()
        await asyncio.to_thread(store.sweep, lambda: wanted)
        return State(
            version=_version(),
            id=_identity(self._places.data / "id"),
            places=self._places,
            images=store,
            isolator=isolator,
            events=events,
            containers=lot,
            networks=nets,
            volumes=kept,
        )

    async def _close(self, state: State) -> None:
        """End the containers, then what held them."""
        state.events.close()
        await state.containers.close(STOP_S)
        await state.isolator.close()


def _routes() -> list[web.RouteDef]:
    """Give all routes, what is asked most often first."""
    rooms = (
        system,
        containers,
        streams,
        exec_,
        archive,
        networks,
        volumes,
        transfers,
        images,
        build,
        commit,
        disk,
    )
    return [route for room in rooms for route in room.routes()]


def _empty(folder: Path) -> None:
    """Remove what an engine that was killed left behind."""
    files.remove(folder)
    folder.mkdir(mode=0o700)


def _is_busy(state: State) -> bool:
    """Tell whether a container runs."""
    return any(container.record.running for container in state.containers.list())


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415

    try:
        return version("dockerlab-course")
    except PackageNotFoundError:
        return "0"


def _identity(path: Path) -> str:
    """Give what this engine calls itself; made once."""
    with contextlib.suppress(OSError, ValueError):
        return str(uuid.UUID(path.read_text(encoding="ascii").strip()))
    identity = str(uuid.uuid4())
    files.replace(path, f"{identity}\n".encode())
    return identity


def _raise_descriptors() -> None:
    """Allow as many open files as this process may have: each container takes several."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _listen(path: Path) -> socket.socket:
    """Make the socket, for its owner alone. What is there was left by a dead engine: we hold the lock."""
    listening = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)
    try:
        path.unlink(missing_ok=True)
        listening.bind(str(path))
    except OSError as error:
        listening.close()
        name = errno.errorcode.get(error.errno or 0, "")
        raise EngineError(
            f"The engine cannot listen at {path}: {error.strerror} ({name}).", "Remove what is in its place."
        ) from error
    finally:
        os.umask(before)
    return listening

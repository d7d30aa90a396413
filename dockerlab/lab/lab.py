"""The lab: one learner's bench on one engine."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import docker

from dockerlab.commands import CommandLog, Commands
from dockerlab.connect import Engine, connect, protect_loopback
from dockerlab.errors import BadInputError, DockerlabError, LabClosedError, StateError
from dockerlab.fleet.control import Control
from dockerlab.fleet.fleet import Fleet, check_history_limit, check_replicas
from dockerlab.fleet.model import Revision
from dockerlab.fleet.site import Place
from dockerlab.fleet.state import HISTORY_LIMIT, FleetRecord, LabState
from dockerlab.images import Image, Registry, build, find
from dockerlab.lab.clean import CleanReport, clean
from dockerlab.lab.collect import collect
from dockerlab.lab.home import Home, check_name, ephemeral_name, owner
from dockerlab.lab.oneoff import RunResult, run, start
from dockerlab.lab.registry import open_registry
from dockerlab.ownership import LAB_LABEL, OWNER_LABEL
from dockerlab.router import stop_router

if TYPE_CHECKING:
    from docker.models.containers import Container

    from dockerlab.drift.servers import Servers
    from dockerlab.traffic.load import Traffic

RUN_LABEL, RUN_VARIABLE = "dockerlab.run", "DOCKERLAB_RUN"


class Lab:
    """A bench on which images are built and containers run, scaled and replaced.

    A lab without a name is ephemeral: what it made is removed when this process ends, however it ends. It is the same
    lab each time it is asked for within one process. A named lab stays until :meth:`reset`; opened again, it finds its
    fleets as they are. One process drives a lab at a time.

    Parameters
    ----------
    name : str, optional
        Small letters, digits and hyphens.
    engine : {"docker", "podman", "embedded"}, optional
        Take only an engine of that kind; DOCKERLAB_ENGINE says so otherwise.

    Raises
    ------
    EngineNotFoundError
        Where no engine answers; names each place that was tried.
    LabLockedError
        Where another live process drives the lab.
    StateError
        Where the lab's state file does not parse, or its fleets are on another engine.

    Examples
    --------
    >>> lab = Lab()  # doctest: +SKIP
    >>> v1 = lab.build("apps/web", tag="web:1")  # doctest: +SKIP
    >>> web = lab.fleet("web", v1, replicas=3)  # doctest: +SKIP
    >>> web.scale(10)  # doctest: +SKIP
    >>> lab.reset()  # doctest: +SKIP
    """

    name: str
    engine: Engine
    fleets: dict[str, Fleet]
    _log: CommandLog
    _state: LabState
    _closed: threading.Event
    _saving: threading.Lock

    def __init__(self, name: str | None = None, *, engine: str | None = None) -> None:
        self.ephemeral = name is None
        self.name = ephemeral_name() if name is None else check_name("lab", name)
        protect_loopback(os.environ)
        self.engine = connect(engine)
        self._home = Home(self.name)
        self._home.take(watched=self.ephemeral, engine_address=self._watchdog_host)
        earlier = _OPEN.get(self.name)
        if earlier and earlier.engine.address == self.engine.address:
            self._share(earlier)
        else:
            try:
                self._load()
            except BaseException:
                if earlier is None:
                    self._home.release()
                raise
        _OPEN[self.name] = self

    def _share(self, earlier: Lab) -> None:
        """Be one with the lab that this process opened before: its fleets are in the learner's variables."""
        self.engine.client.close()
        self.engine = earlier.engine
        self.fleets = earlier.fleets
        self._log = earlier._log
        self._state = earlier._state
        self._closed = earlier._closed
        self._saving = earlier._saving
        self._save()

    def _load(self) -> None:
        self._closed, self._saving = threading.Event(), threading.Lock()
        self._log = CommandLog()
        self._log.attach(self.client)
        self.fleets = {}
        self._state = LabState.load(self._home.state_path) or LabState(self.engine.id)
        if self._state.fleets and self._state.engine_id != self.engine.id:
            raise StateError(self._home.state_path, "the fleets of this lab are on another engine")
        self._state.engine_id = self.engine.id
        self._save()
        for record in list(self._state.fleets.values()):
            self.fleets[record.name] = self._open(record, ready_timeout_s=60.0)

    @property
    def client(self) -> docker.DockerClient:
        """The plain client of the ``docker`` package, for everything that the lab has no word for."""
        return self.engine.client

    @property
    def labels(self) -> dict[str, str]:
        """The labels that mark a container, network or volume as this lab's. Whatever carries them, reset removes."""
        return {LAB_LABEL: self.name, OWNER_LABEL: owner()}

    @property
    def commands(self) -> Commands:
        """What you would have typed to do what the lab did last, as ``docker`` commands."""
        return self._log.last

    @property
    def history(self) -> Commands:
        """All ``docker`` commands of this lab so far."""
        return self._log.all

    def build(
        self,
        path: str | Path,
        *,
        tag: str,
        args: Mapping[str, str] | None = None,
        no_cache: bool = False,
        dockerfile: str = "Dockerfile",
        quiet: bool = False,
    ) -> Image:
        """Build the folder `path` into an image, printing each step with its time as it is done.

        Parameters
        ----------
        path : str or Path
            Folder with the Dockerfile and the files that it copies.
        tag : str
            Name of the image, such as ``web:1``.
        args : mapping, optional
            Build arguments.
        no_cache : bool
            Do every step again.
        dockerfile : str
            Name of the Dockerfile within `path`.
        quiet : bool
            Print nothing.

        Returns
        -------
        Image
            With its id, size, layers and build steps.

        Raises
        ------
        DockerfileError
            Where the Dockerfile is missing or does not parse.
        BuildError
            Where a step fails; has the step and its output.
        ImageNotFoundError
            Where the image after FROM does not exist.
        """
        self._ready(f"build {tag}")
        progress: Callable[[str], None] | None = None if quiet else _print
        made = build(self.client, path, tag=tag, dockerfile=dockerfile, args=args, no_cache=no_cache, progress=progress)
        self._state.built[tag] = made.id
        self._save()
        return made

    def image(self, name: str) -> Image:
        """Look an image up by name or id.

        Raises
        ------
        ImageNotFoundError
            Where there is none.
        """
        return find(self.client, name)

    def run(
        self,
        image: Image | str,
        command: str | Sequence[str] | None = None,
        *,
        env: Mapping[str, str] | None = None,
        timeout_s: float = 60.0,
    ) -> RunResult:
        """Run one container to its end, take what it printed and throw it away.

        Parameters
        ----------
        image : Image or str
        command : str or sequence of str, optional
            The image's own command where left out. A str is split as a shell splits it.
        env : mapping, optional
            Environment variables.
        timeout_s : float
            Seconds after which the container is removed and an error raised.

        Returns
        -------
        RunResult
            Output, exit code and times. A program that fails is a result, not an error.

        Raises
        ------
        ImageNotFoundError
            Where there is no such image.
        ContainerFailedError
            Where it cannot be started, or runs longer than `timeout_s`.
        """
        self._ready(f"run {_title(image)}")
        return run(
            self.client,
            _ref(image),
            command,
            title=_title(image),
            name=self._new_name(),
            labels=self._made,
            env=env,
            timeout_s=timeout_s,
        )

    def start(
        self,
        image: Image | str,
        command: str | Sequence[str] | None = None,
        *,
        name: str | None = None,
        env: Mapping[str, str] | None = None,
        ports: Mapping[int, int | None] | None = None,
        volumes: Mapping[str, str] | None = None,
        init: bool = False,
    ) -> Container:
        """Start one container and let it run (``docker run -d``).

        Parameters
        ----------
        image : Image or str
        command : str or sequence of str, optional
        name : str, optional
            A container of this lab that has the name already is removed first.
        env : mapping, optional
        ports : mapping of int to int or None, optional
            Port in the container to port on loopback; None takes a free one.
        volumes : mapping of str to str, optional
            Name of a volume of this lab (made where missing) to its path in the container.
        init : bool
            Run the engine's init as process 1.

        Returns
        -------
        docker.models.containers.Container
            The container of the ``docker`` package.

        Raises
        ------
        ImageNotFoundError, ContainerFailedError, PortTakenError
        """
        self._ready(f"start {_title(image)}")
        return start(
            self.client,
            _ref(image),
            command,
            title=_title(image),
            name=name or self._new_name(),
            labels=self._made,
            owned=self.labels,
            env=env,
            ports=ports,
            volumes=volumes,
            init=init,
        )

    def fleet(
        self,
        name: str,
        image: Image | str,
        *,
        replicas: int = 1,
        port: int | None = None,
        target_port: int | None = None,
        env: Mapping[str, str] | None = None,
        health_path: str = "/healthz",
        ready_timeout_s: float = 60.0,
        stop_grace_s: float = 10.0,
        init: bool = False,
        revision_history_limit: int = HISTORY_LIMIT,
    ) -> Fleet:
        """Run identical replicas of `image` behind one address. Where the fleet exists, bring it to what is asked.

        Parameters
        ----------
        name : str
        image : Image or str
            Another image than before is rolled out with RollingUpdate(); where it fails, the old one is put back
            and the failure raised.
        replicas : int
            From 0 to 1000.
        port : int, optional
            Port on loopback; a free one where left out.
        target_port : int, optional
            Port inside the container; the one that the image exposes where left out.
        env : mapping, optional
        health_path : str
            Path that answers 2xx or 3xx when a replica is healthy.
        ready_timeout_s : float
            Seconds without progress after which a replica has failed.
        stop_grace_s : float
            Seconds that a replica gets to end its requests, and its container to stop.
        init : bool
            Run the engine's init as process 1.
        revision_history_limit : int
            So many old revisions are kept to go back to. The images of older ones go, where this lab built them
            and nothing else needs them.

        Returns
        -------
        Fleet
            When all replicas are healthy and in the router.

        Raises
        ------
        BadInputError
            Where an argument is out of range.
        ImageNotFoundError
            Where there is no such image.
        PortTakenError
            Where another program listens on `port`.
        ReplicaFailedError
            Where a replica exits or does not become healthy. Nothing is left behind then.
        """
        check_name("fleet", name)
        check_replicas(replicas)
        if not re.fullmatch(r"/[!-~]*", health_path):
            raise BadInputError(f"health_path is {health_path!r}.", 'Give a path that starts with "/", without spaces.')
        if port is not None and not (isinstance(port, int) and 1 <= port <= 65535):
            raise BadInputError(f"Port {port} does not exist.", "Choose a port from 1024 to 65535.")
        check_history_limit(revision_history_limit)
        self._ready(f"fleet {name}")
        found = image if isinstance(image, Image) else find(self.client, image)
        revision = Revision(
            number=1,
            image_id=found.id,
            image=_title(image),
            env=tuple(sorted((str(key), str(value)) for key, value in (env or {}).items())),
            target_port=target_port or _exposed(found),
            health_path=health_path,
        )
        known = self.fleets.get(name)
        if known:
            self._state.fleets[name].history_limit = revision_history_limit
            return self._converge(known, revision, replicas, port, ready_timeout_s)
        record = FleetRecord(name, replicas, 1, 1, {1: revision}, [1], stop_grace_s=stop_grace_s, init=init)
        record.history_limit = revision_history_limit
        self._state.fleets[name] = record
        try:
            fleet = self._open(record, ready_timeout_s=ready_timeout_s, port=port)
            fleet.create()
        except BaseException:
            with contextlib.suppress(DockerlabError):
                stop_router(self.engine, record.router)
            self._forget(name)
            raise
        self.fleets[name] = fleet
        self._save()
        return fleet

    def servers(
        self, name: str, image: Image | str, *, count: int = 10, tmpfs: Mapping[str, str] | None = None
    ) -> Servers:
        """Have servers to manage by hand: containers of `image` that only wait for scripts.

        Asked for again they are the same servers, with all that was changed on them; those that stopped are started.

        Parameters
        ----------
        name : str
            Of the group: the servers are called ``NAME-01`` and so on.
        image : Image or str
            Another image than before replaces them all.
        count : int
            How many, from 1 to 200.
        tmpfs : mapping of str to str, optional
            Folders that live in memory, with their options, such as ``{"/tmp": "size=1m"}``.

        Returns
        -------
        Servers

        Raises
        ------
        BadInputError
            Where an argument is out of range.
        ImageNotFoundError
            Where there is no such image.
        """
        from dockerlab.drift.servers import have_servers  # noqa: PLC0415 - `import dockerlab` must stay quick

        check_name("group of servers", name)
        self._ready(f"servers {name}")
        return have_servers(
            self.client,
            name,
            _ref(image),
            lab=self.name,
            labels=self._made,
            owned=self.labels,
            count=count,
            tmpfs=tmpfs,
            begin=self._ready,
        )

    def traffic(
        self,
        url: str,
        *,
        rate: float | Sequence[tuple[float, float]],
        path: str = "/cgi-bin/work",
        duration_s: float | None = None,
        timeout_s: float = 2.0,
    ) -> Traffic:
        """Send real requests at a steady pace while a block of code runs.

        Parameters
        ----------
        url : str
            Address of a fleet.
        rate : float or sequence of (rate_rps, duration_s)
            Requests a second; sent at their scheduled times, however slow the answers are.
        path : str
            Path of the requests.
        duration_s : float, optional
            Seconds after which sending ends; with the block where left out.
        timeout_s : float
            Seconds from its scheduled time after which a request is lost.

        Returns
        -------
        Traffic
            A context manager with the results.

        Examples
        --------
        >>> with lab.traffic(web.url, rate=100) as traffic:  # doctest: +SKIP
        ...     web.rollout("web:2")
        >>> traffic.results.summary()  # doctest: +SKIP
        """
        from dockerlab.traffic.load import Traffic  # noqa: PLC0415 - `import dockerlab` must stay quick

        fleet = next((fleet for fleet in self.fleets.values() if fleet.url == url.rstrip("/")), None)
        counters = (lambda: fleet.router_retries) if fleet else None
        return Traffic(url, rate=rate, path=path, duration_s=duration_s, timeout_s=timeout_s, counters=counters)

    def registry(self) -> Registry:
        """Give the registry of this lab, on loopback of this machine; it is started when it is first asked for.

        It ends with the lab: with :meth:`reset`, and with the process where the lab is ephemeral.

        Returns
        -------
        Registry
            With push, pull, repositories and tags.

        Raises
        ------
        RegistryError
            Where it does not start.

        Examples
        --------
        >>> registry = lab.registry()  # doctest: +SKIP
        >>> registry.push(v1, "web:1")  # doctest: +SKIP
        >>> registry.tags("web")  # doctest: +SKIP
        """
        self._ready("registry")
        address = open_registry(self.engine, self._home, self._made, owned=self.labels)
        return Registry(self.client, address, begin=self._ready)

    def reset(self) -> CleanReport:
        """Remove what this lab made: containers, networks, volumes, routers, its registry and files. Nothing else.

        Returns
        -------
        CleanReport
            What was removed, and what was left alone.
        """
        self._log.begin(f"reset {self.name}")
        with contextlib.ExitStack() as turns:
            # A panel's thread may be at work: what it makes after the look would be left behind.
            for fleet in list(self.fleets.values()):
                turns.enter_context(fleet.turn())
            report = clean(self.engine, names=[self.name])
            # Only now: where the engine refused or Stop was pressed, the fleets are still there.
            for fleet in self.fleets.values():
                fleet.mark_removed()
        self.fleets.clear()
        self._state.fleets.clear()
        return report

    def close(self) -> None:
        """Let another process drive this lab; its containers go on. To use it again, open it again."""
        self._closed.set()
        _OPEN.pop(self.name, None)
        self._home.release()
        self.engine.client.close()

    def __enter__(self) -> Lab:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.ephemeral:
            self.reset()
        self.close()

    def __repr__(self) -> str:
        kind = "ephemeral" if self.ephemeral else "named"
        return f"<Lab {self.name} ({kind}) on {self.engine.name} {self.engine.version}>"

    @property
    def _made(self) -> dict[str, str]:
        """The labels of what is made now: a headless run marks it too."""
        run_id = os.environ.get(RUN_VARIABLE)
        return {**self.labels, **({RUN_LABEL: run_id} if run_id else {})}

    def _ready(self, title: str) -> None:
        """Before something is made: be the driver, and have a state file that says so."""
        self._drive()
        self._save()
        self._log.begin(title)

    def _drive(self) -> None:
        """Be the process that drives the lab.

        Raises
        ------
        LabClosedError, LabLockedError
        """
        if self._closed.is_set():
            raise LabClosedError(self.name)
        self._home.take(watched=self.ephemeral, engine_address=self._watchdog_host)

    def _new_name(self) -> str:
        return f"{self.name}-{os.urandom(3).hex()}"

    @property
    def _watchdog_host(self) -> str:
        # Only a unix socket says all there is to know; for others the watchdog searches as this process did.
        return self.engine.address if self.engine.address.startswith("unix://") else ""

    def _save(self) -> None:
        # A panel's thread and a cell may both have something to save: the later content must be the later file.
        with self._saving:
            self._home.path.mkdir(parents=True, exist_ok=True)
            self._state.save(self._home.state_path)

    def _open(self, record: FleetRecord, *, ready_timeout_s: float, port: int | None = None) -> Fleet:
        place = Place(self.engine, self.name, self.labels, self._made, self._home.runtime, self._save, self._collect)
        control = Control(place, record, port=port, ready_timeout_s=ready_timeout_s)
        return Fleet(control, commands=self._log, drive=self._drive, forget=lambda: self._forget(record.name))

    def _collect(self, image_ids: Collection[str]) -> list[str]:
        return collect(self.client, self._state, image_ids)

    def _forget(self, fleet: str) -> None:
        self._state.fleets.pop(fleet, None)
        self.fleets.pop(fleet, None)
        self._save()

    def _converge(
        self, fleet: Fleet, wanted: Revision, replicas: int, port: int | None, ready_timeout_s: float
    ) -> Fleet:
        if port not in (None, fleet.port):
            raise BadInputError(
                f"The fleet {fleet.name} answers on port {fleet.port}, not {port}.",
                f"Remove it first: lab.fleets[{fleet.name!r}].remove().",
            )
        health_path = fleet.revisions[-1].health_path
        if wanted.health_path != health_path:
            raise BadInputError(
                f"The router of the fleet {fleet.name} checks {health_path}, and it cannot check another path.",
                f"Remove the fleet first: lab.fleets[{fleet.name!r}].remove().",
            )
        fleet.converge(wanted, replicas, ready_timeout_s)
        return fleet


# The labs that this process has open. The cell that opens one can be run again, and what other cells hold stays valid.
_OPEN: dict[str, Lab] = {}


def _title(image: Image | str) -> str:
    return image if isinstance(image, str) else image.name


def _ref(image: Image | str) -> str:
    return image if isinstance(image, str) else image.id


def _exposed(image: Image) -> int:
    ports = [int(str(port).partition("/")[0]) for port in image.exposed_ports]
    if len(ports) == 1:
        return ports[0]
    what = "exposes no port" if not ports else f"exposes several ports ({', '.join(map(str, ports))})"
    raise BadInputError(f"The image {image.name} {what}.", "Say which one to use with target_port=...")


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()

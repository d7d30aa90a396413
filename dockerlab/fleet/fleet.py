"""A fleet: identical replicas of one image behind one router."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from dockerlab.commands import CommandLog, Commands
from dockerlab.drift.model import IGNORED, Change
from dockerlab.errors import BadInputError, DockerlabError, FleetError, ReplicaFailedError
from dockerlab.fleet.control import Control
from dockerlab.fleet.forecast import Forecast
from dockerlab.fleet.model import Event, FleetStatus, Revision
from dockerlab.fleet.rollout import Rollout
from dockerlab.fleet.strategies import RollingUpdate, Strategy
from dockerlab.images import Image, find

MAX_REPLICAS = 1000
"""More than one machine's engine can hold on one bridge (1023 ports)."""


class Fleet:
    """Identical replicas of one image behind one address. Made by :meth:`dockerlab.Lab.fleet`.

    Every operation returns when it is done. Running it again with the same arguments changes nothing.

    Examples
    --------
    >>> web = lab.fleet("web", "web:1", replicas=3)  # doctest: +SKIP
    >>> web.scale(10)  # doctest: +SKIP
    >>> web.rollout("web:2")  # doctest: +SKIP
    """

    def __init__(
        self, control: Control, *, commands: CommandLog, drive: Callable[[], None], forget: Callable[[], None]
    ) -> None:
        self._control = control
        self._record = control.record
        self._log = commands
        self._drive = drive
        self._forget = forget
        self._turn = threading.RLock()
        self._working = False
        self._removed = False
        self._commands = commands.last

    # What it is

    @property
    def name(self) -> str:
        """Name of the fleet."""
        return self._record.name

    @property
    def port(self) -> int:
        """Port on loopback where the fleet answers."""
        return self._control.router.record.port

    @property
    def url(self) -> str:
        """Address of the fleet on this machine."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def preview_url(self) -> str:
        """Address of the pool that gets fewer requests: the new revision, while a BlueGreen or Canary is under way."""
        return f"http://127.0.0.1:{self._control.router.record.preview_port}"

    @property
    def replicas(self) -> int:
        """How many replicas are wanted."""
        return self._record.replicas

    @property
    def revision(self) -> int:
        """Number of the revision that is wanted."""
        return self._record.target

    @property
    def image(self) -> Image:
        """The image of that revision.

        Raises
        ------
        ImageNotFoundError
            Where it has been removed from the engine.
        """
        return find(self._control.client, self._record.revisions[self._record.target].image_id)

    @property
    def revisions(self) -> tuple[Revision, ...]:
        """The revisions in the order they were deployed, the present one last."""
        return tuple(self._record.revisions[number] for number in self._record.history)

    @property
    def events(self) -> tuple[Event, ...]:
        """The timeline: the last 500 events, oldest first."""
        return tuple(self._record.timeline)

    @property
    def commands(self) -> Commands:
        """What you would have typed to do what this fleet did last, as ``docker`` commands."""
        return self._commands

    @property
    def removed(self) -> bool:
        """Whether the fleet is gone: by :meth:`remove`, or by the reset of its lab."""
        return self._removed

    @property
    def router_retries(self) -> int:
        """How often the router had to try another replica, since it started."""
        return self._control.router.api.retries()

    def load(self) -> dict[str, tuple[bool, int, int]]:
        """Give for each replica whether it gets requests, how many are in flight, and how many it got so far.

        Raises
        ------
        RouterError
            Where the router does not answer.
        """
        return self._control.router.api.load()

    def status(self) -> FleetStatus:
        """Look at the engine and the router, and say how the fleet is.

        Raises
        ------
        EngineError, RouterError
            Where one of them does not answer.
        """
        self._check_there()
        return self._control.status(working=self._working)

    def drifted(self, *names: str, ignore: Sequence[str] = ()) -> dict[str, tuple[Change, ...]]:
        """Look into the files of running replicas, and give what each has changed against its image.

        Parameters
        ----------
        *names : str
            The replicas to look into; all where left out. Those that are gone are left out.
        ignore : sequence of str
            Patterns of paths that may differ, besides :data:`dockerlab.drift.IGNORED`, and like those.

        Raises
        ------
        EngineError
            Where the engine does not answer.
        """
        self._check_there()
        return self._control.drifted(names, (*IGNORED, *ignore))

    def __repr__(self) -> str:
        if self._removed:
            return f"<Fleet {self.name}, removed>"
        return f"<Fleet {self.name}: {self.replicas} x {self._record.revisions[self.revision].image} at {self.url}>"

    def _repr_html_(self) -> str:
        return "<p>This fleet has been removed.</p>" if self._removed else self.status()._repr_html_()

    # What it does

    def scale(self, replicas: int) -> FleetStatus:
        """Make it so many replicas: start what is missing, or drain and remove what is too many.

        Parameters
        ----------
        replicas : int
            From 0 to 1000.

        Returns
        -------
        FleetStatus
            When all are healthy and in the router.

        Raises
        ------
        BadInputError
            Where the number is out of range.
        ReplicaFailedError
            Where a new replica exits or does not become healthy; it is removed, the others go on.
        EngineError, RouterError
            Where one of them goes away.
        """
        check_replicas(replicas)
        with self._operation(f"{self.name}.scale({replicas})"):
            self._control.resize(replicas)
        return self.status()

    def replace(self, name: str) -> FleetStatus:
        """Stamp out a new replica in the place of one, and throw that one away when enough others serve.

        Parameters
        ----------
        name : str
            Name of the replica, as :meth:`status` shows it.

        Raises
        ------
        BadInputError
            Where there is no such replica.
        """
        with self._operation(f"{self.name}.replace({name!r})"):
            names = self._control.names()
            if name not in names:
                there = ", ".join(names) or "none"
                raise BadInputError(f"The fleet {self.name} has no replica {name!r}.", f"It has: {there}.")
            self._control.reach_size([name])
        return self.status()

    def repair(self, *unhealthy: str) -> FleetStatus:
        """Start what is missing and remove what has died; the wanted number stays, also where a new replica fails.

        Other replicas that are unhealthy are left as they are.

        Parameters
        ----------
        *unhealthy : str
            Names of replicas that are to be replaced too; those that are gone already are fine.

        Raises
        ------
        ReplicaFailedError
            Where a new replica exits or does not become healthy; it is removed, the others go on.
        EngineError, RouterError
            Where one of them goes away.
        """
        with self._operation(f"{self.name}.repair({', '.join(map(repr, unhealthy))})"):
            self._control.reach_size(unhealthy, insist=True)
        return self.status()

    def rollout(
        self, image: Image | str, strategy: Strategy | None = None, *, env: Mapping[str, str] | None = None
    ) -> Rollout:
        """Replace every replica by one of `image`.

        When the new revision fails (a replica exits, or none becomes healthy within the progress deadline), the old
        revision is put back, and the result says so.

        Parameters
        ----------
        image : Image or str
            The new image.
        strategy : Recreate, RollingUpdate, BlueGreen or Canary, optional
            RollingUpdate() where left out.
        env : mapping, optional
            Environment variables of the new revision; those of the present one where left out.

        Returns
        -------
        Rollout
            Status Complete, RolledBack or Paused, and the timeline. A rollout that is under way already takes over from
            here: the same one goes on, another one replaces it.

        Raises
        ------
        ImageNotFoundError
            Where there is no such image; nothing has changed then.
        EngineError, RouterError
            Where one of them goes away. Run the cell again to go on.
        """
        wanted, chosen = self._wanted(image, env), strategy or RollingUpdate()
        present = self._record.revisions[self.revision]
        if not (wanted.same_as(present) and chosen == self._record.strategy):
            self._interrupt()
        with self._operation(f"{self.name}.rollout({wanted.image!r})"):
            return self._control.deploy(self._control.number(wanted), chosen)

    def plan(
        self, image: Image | str, strategy: Strategy | None = None, *, env: Mapping[str, str] | None = None
    ) -> Forecast:
        """Work out what :meth:`rollout` would do, and change nothing: each step with its cause and its commands.

        Parameters
        ----------
        image, strategy, env
            As for :meth:`rollout`.

        Returns
        -------
        Forecast
            The stages for the case that every replica becomes healthy and no request is lost.

        Raises
        ------
        ImageNotFoundError
            Where there is no such image.
        """
        self._check_there()
        return self._control.forecast(self._wanted(image, env), strategy or RollingUpdate())

    def _wanted(self, image: Image | str, env: Mapping[str, str] | None) -> Revision:
        """Give the revision of an image, with the environment that is given or the present one."""
        title = image if isinstance(image, str) else image.name
        found = find(self._control.client, image if isinstance(image, str) else image.id)
        present = self._record.revisions[self.revision]
        variables = present.env if env is None else tuple(sorted((str(k), str(v)) for k, v in env.items()))
        return replace(present, image_id=found.id, image=title, env=variables)

    def pause(self) -> FleetStatus:
        """Stop the rollout that another thread drives, such as a panel's, as soon as the fleet is whole.

        Raises
        ------
        FleetError
            Where none is under way.
        """
        if not (self._working and self._record.half_way):
            raise FleetError(f"No rollout of the fleet {self.name} is under way.", "Start one: fleet.rollout(image).")
        self._interrupt()
        with self._turn:
            return self.status()

    def resume(self) -> Rollout:
        """Go on with a rollout that was paused or stopped, or whose process was killed.

        Raises
        ------
        FleetError
            Where there is none.
        """
        with self._half_way("resume"):
            return self._control.resume()

    def promote(self, *, full: bool = False) -> Rollout:
        """Say that the new revision is good: end the pause that a BlueGreen or Canary is at, and go on.

        Parameters
        ----------
        full : bool, default False
            Leave out all of the canary's steps that are left.

        Raises
        ------
        FleetError
            Where no rollout is under way.
        """
        with self._half_way("promote"):
            return self._control.promote(full=full)

    def abort(self) -> Rollout:
        """Give a rollout up that is paused, stopped or under way: the revision before it is put back.

        Raises
        ------
        FleetError
            Where there is none.
        """
        with self._half_way("abort"):
            return self._control.abort()

    def rollback(self, to: int | None = None, strategy: Strategy | None = None) -> Rollout:
        """Go back to an earlier revision; after a rollout that was stopped, to the one before it.

        Parameters
        ----------
        to : int, optional
            Number of the revision; the one before the present where left out.
        strategy : Recreate, RollingUpdate, BlueGreen or Canary, optional
            RollingUpdate() where left out.

        Raises
        ------
        BadInputError
            Where there is no such revision.
        """
        record = self._record
        if to is None:
            if record.target != record.revision:
                to = record.revision
            elif len(record.history) > 1:
                to = record.history[-2]
            else:
                raise BadInputError(f"The fleet {self.name} has only one revision.", "Roll another image out first.")
        if to not in record.revisions:
            known = ", ".join(str(number) for number in sorted(record.revisions))
            raise BadInputError(f"The fleet {self.name} has no revision {to!r}.", f"It has: {known}.")
        with self._operation(f"{self.name}.rollback(to={to})"):
            return self._control.deploy(to, strategy or RollingUpdate())

    def remove(self) -> None:
        """Remove the replicas, without waiting for their requests, and the router."""
        with self._operation(f"{self.name}.remove()"):
            self._control.remove()
            self.mark_removed()
            self._forget()

    # How it does it

    def turn(self) -> contextlib.AbstractContextManager[bool]:
        """Give the lock that an operation holds: who has it knows that nothing is under way."""
        return self._turn

    def mark_removed(self) -> None:
        """Make every further use an error: a fleet of the same name may be another one by now."""
        self._removed = True

    def create(self) -> None:
        """Start the first replicas; where that fails, leave nothing behind."""
        try:
            with self._operation(f"fleet {self.name}"):
                self._control.clear()
                self._control.reach_size()
        except BaseException:
            with contextlib.suppress(DockerlabError):
                self.remove()
            raise

    def converge(self, wanted: Revision, replicas: int, ready_timeout_s: float) -> None:
        """Bring the fleet to `replicas` of `wanted`, by the shortest way; raise where `wanted` fails."""
        with self._operation(f"fleet {self.name}"):
            number = self._control.number(wanted)
            if number == self._record.target == self._record.revision:
                self._control.resize(replicas)
            else:
                self._record.replicas = replicas
                rollout = self._control.deploy(number, RollingUpdate(progress_deadline_s=ready_timeout_s))
                if rollout.status == "RolledBack":
                    raise ReplicaFailedError(rollout.reason, replica="", exit_code=None, logs="")

    def _interrupt(self) -> None:
        """Make a rollout that another thread drives pause, so that this one gets its turn."""
        if self._working and self._record.half_way:
            self._control.halt()

    @contextlib.contextmanager
    def _half_way(self, action: str) -> Iterator[None]:
        self._interrupt()
        with self._operation(f"{self.name}.{action}()"):
            if not self._record.half_way:
                raise FleetError(
                    f"No rollout of the fleet {self.name} is under way or paused.", "Start one: fleet.rollout(image)."
                )
            yield

    @contextlib.contextmanager
    def _operation(self, title: str) -> Iterator[None]:
        with self._turn:
            self._check_there()
            self._drive()
            self._log.begin(title)
            self._working = True
            try:
                yield
            finally:
                self._working = False
                self._commands = self._log.last

    def _check_there(self) -> None:
        if self._removed:
            raise FleetError(f"The fleet {self.name} has been removed.", "Run the cell that makes it again.")


def check_history_limit(limit: int) -> None:
    """Refuse a number of old revisions that makes no sense.

    Raises
    ------
    BadInputError
    """
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 0:
        raise BadInputError(f"revision_history_limit is {limit!r}.", "Give a whole number from 0 on, such as 10.")


def check_replicas(replicas: int) -> None:
    """Refuse a number of replicas that makes no sense.

    Raises
    ------
    BadInputError
    """
    if isinstance(replicas, bool) or not isinstance(replicas, int) or not 0 <= replicas <= MAX_REPLICAS:
        raise BadInputError(
            f"{replicas!r} replicas cannot be had.", f"Give a whole number from 0 to {MAX_REPLICAS}, without quotes."
        )

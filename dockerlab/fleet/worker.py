"""Work that goes on in a thread while a block of code runs, and whose end comes whatever is pressed meanwhile."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar, TypeVar

from dockerlab.errors import BadInputError, DockerlabError, FleetError

if TYPE_CHECKING:
    from dockerlab.fleet.fleet import Fleet

W = TypeVar("W", bound="FleetWorker")
REMOVED = "The fleet has been removed."


class Worker:
    """A thread that begins at once.

    Parameters
    ----------
    work : callable
        What it does; has to end by itself when it is told to.
    name : str
        Name of the thread.
    """

    def __init__(self, work: Callable[[], None], name: str) -> None:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(work,), name=name, daemon=True)
        self._thread.start()

    @property
    def working(self) -> bool:
        """Whether it has not ended."""
        return not self._over.is_set()

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        finally:
            self._over.set()

    def wait(self) -> KeyboardInterrupt | None:
        """Wait for its end, also when Stop is pressed, which is given back.

        Not by ``Thread.join`` alone: in Python 3.11 and before, one that is interrupted takes the thread for ended.
        """
        stopped = None
        while True:
            try:
                self._over.wait()
                self._thread.join()
            except KeyboardInterrupt as again:  # noqa: PERF203 - each press of Stop is one more
                stopped = again
            else:
                return stopped


class FleetWorker(ABC):
    """Works on a fleet, in a thread, while the block of a ``with`` statement runs.

    A fleet that is removed ends the work, and :attr:`ended` says so. Any other error is raised at the end of the block,
    unless the block has one of its own; so is what did not answer at the last look.

    Parameters
    ----------
    fleet : Fleet
    """

    title: ClassVar[str]
    """What the thread is called, before the name of the fleet."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self._thread: Worker | None = None
        self._clear()

    def _clear(self) -> None:
        """Forget what an earlier block left."""
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._away: DockerlabError | None = None
        self._ended = ""

    @abstractmethod
    def _work(self) -> None:
        """Do it, until ``_stop`` is set or the fleet is removed; ``_away`` is what did not answer last."""

    @property
    def running(self) -> bool:
        """Whether it is at work."""
        return self._thread is not None and self._thread.working

    @property
    def ended(self) -> str:
        """Why it ended before the block did, in a sentence; empty where it did not."""
        return self._ended

    def __enter__(self: W) -> W:
        if self._thread is not None:
            name = type(self).__name__
            raise BadInputError(f"This {name.lower()} is running already.", f"Make another one with dl.{name}(...).")
        self._clear()
        self._thread = Worker(self._run, f"{self.title} {self.fleet.name}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What is under way is finished first: half a step cannot be left behind, even by Stop.
        self._stop.set()
        stopped = self._thread.wait() if self._thread else None
        self._thread = None
        failure = stopped or self._error or self._away
        if failure is not None and kind is None:  # the block's own error is the one to see
            raise failure

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 - it belongs to the thread that has the block
            self._error = error
        if self.fleet.removed and (self._error is None or isinstance(self._error, FleetError)):
            self._error = self._away = None
            self._ended = REMOVED

"""What a panel of a fleet shows and asks for; knows traits and threads, and nothing of widgets."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from traitlets import HasTraits, Instance, Int, Unicode

from dockerlab.fleet.model import FleetStatus
from dockerlab.widgets import words

_log = logging.getLogger(__name__)
_LOST_FACTOR = 4
"""So many times slower is a fleet looked at that does not answer."""
_JOIN_S = 2.0


class FleetLike(Protocol):
    """What the model asks of a fleet."""

    @property
    def name(self) -> str:
        """Name of the fleet."""

    def status(self) -> FleetStatus:
        """Look at the fleet."""

    def scale(self, replicas: int, /) -> object:
        """Make it so many replicas."""

    def replace(self, name: str, /) -> object:
        """Throw one replica away and make a new one."""


@dataclass(frozen=True)
class _Order:
    """One thing to do: scale to `replicas`, or replace the replica `name`."""

    replicas: int = 0
    name: str = ""

    @property
    def doing(self) -> str:
        return f"Replacing {self.name}" if self.name else f"Scaling to {words.replicas(self.replicas)}"

    @property
    def then(self) -> str:
        return f"then replace {self.name}" if self.name else f"then scale to {words.replicas(self.replicas)}"


class FleetModel(HasTraits):
    """A fleet as traits that follow it, and orders to it that do not block.

    Orders are carried out one after the other in a thread of their own. Of several orders to scale that wait, only the
    latest is carried out. Whatever goes wrong ends up in `error`, never on the screen.

    Parameters
    ----------
    fleet : Fleet
    interval_s : float
        Seconds between two looks at the fleet.
    commands : callable, optional
        Gives the ``docker`` commands of the last operation as text.

    Attributes
    ----------
    status : FleetStatus or None
        How the fleet was at the last look; None before the first that succeeded.
    desired : int
        How many replicas are asked for, by the latest order or else by the fleet itself.
    busy : str
        What is being done, empty when nothing is.
    error : str
        Why the last order failed, and what to do next; empty where it did not.
    lost : str
        Why the fleet cannot be looked at, for instance because it was removed; empty where it can.
    commands : str
        The ``docker`` commands of the last order.

    Examples
    --------
    >>> model = FleetModel(web)  # doctest: +SKIP
    >>> model.observe(lambda change: print(change.new), "busy")  # doctest: +SKIP
    >>> model.scale(5)  # doctest: +SKIP
    >>> model.wait()  # doctest: +SKIP
    True
    """

    status = Instance(FleetStatus, allow_none=True)
    desired = Int()
    busy = Unicode()
    error = Unicode()
    lost = Unicode()
    commands = Unicode()

    def __init__(self, fleet: FleetLike, *, interval_s: float = 0.5, commands: Callable[[], str] = lambda: "") -> None:
        super().__init__()
        self._fleet = fleet
        self._interval_s = interval_s
        self._read_commands = commands
        self._looking = threading.Lock()  # held for a look and for telling what it saw: no old news after new
        self._todo = threading.Condition()  # guards the next three
        self._waiting: deque[_Order] = deque()
        self._doing: _Order | None = None
        self._worker: threading.Thread | None = None
        self._poller: threading.Thread | None = None
        self._paused = False
        self._ordered = 0
        self._end = threading.Event()
        self.refresh()

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` was called."""
        return self._end.is_set()

    @property
    def ordered(self) -> int:
        """How many orders were given so far."""
        return self._ordered

    # Orders

    def scale(self, replicas: int) -> None:
        """Order so many replicas and return at once; takes the place of an order to scale that still waits."""
        with self._todo:
            self._waiting = deque(order for order in self._waiting if order.name)
            self._order(_Order(replicas=replicas))

    def replace(self, name: str) -> None:
        """Order one replica to be replaced and return at once."""
        with self._todo:
            order = _Order(name=name)
            if name and order not in self._waiting and order != self._doing:
                self._order(order)

    def complain(self, problem: str) -> None:
        """Show `problem` as the error, until the next order."""
        self._tell("error", problem)

    def wait(self, timeout_s: float = 600.0) -> bool:
        """Wait until all orders are carried out.

        Parameters
        ----------
        timeout_s : float

        Returns
        -------
        bool
            False where they are not within `timeout_s`.
        """
        with self._todo:
            return self._todo.wait_for(lambda: self._worker is None, timeout_s)

    # Looks

    def refresh(self) -> None:
        """Look at the fleet now."""
        with self._looking:
            if self.closed:
                return
            try:
                status = self._fleet.status()
            except Exception as error:  # noqa: BLE001  whatever it is, the panel has to say it
                self._tell("lost", words.loss(self._fleet.name, error))
                return
            self._tell("status", status)
            self._tell("lost", "")
            self._settle_desired()

    def start(self) -> None:
        """Follow the fleet from now on, in a thread; a second time changes nothing."""
        if self._poller is None and not self.closed:
            self._poller = threading.Thread(target=self._poll, name=f"follow {self._fleet.name}", daemon=True)
            self._poller.start()

    def pause(self) -> None:
        """Stop following for a while; returns when no look is under way."""
        self._paused = True
        with self._looking:
            pass

    def resume(self) -> None:
        """Follow again."""
        self._paused = False

    def close(self) -> None:
        """End the threads and let every observer go. An order that is being carried out still comes to its end."""
        self._end.set()
        self.unobserve_all()
        with self._todo:
            self._waiting.clear()
        for thread in (self._poller, self._worker):
            # Not itself, for where an observer closes the model; and not long, for where the engine hangs.
            if thread is not None and thread is not threading.current_thread():
                thread.join(_JOIN_S if thread is self._poller else 0.1)

    # Threads

    def _poll(self) -> None:
        while not self._end.wait(self._interval_s * (_LOST_FACTOR if self.lost else 1)):
            if not self._paused:
                self.refresh()

    def _order(self, order: _Order) -> None:
        if self.closed:
            return
        self._ordered += 1
        self._waiting.append(order)
        self._tell("error", "")
        self._settle_desired()
        self._settle_busy()
        if self._worker is None:
            # Ends when nothing waits any more, so that no thread is left where nothing is to be done.
            self._worker = threading.Thread(target=self._work, name=f"change {self._fleet.name}", daemon=True)
            self._worker.start()

    def _work(self) -> None:
        while order := self._next():
            problem = ""
            try:
                if order.name:
                    self._fleet.replace(order.name)
                else:
                    self._fleet.scale(order.replicas)
            except Exception as error:  # noqa: BLE001  a thread has nobody to raise to: the panel says it
                problem = words.trouble(error)
            self.refresh()
            if not self.closed:
                self._tell("commands", self._read_commands())
                if problem:
                    self._tell("error", problem)

    def _next(self) -> _Order | None:
        with self._todo:
            self._doing = self._waiting.popleft() if self._waiting and not self.closed else None
            self._settle_desired()
            self._settle_busy()
            if self._doing is None:
                self._worker = None
                self._todo.notify_all()
            return self._doing

    def _settle_desired(self) -> None:
        with self._todo:
            orders = [order for order in (self._doing, *self._waiting) if order and not order.name]
            if orders:
                self._tell("desired", orders[-1].replicas)
            elif self.status is not None:
                self._tell("desired", self.status.desired)

    def _settle_busy(self) -> None:
        orders = [self._doing] if self._doing else []
        orders += self._waiting
        texts = [orders[0].doing, *(order.then for order in orders[1:])] if orders else []
        self._tell("busy", ", ".join(texts) + "…" if texts else "")

    def _tell(self, name: str, value: object) -> None:
        try:
            setattr(self, name, value)
        except Exception:  # noqa: BLE001
            # An observer's trouble, such as a view whose page is gone, must not end the thread.
            _log.debug("an observer of %s failed", name, exc_info=True)

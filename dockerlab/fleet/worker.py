"""A thread that works while a block of code runs, and whose end can be waited for whatever is pressed meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable


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

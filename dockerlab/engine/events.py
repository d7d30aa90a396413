"""What happens in the engine, told to whoever listens (``docker events``)."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

KEPT = 256  # as many as dockerd keeps for `since`
WAITING = 4096  # more than this unread and a listener has lost its turn
FILTERS = ("container", "daemon", "event", "image", "label", "network", "scope", "type", "volume")
_BY_NAME = ("container", "daemon", "network", "volume")

Event = dict[str, Any]


class Events:
    """Passes events on. Belongs to the thread of the event loop; nothing in it blocks.

    Parameters
    ----------
    clock_ns : callable
        The time in nanoseconds since 1970.
    """

    def __init__(self, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._clock_ns = clock_ns
        self._past: deque[Event] = deque(maxlen=KEPT)
        self._listeners: set[asyncio.Queue[Event | None]] = set()

    @property
    def listeners(self) -> int:
        """How many listen."""
        return len(self._listeners)

    def emit(self, kind: str, action: str, id: str, attributes: Mapping[str, str] | None = None) -> None:  # noqa: A002
        """Tell everybody.

        Parameters
        ----------
        kind : str
            ``"container"``, ``"image"``, ``"network"``, ``"volume"`` or ``"daemon"``.
        action : str
            What happened, in Docker's words: ``"create"``, ``"start"``, ``"die"``.
        id : str
            What it happened to.
        attributes : mapping of str to str, optional
            Name, image, labels, exit code.
        """
        now_ns = self._clock_ns()
        told = dict(attributes or {})
        actor = {"ID": id, "Attributes": told}
        event: Event = {"Type": kind, "Action": action, "Actor": actor, "scope": "local"}
        if kind in ("container", "image"):  # the old form, which docker-py and scripts still read
            event.update(status=action, id=id)
            if kind == "container":
                event["from"] = told.get("image", "")
        event.update(time=now_ns // 10**9, timeNano=now_ns)
        self._past.append(event)
        for queue in tuple(self._listeners):
            if queue.full():
                self._listeners.discard(queue)
                queue.get_nowait()
                queue.put_nowait(None)
            else:
                queue.put_nowait(event)

    def past(self, since_ns: int) -> Iterator[Event]:
        """Give the kept events from `since_ns` on, oldest first."""
        return (event for event in tuple(self._past) if event["timeNano"] >= since_ns)

    @contextmanager
    def subscribe(self) -> Iterator[AsyncIterator[Event]]:
        """Listen from now on; the iterator ends when the engine stops or the listener is too slow.

        Examples
        --------
        >>> async def watch(events: Events) -> None:
        ...     with events.subscribe() as incoming:
        ...         async for event in incoming:
        ...             print(event["Action"])
        """
        queue: asyncio.Queue[Event | None] = asyncio.Queue(WAITING)
        self._listeners.add(queue)
        try:
            yield _each(queue)
        finally:
            self._listeners.discard(queue)

    def close(self) -> None:
        """Send all listeners home."""
        for queue in tuple(self._listeners):
            self._listeners.discard(queue)
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(None)


async def _each(queue: asyncio.Queue[Event | None]) -> AsyncIterator[Event]:
    while (event := await queue.get()) is not None:
        yield event


def matches(event: Event, filters: Mapping[str, list[str]]) -> bool:
    """Tell whether an event passes filters, as dockerd does it.

    Parameters
    ----------
    event : dict
        As :class:`Events` gives it.
    filters : mapping of str to list of str
        Of the values of one filter any is enough, and each filter must pass; of labels every one must be there.

    Returns
    -------
    bool

    Examples
    --------
    >>> event = {"Type": "container", "Action": "die", "Actor": {"ID": "ab12", "Attributes": {"name": "web"}}}
    >>> matches(event, {"container": ["web"], "event": ["die", "start"]})
    True
    """
    return all(not values or _passes(event, name, values) for name, values in filters.items())


def _passes(event: Event, name: str, values: list[str]) -> bool:
    kind, action = event["Type"], event["Action"]
    identity, attributes = event["Actor"]["ID"], event["Actor"]["Attributes"]
    if name in ("type", "scope"):
        return (kind if name == "type" else event["scope"]) in values
    if name == "event":  # "health_status" also finds "health_status: healthy"
        return action in values or action.partition(":")[0] in values
    if name == "label":
        return all(_has_label(attributes, value) for value in values)
    if name == "image":
        names = [identity, attributes.get("name" if kind == "image" else "image", "")]
        known = {text for name in names for text in (name, _without_tag(name))}
        return kind in ("image", "container") and any(value in known for value in values)
    if name in _BY_NAME:
        own = attributes.get("name", "")
        return kind == name and any(identity.startswith(value) or own.startswith(value) for value in values)
    return False


def _has_label(attributes: Mapping[str, str], wanted: str) -> bool:
    key, given, value = wanted.partition("=")
    return key in attributes and (not given or attributes[key] == value)


def _without_tag(name: str) -> str:
    """Give ``web`` for ``web:1``; a port of a registry is no tag."""
    head, _, tag = name.rpartition(":")
    return head if head and "/" not in tag else name

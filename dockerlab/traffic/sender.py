"""The process that sends a load: ``python -m dockerlab.traffic.sender``.

It is a process of its own so that drawing a plot in the notebook cannot delay a request. Its one argument is an `Order`
as JSON. It prints JSON lines: ``{"begun": true}`` when the first request is under way, ``{"rows": [[...], ...]}`` with
the columns of `Request` as requests end, and at last ``{"done": true}`` or ``{"failed": "..."}``. Closing its standard
input stops the schedule; requests under way are waited for, which takes at most their limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import json
import math
import os
import queue
import signal
import sys
import threading
import time
from dataclasses import asdict, dataclass
from types import SimpleNamespace
from typing import Any

import aiohttp

from dockerlab.traffic.results import Request
from dockerlab.traffic.schedule import Schedule, Step

FLUSH_EVERY_S = 0.1
WATCH_PARENT_EVERY_S = 0.5
OPEN_FILES = 16384

# Local shortages: the request never left, so the blame is the sender's and `sent_share` has to show it.
_OUR_FAULT = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL)

_KIND_OF_ERRNO = {
    errno.ECONNREFUSED: "refused",
    **dict.fromkeys((errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED), "reset"),
    **dict.fromkeys(_OUR_FAULT, "unsent"),
}


@dataclass(frozen=True)
class Order:
    """What to send.

    Parameters
    ----------
    url : str
        Where each request goes.
    steps : tuple of (rate_rps, duration_s)
        A duration of None never ends.
    timeout_s : float
        Limit for an answer, counted from the scheduled time.
    parent : int
        Process whose end ends this one.
    """

    url: str
    steps: tuple[tuple[float, float | None], ...]
    timeout_s: float
    parent: int

    def to_json(self) -> str:
        """Write the order as one argument of a command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Order:
        """Read what `to_json` wrote."""
        return cls(**json.loads(text))

    @property
    def schedule(self) -> Schedule:
        """When each request is due."""
        return Schedule(tuple(Step(rate, math.inf if length is None else length) for rate, length in self.steps))


class _SecondTryError(Exception):
    """aiohttp was about to repeat a GET whose connection broke. A repeated request would hide a lost one."""


async def _one_connection_each(
    _session: aiohttp.ClientSession, context: SimpleNamespace, _params: aiohttp.TraceConnectionCreateStartParams
) -> None:
    """Stop a request that opens its second connection."""
    request = context.trace_request_ctx
    if request.connected:
        raise _SecondTryError
    request.connected = True


class Sender:
    """Sends each request when it is due and hands over what became of it.

    Parameters
    ----------
    order : Order
        What to send.
    lines : queue
        Takes the printed lines; a thread writes them, so that a reader who is busy cannot hold up the schedule.
    """

    def __init__(self, order: Order, lines: queue.SimpleQueue[bytes | None]) -> None:
        self.order = order
        self.lines = lines
        self.stopped = asyncio.Event()
        self.rows: list[Request] = []
        # One wall-clock reading a load: a clock that is set meanwhile moves neither schedule nor latency.
        self.epoch_s = time.time() - time.monotonic()
        self._waiter: asyncio.Future[None] | None = None

    def say(self, **line: object) -> None:
        """Print one JSON line."""
        self.lines.put(json.dumps(line).encode() + b"\n")

    def flush(self) -> None:
        """Print the requests that ended since the last time."""
        if self.rows:
            rows, self.rows = self.rows, []
            self.say(rows=rows)

    async def run(self) -> None:
        """Send the whole order."""
        trace = aiohttp.TraceConfig()
        trace.on_connection_create_start.append(_one_connection_each)
        # Every request is a new visitor with a connection of its own: none waits for another's, and none breaks because
        # an idle one was closed meanwhile.
        connector = aiohttp.TCPConnector(limit=0, force_close=True, ttl_dns_cache=None)
        async with aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "dockerlab-traffic"},
            auto_decompress=False,
            trust_env=False,  # HTTP_PROXY must never swallow loopback
            trace_configs=[trace],
        ) as session:
            flusher = asyncio.create_task(self._flush_now_and_then())
            await self._send(session)
            flusher.cancel()
        self.flush()

    async def _flush_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_EVERY_S)
            self.flush()

    async def _send(self, session: aiohttp.ClientSession) -> None:
        under_way: set[asyncio.Task[None]] = set()
        start = time.monotonic()
        begun = False
        for offset_s in self.order.schedule.offsets_s():
            due = start + offset_s
            # What was due before the stop is sent even if we are late: leaving it out would hide a stall of our own.
            if (wait_s := due - time.monotonic()) > 0 and await self._stopped_within(wait_s):
                break
            if self.stopped.is_set() and due > time.monotonic():
                break
            task = asyncio.create_task(self._request(session, due))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            if wait_s <= 0:
                await asyncio.sleep(0)
            if not begun:
                begun = True
                self.say(begun=True)
        if under_way:
            await asyncio.wait(under_way)

    async def _stopped_within(self, wait_s: float) -> bool:
        """Wait for the stop; false if it did not come in time."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        handle = asyncio.get_running_loop().call_later(wait_s, _release, waiter)
        self._waiter = waiter
        try:
            if not self.stopped.is_set():
                await waiter
        finally:
            handle.cancel()
        return self.stopped.is_set()

    def stop(self) -> None:
        """Schedule nothing more."""
        self.stopped.set()
        if self._waiter is not None:
            _release(self._waiter)

    async def _request(self, session: aiohttp.ClientSession, due: float) -> None:
        sent = time.monotonic()
        left_s = due + self.order.timeout_s - sent
        if left_s <= 0:
            self._ended(due, math.nan, error="unsent")
            return
        status, version, replica, error = 0, "", "", ""
        timeout = aiohttp.ClientTimeout(total=left_s, ceil_threshold=math.inf)
        try:
            async with session.get(
                self.order.url,
                timeout=timeout,
                allow_redirects=False,
                trace_request_ctx=SimpleNamespace(connected=False),
            ) as answer:
                status = answer.status
                version = answer.headers.get("X-Version", "")
                replica = answer.headers.get("X-Replica", "")
                await answer.read()
            if not 200 <= status < 300:
                error = f"http_{status // 100}xx"
        except Exception as failure:  # noqa: BLE001 - whatever happened to a request is a result, never the end of the load
            error = kind_of(failure)
        self._ended(
            due, math.nan if error == "unsent" else sent, status=status, version=version, replica=replica, error=error
        )

    def _ended(
        self, due: float, sent: float, *, status: int = 0, version: str = "", replica: str = "", error: str = ""
    ) -> None:
        latency_s = time.monotonic() - due
        epoch_s = self.epoch_s
        self.rows.append(Request(epoch_s + due, epoch_s + sent, latency_s, status, version, replica, error))


def kind_of(failure: BaseException) -> str:
    """Name what happened to a request in one word, as in the column ``error``."""
    if isinstance(failure, TimeoutError | asyncio.TimeoutError):
        return "timeout"
    if isinstance(failure, _SecondTryError | aiohttp.ServerDisconnectedError):
        return "reset"
    if isinstance(failure, aiohttp.ClientPayloadError):
        return "incomplete"
    if isinstance(failure, OSError):
        return _KIND_OF_ERRNO.get(failure.errno or 0, "other")
    return "invalid" if isinstance(failure, aiohttp.ClientResponseError) else "other"


def _release(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _write(lines: queue.SimpleQueue[bytes | None]) -> None:
    """Write lines to standard output until None comes; end the process if nobody can read them any more."""
    try:
        while (line := lines.get()) is not None:
            while line:
                line = line[os.write(1, line) :]
    except OSError:
        os._exit(1)


def _read_until_closed(loop: asyncio.AbstractEventLoop, sender: Sender) -> None:
    # os.read, since a thread that holds the lock of sys.stdin's buffer breaks the interpreter's shutdown.
    with contextlib.suppress(OSError):
        while os.read(0, 1024):
            pass
    with contextlib.suppress(RuntimeError):  # the loop is closed already
        loop.call_soon_threadsafe(sender.stop)


async def _end_with_parent(order: Order) -> None:
    """End when the parent is gone; a forked child of it may still hold our standard input open."""
    while os.getppid() == order.parent:
        await asyncio.sleep(WATCH_PARENT_EVERY_S)
    os._exit(1)


def _raise_file_limit() -> None:
    """Allow more sockets: a service that stalls for 2 s at 500 requests a second holds 1000; often 1024 is all."""
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415 - only on POSIX

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _main(order: Order, lines: queue.SimpleQueue[bytes | None]) -> None:
    sender = Sender(order, lines)
    reader: Any = (asyncio.get_running_loop(), sender)
    threading.Thread(target=_read_until_closed, args=reader, daemon=True).start()
    watch = None
    if sys.platform != "win32":  # there a process keeps no link to its parent
        watch = asyncio.create_task(_end_with_parent(order))
    await sender.run()
    if watch is not None:
        watch.cancel()
    sender.say(done=True)


def main() -> int:
    """Send the order that stands on the command line."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the notebook, which then stops us in good order
    _raise_file_limit()
    lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    writer = threading.Thread(target=_write, args=(lines,), daemon=True)
    writer.start()
    failed = 0
    try:
        order = Order.from_json(sys.argv[1])
        gc.freeze()  # the modules loaded so far are no garbage: full collections stay short
        asyncio.run(_main(order, lines))
    except Exception as error:  # noqa: BLE001 - the parent turns it into a TrafficError
        failed = 1
        lines.put(json.dumps({"failed": f"{type(error).__name__}: {error}"}).encode() + b"\n")
    lines.put(None)
    writer.join()
    return failed


if __name__ == "__main__":
    sys.exit(main())

"""Streams that take a connection over: what ``docker attach``, ``run`` and ``exec`` talk through."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import struct
import termios
from collections.abc import Awaitable, Callable

from aiohttp import web

from dockerlab.engine.containers.console import Console, Listener
from dockerlab.engine.refusals import bad

RAW, FRAMES = "application/vnd.docker.raw-stream", "application/vnd.docker.multiplexed-stream"
_STREAMS = {"stdin": 0, "stdout": 1, "stderr": 2}
_READ_BYTES = 1 << 18
_PAUSES_S, _BLIND_S = (0.0005, 0.001, 0.002, *(0.004,) * 100), 0.02
_DEFAULT_KEYS = b"\x10\x11"  # ctrl-p, ctrl-q


def frame(stream: str, content: bytes) -> bytes:
    r"""Put the header of eight bytes in front: which stream, and how long.

    Examples
    --------
    >>> frame("stderr", b"no")
    b'\x02\x00\x00\x00\x00\x00\x00\x02no'
    """
    return struct.pack(">BxxxI", _STREAMS[stream], len(content)) + content


def detach_keys(text: str) -> bytes:
    r"""Read a sequence of keys such as ``ctrl-p,ctrl-q``; 400 where it is none.

    Examples
    --------
    >>> detach_keys("ctrl-a,x")
    b'\x01x'
    """
    if not text:
        return _DEFAULT_KEYS
    keys = bytearray()
    for word in text.split(","):
        letter = word[5:] if word.startswith("ctrl-") else ""
        if len(word) == 1 and word.isascii():
            keys += word.encode()
        elif len(letter) == 1 and letter in "abcdefghijklmnopqrstuvwxyz@[\\]^_":
            keys.append(ord(letter.upper()) - 64)
        else:
            raise bad(f"Invalid escape keys ({text}) provided")
    return bytes(keys)


class Connection(asyncio.Protocol):
    """A connection that was taken over from the web server."""

    def __init__(self, request: web.Request) -> None:
        self._original = request.protocol
        transport = request.transport
        if not isinstance(transport, asyncio.Transport):
            raise ConnectionResetError
        self._transport = transport
        self._arrived = bytearray()
        self._ended = False
        self._lost = False
        self._changed = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self.gone = asyncio.get_running_loop().create_future()
        # What came behind the request waits in the server's protocol
        tail = getattr(self._original, "_message_tail", b"")
        if tail:
            self._original._message_tail = b""
            self._arrived += tail
        transport.set_protocol(self)
        with contextlib.suppress(RuntimeError):
            transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        """Keep what the client sent until it is read."""
        self._arrived += data
        self._changed.set()
        if len(self._arrived) > _READ_BYTES:
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """Note that the client sends no more; it may still listen."""
        self._ended = True
        self._changed.set()
        return True

    def connection_lost(self, _: Exception | None) -> None:
        """Note that the client is gone."""
        self._lost = self._ended = True
        self._changed.set()
        self._writable.set()
        if not self.gone.done():
            self.gone.set_result(None)

    def pause_writing(self) -> None:
        """Let those who write wait."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Let them go on."""
        self._writable.set()

    async def read(self) -> bytes:
        """Give what came, nothing at the end."""
        while not self._arrived:
            if self._ended:
                return b""
            self._changed.clear()
            await self._changed.wait()
        content = bytes(self._arrived)
        self._arrived.clear()
        if not self._lost:
            with contextlib.suppress(RuntimeError):
                self._transport.resume_reading()
        return content

    async def write(self, content: bytes) -> None:
        """Send something; waits while the client does not read."""
        if self._lost:
            raise ConnectionResetError
        self._transport.write(content)
        await self._writable.wait()

    async def taken(self) -> None:
        """Wait until the client has read what was sent.

        docker-py reads the head of the answer through a buffer, and goes on with the bare socket: what comes together
        with the head is lost to it.
        """
        socket = self._transport.get_extra_info("socket")
        for pause_s in _PAUSES_S:
            await asyncio.sleep(pause_s)
            try:
                unread = fcntl.ioctl(socket.fileno(), termios.TIOCOUTQ, bytes(4))
            except ValueError:  # it is closed
                return
            except OSError:  # not with this kind of socket: a pause has to do
                await asyncio.sleep(_BLIND_S)
                return
            if self._lost or not any(unread):
                return

    async def close(self) -> None:
        """Send what is left, end the connection, and give it back to the server, which forgets it."""
        if self._lost:
            self._original.connection_lost(None)
            return
        self._transport.set_protocol(self._original)
        self._transport.close()


class _Done(web.StreamResponse):
    """The answer of a request that was answered already."""

    async def prepare(self, request: web.BaseRequest) -> None:
        """Nothing is left to send."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing is left to send."""


def is_upgrade(request: web.Request) -> bool:
    """Tell whether the client asks for the connection itself."""
    return "upgrade" in request.headers.get("Connection", "").lower() and "Upgrade" in request.headers


async def serve(
    request: web.Request,
    console: Console,
    listener: Listener,
    *,
    stdin: bool,
    close_stdin: bool,
    keys: str = "",
    before: bytes = b"",
    begin: Callable[[], Awaitable[None]] | None = None,
) -> web.StreamResponse:
    """Connect a client with a console until the process or the client ends.

    Parameters
    ----------
    request : Request
    console : Console
    listener : Listener
        Attached already, so that nothing is missed; closed here.
    stdin : bool
        Pass what the client sends on.
    close_stdin : bool
        Close the process's input when the client's ends.
    keys : str
        Keys that detach from a terminal.
    before : bytes
        What is sent first: output from the log.
    begin : callable, optional
        Starts the process; called once the client has its answer.
    """
    sequence = detach_keys(keys)
    kind = RAW if console.tty else FRAMES
    if not is_upgrade(request):
        return await _serve_plainly(request, console, listener, before, begin)
    connection = Connection(request)
    head = f"HTTP/1.1 101 UPGRADED\r\nContent-Type: {kind}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
    output: asyncio.Future[None] | None = None
    try:
        await connection.write(head.encode())
        await connection.taken()
        if before:
            await connection.write(before)
        if begin:
            await begin()
        output = asyncio.ensure_future(_send(connection, console, listener))
        tasks: list[asyncio.Future[None]] = [output, connection.gone]
        if stdin:
            incoming = asyncio.ensure_future(_receive(connection, console, close_stdin, sequence))
            detached = asyncio.get_running_loop().create_future()
            incoming.add_done_callback(lambda done: _detach(done, detached))
            tasks.append(detached)
        else:
            incoming = None
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if incoming:
                incoming.cancel()
    except ConnectionError:
        pass
    finally:
        if output:
            output.cancel()
        listener.close()
        await connection.close()
    done = _Done()
    done.force_close()
    return done


def _detach(done: asyncio.Future[bool], detached: asyncio.Future[None]) -> None:
    if not done.cancelled() and not done.exception() and done.result() and not detached.done():
        detached.set_result(None)


async def _send(connection: Connection, console: Console, listener: Listener) -> None:
    with contextlib.suppress(ConnectionError):
        while (piece := await listener.get()) is not None:
            await connection.write(piece[1] if console.tty else frame(*piece))


async def _receive(connection: Connection, console: Console, close_stdin: bool, keys: bytes) -> bool:
    """Pass input on; give whether the client detached by keys."""
    held = b""
    while content := await connection.read():
        if not console.tty or not keys:
            await console.write(content)
            continue
        content = held + content
        place = content.find(keys)
        if place >= 0:
            await console.write(content[:place])
            return True
        held = next((keys[:n] for n in range(len(keys) - 1, 0, -1) if content.endswith(keys[:n])), b"")
        await console.write(content[: len(content) - len(held)])
    await console.write(held)
    if close_stdin:
        console.end_input()
    return False


async def _serve_plainly(
    request: web.Request,
    console: Console,
    listener: Listener,
    before: bytes,
    begin: Callable[[], Awaitable[None]] | None,
) -> web.StreamResponse:
    """Send output as the body of an answer: without an upgrade there is no input."""
    response = web.StreamResponse(headers={"Content-Type": RAW if console.tty else FRAMES})
    try:
        await response.prepare(request)
        if before:
            await response.write(before)
        if begin:
            await begin()
        while (piece := await listener.get()) is not None:
            await response.write(piece[1] if console.tty else frame(*piece))
        await response.write_eof()
    finally:
        listener.close()
    return response

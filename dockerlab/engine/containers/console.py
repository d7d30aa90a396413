"""Input and output of a process: pipes or a terminal, read by the event loop and passed on to log and listeners."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import struct
import termios
from collections import deque
from collections.abc import Callable

from dockerlab.engine.isolate.spec import Stdio

_READ_BYTES = 1 << 16
_UNREAD_BYTES = 1 << 20  # so much a listener may leave unread before the process has to wait
_UNWRITTEN_BYTES = 1 << 18

Output = Callable[[str, bytes], None]


class Listener:
    """Somebody who is attached: gets what is printed from now on.

    Parameters
    ----------
    console : Console
    streams : set of str
        Which of ``stdout`` and ``stderr``.
    """

    def __init__(self, console: Console, streams: frozenset[str]) -> None:
        self._console = console
        self._streams = streams
        self._pieces: deque[tuple[str, bytes]] = deque()
        self._ended = False
        self._ready: asyncio.Future[None] | None = None
        self.unread_bytes = 0

    def put(self, stream: str, content: bytes, *, always: bool = False) -> None:
        """Take a piece in where it is wanted, or always."""
        if always or stream in self._streams:
            self._pieces.append((stream, content))
            self.unread_bytes += len(content)
            self._wake()

    def end(self) -> None:
        """Nothing more comes."""
        self._ended = True
        self._wake()

    async def get(self) -> tuple[str, bytes] | None:
        """Give the next piece, None at the end."""
        while not self._pieces:
            if self._ended:
                return None
            self._ready = asyncio.get_running_loop().create_future()
            await self._ready
        stream, content = self._pieces.popleft()
        self.unread_bytes -= len(content)
        self._console.resume()
        return stream, content

    def close(self) -> None:
        """Stop listening."""
        self._console.forget(self)

    def _wake(self) -> None:
        if self._ready and not self._ready.done():
            self._ready.set_result(None)


class Console:
    """The three streams of one process. Belongs to the event loop; nothing in it blocks.

    Parameters
    ----------
    tty : bool
        A terminal in place of three pipes.
    stdin : bool
        Whether there is any input; without it, the process reads nothing from the start.
    output : callable, optional
        Gets everything that is printed.
    """

    def __init__(self, *, tty: bool, stdin: bool, output: Output | None = None) -> None:
        self.tty = tty
        self._output = output
        self._listeners: set[Listener] = set()
        self._readers: dict[int, str] = {}
        self._closed = False
        self._paused = False
        self._hurry = False
        self._stdin = -1
        self._unwritten = bytearray()
        self._closing_stdin = False
        self._room: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self._theirs: list[int] = []
        self._has_stdin = stdin or tty
        self._input_closed = not self._has_stdin
        self._size: tuple[int, int] | None = None

    def open(self) -> Stdio:
        """Make the descriptors; listeners may be there before.

        Raises
        ------
        OSError
            This process has too many files open.
        """
        try:
            stdio = self._open_tty() if self.tty else self._open_pipes()
        except OSError:
            self.close()
            raise
        for descriptor in self._readers:
            os.set_blocking(descriptor, False)
        if self._stdin >= 0:
            os.set_blocking(self._stdin, False)
        if self._size:
            self.resize(*self._size)
        return stdio

    def _open_tty(self) -> Stdio:
        ours, theirs = pty.openpty()
        self._theirs = [theirs]
        self._readers = {ours: "stdout"}
        # A descriptor of its own, as the loop keeps one reader and one writer each
        self._stdin = os.dup(ours)
        return Stdio(theirs, theirs, theirs)

    def _open_pipes(self) -> Stdio:
        if self._has_stdin:
            theirs, self._stdin = os.pipe()
        else:
            theirs = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        self._theirs = [theirs]
        for name in ("stdout", "stderr"):
            ours, theirs = os.pipe()
            self._readers[ours] = name
            self._theirs.append(theirs)
        return Stdio(*self._theirs)

    def started(self) -> None:
        """Close the process's ends here, and read what it prints from now on."""
        self._drop_theirs()
        self._listen()
        self._flush()

    def listen(self, *, stdout: bool = True, stderr: bool = True) -> Listener:
        """Attach somebody."""
        streams = frozenset(name for name, wanted in (("stdout", stdout), ("stderr", stderr)) if wanted)
        listener = Listener(self, streams)
        if self._closed:
            listener.end()
        else:
            self._listeners.add(listener)
        return listener

    def forget(self, listener: Listener) -> None:
        """Let somebody go."""
        self._listeners.discard(listener)
        self.resume()

    def resume(self) -> None:
        """Read on where a slow listener had stopped it."""
        if self._paused and not self._is_full():
            self._paused = False
            self._listen()

    async def write(self, content: bytes) -> None:
        """Give input to the process; waits while it does not read."""
        if self._input_closed or self._closing_stdin:
            return
        self._unwritten += content
        self._flush()
        while len(self._unwritten) > _UNWRITTEN_BYTES and not self._input_closed:
            self._room = self._loop.create_future()
            await self._room

    def end_input(self) -> None:
        """Close the input once everything is written; a terminal has no such end."""
        if not self.tty:
            self._closing_stdin = True
            self._flush()

    def resize(self, height: int, width: int) -> None:
        """Set the size of the terminal; kept for one that is not open yet."""
        self._size = (height, width)
        if self.tty and self._stdin >= 0:
            with contextlib.suppress(OSError):
                fcntl.ioctl(self._stdin, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    async def drain(self, timeout_s: float = 2.0) -> None:
        """Read what is left after the process ended; `close` then tells the listeners."""
        self._hurry = True  # what is left fits into a pipe: no listener is waited for
        if self._paused:
            self._paused = False
            self._listen()
        await asyncio.wait([self.ended], timeout=timeout_s)

    def close(self) -> None:
        """Close everything; listeners get the end.

        They do not get it when all streams have ended: whoever reads to the end then asks for the exit code.
        """
        self._closed = True
        self._drop_theirs()
        for descriptor in list(self._readers):
            self._end(descriptor)
        self._drop_stdin()
        self._finish()
        for listener in tuple(self._listeners):
            listener.end()
        self._listeners.clear()

    def _listen(self) -> None:
        for descriptor in self._readers:
            self._loop.add_reader(descriptor, self._read, descriptor)

    def _read(self, descriptor: int) -> None:
        try:
            content = os.read(descriptor, _READ_BYTES)
        except BlockingIOError:
            return
        except OSError:  # EIO: nobody has the terminal open any more
            content = b""
        if not content:
            self._end(descriptor)
            if not self._readers:
                self._finish()
            return
        stream = self._readers[descriptor]
        for listener in tuple(self._listeners):
            listener.put(stream, content)
        if self._output:
            self._output(stream, content)
        if self._is_full() and not self._hurry:
            self._paused = True
            for one in self._readers:
                self._loop.remove_reader(one)

    def _is_full(self) -> bool:
        return any(listener.unread_bytes > _UNREAD_BYTES for listener in self._listeners)

    def _end(self, descriptor: int) -> None:
        if self._readers.pop(descriptor, None) is not None:
            self._loop.remove_reader(descriptor)
            os.close(descriptor)

    def _finish(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)

    def _flush(self) -> None:
        if self._stdin < 0:
            return
        try:
            while self._unwritten:
                del self._unwritten[: os.write(self._stdin, self._unwritten[:_READ_BYTES])]
        except BlockingIOError:
            self._loop.add_writer(self._stdin, self._flush)
            self._wake()
            return
        except OSError:  # it does not read any more
            self._drop_stdin()
            return
        self._loop.remove_writer(self._stdin)
        self._wake()
        if self._closing_stdin:
            self._drop_stdin()

    def _drop_stdin(self) -> None:
        if self._stdin >= 0:
            self._loop.remove_writer(self._stdin)
            os.close(self._stdin)
            self._stdin = -1
        self._input_closed = True
        self._unwritten.clear()
        self._wake()

    def _wake(self) -> None:
        if self._room and not self._room.done() and len(self._unwritten) <= _UNWRITTEN_BYTES:
            self._room.set_result(None)

    def _drop_theirs(self) -> None:
        for descriptor in self._theirs:
            os.close(descriptor)
        self._theirs = []

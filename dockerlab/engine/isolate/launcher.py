"""The engine's end of the spawner: orders to start something, and what became of it."""

from __future__ import annotations

import array
import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dockerlab.engine.isolate import processes, spawner
from dockerlab.engine.isolate.spec import Stdio

_TELL_LIMIT_BYTES = 1 << 16
_END_LIMIT_S = 5.0


@dataclass(frozen=True)
class Order:
    """What the spawner is to start.

    Attributes
    ----------
    kind : {"plain", "enter", "view"}
        A program, a program in the namespaces of process ``pid``, or a look at a stack of folders.
    argv, env : sequences of str
        The program with its arguments, and its whole environment.
    details : dict
        The rest, as ``spawner`` reads it: ``filters``, ``notify`` (hexadecimal BPF), ``tty``, ``ulimits``, ...
    """

    kind: str
    argv: Sequence[str] = ()
    env: Sequence[str] = ()
    details: dict[str, Any] = field(default_factory=dict)


class Child:
    """A process that the spawner started.

    Attributes
    ----------
    pid : int
        Its number.
    told : asyncio.Queue
        What it said before it became its program: messages, each with the descriptors that came along. The last item
        is ``None``: it has become its program, or ended.
    """

    def __init__(self, pid: int, ended: asyncio.Future[int], channel: socket.socket) -> None:
        self.pid = pid
        self.ended = ended
        self.told: asyncio.Queue[tuple[dict[str, Any], list[int]] | None] = asyncio.Queue()
        self._channel = channel
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(channel, self._listen)

    async def wait(self) -> int:
        """Wait for its end; gives the status as of ``os.waitpid``."""
        return await asyncio.shield(self.ended)

    def _listen(self) -> None:
        try:
            message, ancillary, _, _ = self._channel.recvmsg(
                _TELL_LIMIT_BYTES, socket.CMSG_SPACE(16), socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return
        except OSError:
            message, ancillary = b"", []
        if not message:
            self._loop.remove_reader(self._channel)
            self._channel.close()
            self.told.put_nowait(None)
            return
        descriptors = array.array("i")
        for _, _, content in ancillary:
            descriptors.frombytes(content[: len(content) - len(content) % 4])
        self.told.put_nowait((json.loads(message), list(descriptors)))


class Launcher:
    """Starts the spawner and talks to it."""

    def __init__(self) -> None:
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._next_key = 0
        self._started: dict[int, asyncio.Future[int]] = {}
        self._ended: dict[int, asyncio.Future[int]] = {}
        self._opening = asyncio.Lock()

    async def open(self) -> None:
        """Start the spawner."""
        spawner.adopt()  # should it be killed, what it leaves behind comes to us
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        program = str(Path(spawner.__file__).resolve())
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", program, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        ours.setblocking(False)
        self._control = ours
        asyncio.get_running_loop().add_reader(ours, self._listen)

    async def close(self) -> None:
        """End the spawner and with it everything that it started."""
        control, process = self._control, self._process
        self._control = self._process = None
        if control is not None:
            asyncio.get_running_loop().remove_reader(control)
            control.close()
        if process is not None:
            try:
                await asyncio.to_thread(process.wait, 12)
            except subprocess.TimeoutExpired:
                process.kill()
                await asyncio.to_thread(process.wait)
        self._give_up()

    async def launch(self, order: Order, stdio: Stdio, *more: int) -> Child:
        """Start something.

        Parameters
        ----------
        order : Order
            What to start.
        stdio : Stdio
            Its standard streams.
        *more : int
            Descriptors that it gets as number 3 and on.

        Raises
        ------
        OSError
            It could not be started.
        """
        async with self._opening:
            if self._control is None:  # it was killed
                await asyncio.to_thread(_end_what_is_left)
                await self.open()
        loop = asyncio.get_running_loop()
        self._next_key += 1
        key = self._next_key
        started, ended = loop.create_future(), loop.create_future()
        self._started[key], self._ended[key] = started, ended
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        text = {"key": key, "kind": order.kind, "argv": list(order.argv), "env": list(order.env), **order.details}
        memory = os.memfd_create("order", os.MFD_CLOEXEC)
        try:
            with theirs:
                os.pwrite(memory, json.dumps(text).encode("utf-8", "surrogateescape"), 0)
                descriptors = [memory, stdio.stdin, stdio.stdout, stdio.stderr, theirs.fileno(), *more]
                await self._send(descriptors)
            pid = await started
        except BaseException:
            ours.close()
            self._started.pop(key, None)
            self._ended.pop(key, None)
            raise
        finally:
            os.close(memory)
        return Child(pid, ended, ours)

    async def _send(self, descriptors: list[int]) -> None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
        while True:
            if self._control is None:
                raise OSError(0, "what starts the containers has ended")
            try:
                self._control.sendmsg([b"order"], rights)
            except BlockingIOError:
                await asyncio.sleep(0.002)
            else:
                return

    def _listen(self) -> None:
        assert self._control is not None
        for _ in range(64):
            try:
                message = self._control.recv(_TELL_LIMIT_BYTES)
            except BlockingIOError:
                return
            except OSError:
                message = b""
            if not message:
                asyncio.get_running_loop().remove_reader(self._control)
                self._control.close()
                self._control = None
                asyncio.get_running_loop().run_in_executor(None, _end_what_is_left)
                self._give_up()
                return
            self._take(json.loads(message))

    def _take(self, answer: dict[str, Any]) -> None:
        key = answer["key"]
        if "status" in answer:
            ended = self._ended.pop(key, None)
            if ended is not None and not ended.done():
                ended.set_result(answer["status"])
            return
        started = self._started.pop(key, None)
        if started is None or started.done():
            return
        if answer["pid"]:
            started.set_result(answer["pid"])
        else:
            started.set_exception(OSError(0, answer.get("error", "fork failed")))

    def _give_up(self) -> None:
        """Tell everybody who waits that the spawner has gone, and with it everything that it started."""
        waiting, self._started = self._started, {}
        for started in waiting.values():
            if not started.done():
                started.set_exception(OSError(0, "what starts the containers has ended"))
        ended, self._ended = self._ended, {}
        for future in ended.values():
            if not future.done():
                future.set_result(signal.SIGKILL)


def _end_what_is_left() -> None:
    """Kill every process below this one: the spawner was the only parent that should have any."""
    until = time.monotonic() + _END_LIMIT_S
    while (orphans := processes.children(os.getpid())) and time.monotonic() < until:
        for pid in processes.below(orphans):
            processes.send(pid, signal.SIGKILL)
        for pid in orphans:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        time.sleep(0.002)


def exit_code(status: int) -> int:
    """Turn a status of ``os.waitpid`` into an exit code as Docker gives it."""
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


async def hear(child: Child, limit_s: float = 20.0) -> list[tuple[dict[str, Any], list[int]]]:
    """Collect what a child tells until it has become its program, or ended."""
    heard: list[tuple[dict[str, Any], list[int]]] = []
    started_s = time.monotonic()
    while True:
        try:
            item = await asyncio.wait_for(child.told.get(), max(0.1, limit_s - (time.monotonic() - started_s)))
        except asyncio.TimeoutError:
            drop(heard)
            with contextlib.suppress(OSError):
                os.kill(child.pid, signal.SIGKILL)
            raise OSError(0, "the process did not start in time") from None
        if item is None:
            return heard
        heard.append(item)


def drop(heard: list[tuple[dict[str, Any], list[int]]]) -> None:
    """Close descriptors that nobody took."""
    for _, descriptors in heard:
        for descriptor in descriptors:
            os.close(descriptor)

"""Answers calls of containers: ``bind`` and ``connect`` as ``switch`` decides, ``uname`` where names have no namespace.

The kernel holds a call until it is answered here. What is to be different is a descriptor: a socket of this machine
takes the place of the container's. The address is read once and never again, so a program that changes it meanwhile
gains nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import os
import select
import socket
import struct
from dataclasses import dataclass

from dockerlab.engine.isolate import calls, processes
from dockerlab.engine.isolate.filters import SIGNALS, Machine
from dockerlab.engine.isolate.ready import settle
from dockerlab.engine.isolate.switch import Address, Endpoint, Switch

_AF_INET, _AF_INET6 = int(socket.AF_INET), int(socket.AF_INET6)
_NAME_BYTES = 65  # of each of the six names in struct utsname
_OPTIONS = (
    (socket.SOL_SOCKET, socket.SO_REUSEPORT),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
    (socket.SOL_SOCKET, socket.SO_BROADCAST),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY),
)


@dataclass(frozen=True)
class _Call:
    """One call that waits: what it wants, in our words."""

    notification: calls.Notification
    descriptor: int
    address: Address
    port: int
    protocol: str
    blocking: bool
    keep_open: bool
    options: tuple[tuple[int, int, int], ...]


class Mediator:
    """Watches the listeners of all containers."""

    def __init__(self, switch: Switch, numbers: Machine) -> None:
        self._switch = switch
        self._bind, self._uname = numbers.calls["bind"], numbers.calls["uname"]
        self._kill = numbers.calls["kill"]
        self._signals = {numbers.calls[name] for name in SIGNALS}
        self._listeners: set[int] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def watch(self, listener: int, endpoint: Endpoint) -> None:
        """Answer the calls of a listener, until the last process below it has ended."""
        os.set_blocking(listener, False)
        self._listeners.add(listener)
        asyncio.get_running_loop().add_reader(listener, self._serve, listener, endpoint)

    async def close(self) -> None:
        """Stop answering."""
        for listener in list(self._listeners):
            self._forget(listener)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _forget(self, listener: int) -> None:
        if listener in self._listeners:
            self._listeners.remove(listener)
            asyncio.get_running_loop().remove_reader(listener)
            os.close(listener)

    def _serve(self, listener: int, endpoint: Endpoint) -> None:
        try:
            notification = calls.receive(listener)
        except OSError as error:
            # ENOENT: its process was killed meanwhile, or nobody is left (then the descriptor stays readable)
            if error.errno == errno.ENOENT and _has_ended(listener):
                self._forget(listener)
            return
        if notification.call == self._uname:
            self._answer_uname(listener, endpoint, notification)
            return
        if notification.call in self._signals:
            self._answer_signal(listener, endpoint, notification)
            return
        try:
            call = _read(notification, endpoint)
        except (OSError, ValueError, struct.error):
            calls.let_pass(listener, notification)  # the kernel says what is wrong with it
            return
        if call is None or not calls.is_waiting(listener, notification):
            calls.let_pass(listener, notification)
        elif notification.call == self._bind:
            self._answer_bind(listener, endpoint, call)
        else:
            self._answer_connect(listener, endpoint, call)

    def _answer_signal(self, listener: int, endpoint: Endpoint, notification: calls.Notification) -> None:
        """Let a signal reach processes of the same container only, which see those of the whole machine."""
        target = _signed(notification.args[0])
        number = notification.args[1] & 0x7F
        if notification.pid in endpoint.tracers or target == 0 or processes.tracer(target) in endpoint.tracers:
            calls.let_pass(listener, notification)
        elif notification.call != self._kill:
            calls.answer(listener, notification, errno.ESRCH)
        elif target == 1:  # the habit of those who know a container's first process by this number
            processes.send(endpoint.main, number)
            calls.answer(listener, notification)
        elif target == -1:
            for pid in processes.traced_by(endpoint.tracers):
                if pid != notification.pid:
                    processes.send(pid, number)
            calls.answer(listener, notification)
        elif target < -1 and -target in processes.groups(processes.traced_by(endpoint.tracers)):
            calls.let_pass(listener, notification)
        else:
            calls.answer(listener, notification, errno.ESRCH)

    def _answer_uname(self, listener: int, endpoint: Endpoint, notification: calls.Notification) -> None:
        """Write the names of the machine as the container shall know them."""
        system = os.uname()
        names = (
            system.sysname,
            endpoint.hostname or system.nodename,
            system.release,
            system.version,
            system.machine,
            endpoint.domainname or "(none)",
        )
        text = b"".join(name.encode()[:64].ljust(_NAME_BYTES, b"\0") for name in names)
        try:
            memory = os.open(f"/proc/{notification.pid}/mem", os.O_RDWR | os.O_CLOEXEC)
            try:
                if calls.is_waiting(listener, notification):
                    os.pwrite(memory, text, notification.args[0])
            finally:
                os.close(memory)
        except OSError:
            calls.let_pass(listener, notification)
        else:
            calls.answer(listener, notification)

    def _answer_bind(self, listener: int, endpoint: Endpoint, call: _Call) -> None:
        given = self._switch.listen(endpoint, call.address, call.port, call.protocol)
        if isinstance(given, int):
            if given < 0:
                calls.let_pass(listener, call.notification)
            else:
                calls.answer(listener, call.notification, given)
            return
        with given:
            _install(listener, call, given)

    def _answer_connect(self, listener: int, endpoint: Endpoint, call: _Call) -> None:
        route = self._switch.route(endpoint, call.address, call.port, call.protocol)
        if route.address is None:
            if route.error:
                calls.answer(listener, call.notification, route.error)
            else:
                calls.let_pass(listener, call.notification)
            return
        family = socket.AF_INET6 if ":" in route.address[0] else socket.AF_INET
        made = socket.socket(family, socket.SOCK_DGRAM if call.protocol == "udp" else socket.SOCK_STREAM)
        made.setblocking(False)
        result = made.connect_ex(route.address)
        if result == errno.EINPROGRESS and call.blocking:
            task = asyncio.get_running_loop().create_task(self._finish(listener, call, made))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return
        with made:
            if result in (0, errno.EINPROGRESS):
                _install(listener, call, made, result)
            else:
                calls.answer(listener, call.notification, result)

    async def _finish(self, listener: int, call: _Call, made: socket.socket) -> None:
        """Wait until a connection stands, then hand it over."""
        loop = asyncio.get_running_loop()
        stands = loop.create_future()
        loop.add_writer(made, settle, stands)
        with made:
            try:
                while not stands.done():
                    await asyncio.wait([stands], timeout=1.0)
                    if listener not in self._listeners or not calls.is_waiting(listener, call.notification):
                        return
            finally:
                loop.remove_writer(made)
            error = made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                calls.answer(listener, call.notification, error)
            else:
                _install(listener, call, made)


def _signed(argument: int) -> int:
    """Read an argument of 32 bits that may be negative."""
    return (argument & 0xFFFFFFFF) - ((argument & 0x80000000) << 1)


def _install(listener: int, call: _Call, made: socket.socket, result: int = 0) -> None:
    """Put our socket in the place of theirs, like theirs in all that a program may have set, and answer."""
    for level, option, value in call.options:
        with contextlib.suppress(OSError):
            made.setsockopt(level, option, value)
    made.setblocking(call.blocking)
    try:
        calls.replace(listener, call.notification, call.descriptor, made.fileno(), keep_open=call.keep_open)
    except OSError as error:
        calls.answer(listener, call.notification, error.errno or errno.EIO)
    else:
        calls.answer(listener, call.notification, result)


def _has_ended(listener: int) -> bool:
    """Tell whether nobody is left below a listener."""
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    return any(event & select.POLLHUP for _, event in poll.poll(0))


def _read(notification: calls.Notification, endpoint: Endpoint) -> _Call | None:
    """Read what a call wants; None when it is not of the internet."""
    pid, descriptor = notification.pid, notification.args[0] & 0x7FFFFFFF
    memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
    try:
        raw = os.pread(memory, min(notification.args[2], 28), notification.args[1])
    finally:
        os.close(memory)
    family = struct.unpack_from("=H", raw)[0]
    port = struct.unpack_from("!H", raw, 2)[0]
    address: Address
    if family == _AF_INET:
        address = ipaddress.IPv4Address(raw[4:8])
    elif family == _AF_INET6:
        address = ipaddress.IPv6Address(raw[8:24])
        address = address.ipv4_mapped or address
    else:
        return None
    flags = _flags(pid, descriptor)
    protocol, options = _kind(pid, descriptor)
    if not protocol:  # the place does not let us look: by what is published
        only_udp = (port, "udp") in endpoint.published and (port, "tcp") not in endpoint.published
        protocol = "udp" if only_udp else "tcp"
    if protocol == "other":
        return None
    return _Call(
        notification, descriptor, address, port, protocol, not flags & os.O_NONBLOCK, not flags & os.O_CLOEXEC, options
    )


def _flags(pid: int, descriptor: int) -> int:
    """Give the flags of a descriptor of another process."""
    with open(f"/proc/{pid}/fdinfo/{descriptor}", encoding="ascii") as lines:
        for line in lines:
            if line.startswith("flags:"):
                return int(line.split()[1], 8)
    return 0


def _kind(pid: int, descriptor: int) -> tuple[str, tuple[tuple[int, int, int], ...]]:
    """Give the protocol of another process's socket and the options that are set; empty where we may not look."""
    try:
        pidfd = calls.pidfd_open(_process_of(pid))
    except OSError:
        return "", ()
    try:
        copy = calls.take_descriptor(pidfd, descriptor)
    except OSError:
        return "", ()
    finally:
        os.close(pidfd)
    with socket.socket(fileno=copy) as theirs:
        kind = theirs.type & 0xF
        if kind == socket.SOCK_STREAM:
            protocol = "tcp"
        elif kind == socket.SOCK_DGRAM:
            protocol = "udp"
        else:
            return "other", ()
        options = []
        for level, option in _OPTIONS:
            with contextlib.suppress(OSError):
                if value := theirs.getsockopt(level, option):
                    options.append((level, option, value))
    return protocol, tuple(options)


def _process_of(thread: int) -> int:
    """Give the process that a thread belongs to."""
    with open(f"/proc/{thread}/status", encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if line.startswith("Tgid:"):
                return int(line.split()[1])
    return thread

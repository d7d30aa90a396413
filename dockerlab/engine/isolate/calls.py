"""System calls that Python does not have: answers to seccomp notifications, descriptors and ends of others."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import struct
from dataclasses import dataclass

_libc = ctypes.CDLL(None, use_errno=True)
_PIDFD_OPEN, _PIDFD_GETFD = 434, 438  # the same on every architecture
_NOTIF_SIZE, _RESP_SIZE = 80, 24
_NOTIF_RECV, _NOTIF_SEND, _NOTIF_ID_VALID, _NOTIF_ADDFD = 0xC0502100, 0xC0182101, 0x40082102, 0x40182103
_CONTINUE, _ADDFD_SETFD = 1, 1
_PIDFD_GET_INFO, _PIDFD_INFO_EXIT, _PIDFD_INFO_SIZE = 0xC048FF0B, 8, 72
_O_CLOEXEC = os.O_CLOEXEC


def _syscall(number: int, *arguments: object) -> int:
    result: int = _libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


@dataclass(frozen=True)
class Notification:
    """A system call that waits for our answer: its cookie, who made it, its number and arguments."""

    id: int
    pid: int
    call: int
    args: tuple[int, ...]


def receive(listener: int) -> Notification:
    """Take the next system call from a listener."""
    buffer = bytearray(_NOTIF_SIZE)
    fcntl.ioctl(listener, _NOTIF_RECV, buffer, True)
    cookie, pid, _flags, call, _arch, _pointer, *args = struct.unpack_from("=QIIiIQ6Q", buffer)
    return Notification(cookie, pid, call, tuple(args))


def is_waiting(listener: int, notification: Notification) -> bool:
    """Tell whether the call still waits (its process may have been killed, and its number used again)."""
    try:
        fcntl.ioctl(listener, _NOTIF_ID_VALID, struct.pack("=Q", notification.id))
    except OSError:
        return False
    return True


def let_pass(listener: int, notification: Notification) -> None:
    """Let the kernel carry the call out."""
    _send(listener, struct.pack("=QqiI", notification.id, 0, 0, _CONTINUE))


def answer(listener: int, notification: Notification, error: int = 0) -> None:
    """Answer the call ourselves: 0, or an error number."""
    _send(listener, struct.pack("=QqiI", notification.id, 0, -error, 0))


def _send(listener: int, response: bytes) -> None:
    with contextlib.suppress(OSError):  # the process was killed meanwhile
        fcntl.ioctl(listener, _NOTIF_SEND, bytearray(response), True)


def replace(listener: int, notification: Notification, theirs: int, ours: int, *, keep_open: bool = False) -> None:
    """Put a descriptor of ours in the place of one of theirs; ``keep_open`` leaves it open over an exec."""
    flags = 0 if keep_open else _O_CLOEXEC
    request = struct.pack("=QIIII", notification.id, _ADDFD_SETFD, ours, theirs, flags)
    fcntl.ioctl(listener, _NOTIF_ADDFD, bytearray(request), True)


def pidfd_open(pid: int) -> int:
    """Open a descriptor that stands for a process; readable once it has ended."""
    return _syscall(_PIDFD_OPEN, ctypes.c_int(pid), ctypes.c_uint(0))


def take_descriptor(pidfd: int, descriptor: int) -> int:
    """Get a copy of another process's descriptor."""
    return _syscall(_PIDFD_GETFD, ctypes.c_int(pidfd), ctypes.c_int(descriptor), ctypes.c_uint(0))


def exit_status(pidfd: int) -> int | None:
    """Give the status of a process that has ended, whosever child it was; None before Linux 6.15."""
    buffer = bytearray(_PIDFD_INFO_SIZE)
    struct.pack_into("=Q", buffer, 0, _PIDFD_INFO_EXIT)
    try:
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, buffer, True)
    except OSError:
        return None
    mask = struct.unpack_from("=Q", buffer, 0)[0]
    return int(struct.unpack_from("=i", buffer, 60)[0]) if mask & _PIDFD_INFO_EXIT else None

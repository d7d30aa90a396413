"""Seccomp filters, as programs of classic BPF: pure values, nothing here touches the kernel.

Four filters: which calls the engine answers itself (`mediated`), which newer calls are said not to exist because PRoot
does not translate them (`untranslated`), which no container needs (`refused`), and which calls of a container's root
succeed without doing anything because its user namespace holds a single user (`pretended`).
"""

from __future__ import annotations

import platform
import struct
from dataclasses import dataclass

ALLOW = 0x7FFF0000
ERRNO = 0x00050000
USER_NOTIF = 0x7FC00000
_EPERM, _ENOSYS = 1, 38

_LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_RETURN = 0x06  # BPF_RET | BPF_K
_NR, _ARCH = 0, 4


@dataclass(frozen=True)
class Machine:
    """Numbers of an architecture: its AUDIT_ARCH word and its system calls."""

    audit: int
    calls: dict[str, int]


# What Docker's default profile refuses as well, and a program in a user namespace could reach
_REFUSED = {
    "acct": (163, 89),
    "add_key": (248, 217),
    "bpf": (321, 280),
    "clock_adjtime": (305, 266),
    "clock_settime": (227, 112),
    "delete_module": (176, 106),
    "finit_module": (313, 273),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "init_module": (175, 105),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "lookup_dcookie": (212, 18),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "pivot_root": (155, 41),
    "quotactl": (179, 60),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "setns": (308, 268),
    "settimeofday": (164, 170),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
    "vhangup": (153, 58),
}
_X86_64 = Machine(
    0xC000003E,
    {
        "bind": 49,
        "connect": 42,
        "uname": 63,
        "kill": 62,
        "tkill": 200,
        "tgkill": 234,
        "rt_sigqueueinfo": 129,
        "rt_tgsigqueueinfo": 297,
        "pidfd_send_signal": 424,
        "chown": 92,
        "fchown": 93,
        "lchown": 94,
        "setuid": 105,
        "setgid": 106,
        "setreuid": 113,
        "setregid": 114,
        "setgroups": 116,
        "setresuid": 117,
        "setresgid": 119,
        "setfsuid": 122,
        "setfsgid": 123,
        "fchownat": 260,
        "execveat": 322,
        "statx": 332,
        "io_uring_setup": 425,
        "io_uring_enter": 426,
        "io_uring_register": 427,
        "openat2": 437,
        "faccessat2": 439,
        "fchmodat2": 452,
    },
)
_AARCH64 = Machine(
    0xC00000B7,
    {
        "bind": 200,
        "connect": 203,
        "uname": 160,
        "kill": 129,
        "tkill": 130,
        "tgkill": 131,
        "rt_sigqueueinfo": 138,
        "rt_tgsigqueueinfo": 240,
        "pidfd_send_signal": 424,
        "fchownat": 54,
        "fchown": 55,
        "setregid": 143,
        "setgid": 144,
        "setreuid": 145,
        "setuid": 146,
        "setresuid": 147,
        "setresgid": 149,
        "setfsuid": 151,
        "setfsgid": 152,
        "setgroups": 159,
        "execveat": 281,
        "statx": 291,
        "io_uring_setup": 425,
        "io_uring_enter": 426,
        "io_uring_register": 427,
        "openat2": 437,
        "faccessat2": 439,
        "fchmodat2": 452,
    },
)
_MACHINES = {"x86_64": _X86_64, "aarch64": _AARCH64}

SIGNALS = ("kill", "tkill", "tgkill")
_OTHER_SIGNALS = ("rt_sigqueueinfo", "rt_tgsigqueueinfo", "pidfd_send_signal")
_SOCKADDR_SIZES = (16, 28)  # sockaddr_in, sockaddr_in6: all else (unix, netlink) stays with the kernel, or with PRoot
_UNTRANSLATED = (
    "statx",
    "openat2",
    "faccessat2",
    "fchmodat2",
    "execveat",
    "io_uring_setup",
    "io_uring_enter",
    "io_uring_register",
)
_PRETENDED = (
    "chown",
    "fchown",
    "lchown",
    "fchownat",
    "setuid",
    "setgid",
    "setreuid",
    "setregid",
    "setresuid",
    "setresgid",
    "setfsuid",
    "setfsgid",
    "setgroups",
)


def machine(name: str = "") -> Machine | None:
    """Give the numbers of an architecture (this machine's by default); None when it is not known."""
    return _MACHINES.get(name or platform.machine())


def mediated(numbers: Machine, *, network: bool, names: bool, signals: bool) -> bytes:
    """Make the filter that hands calls to the engine (see ``mediator``).

    Parameters
    ----------
    network : bool
        Hand over bind and connect of internet addresses.
    names : bool
        Hand over uname, which tells the name of the machine.
    signals : bool
        Hand over kill and its like; other ways to send a signal do not exist then.
    """
    program = _head(numbers)
    for name in ("bind", "connect") if network else ():
        program += [
            (_EQUAL, 0, 5, numbers.calls[name]),
            _load_argument(2),
            (_EQUAL, 1, 0, _SOCKADDR_SIZES[0]),
            (_EQUAL, 0, 1, _SOCKADDR_SIZES[1]),
            (_RETURN, 0, 0, USER_NOTIF),
            (_RETURN, 0, 0, ALLOW),
        ]
    for name in (*(("uname",) if names else ()), *(SIGNALS if signals else ())):
        program += [(_EQUAL, 0, 1, numbers.calls[name]), (_RETURN, 0, 0, USER_NOTIF)]
    for name in _OTHER_SIGNALS if signals else ():
        program += [(_EQUAL, 0, 1, numbers.calls[name]), (_RETURN, 0, 0, ERRNO | _ENOSYS)]
    return _assemble([*program, (_RETURN, 0, 0, ALLOW)])


def untranslated(numbers: Machine) -> bytes:
    """Make the filter that answers ENOSYS to calls that PRoot 5.1 lets through to the files of this machine.

    Programs then fall back to older calls, which PRoot translates.
    """
    program = _head(numbers)
    for name in _UNTRANSLATED:
        program += [(_EQUAL, 0, 1, numbers.calls[name]), (_RETURN, 0, 0, ERRNO | _ENOSYS)]
    return _assemble([*program, (_RETURN, 0, 0, ALLOW)])


def refused(numbers: Machine) -> bytes:
    """Make the filter that answers EPERM to calls that reach beyond a container: mounts, keys, clocks, modules.

    The list is a part of Docker's default seccomp profile; ``clone`` with new namespaces is let through.
    """
    program = _head(numbers)
    for numbers_of_call in _REFUSED.values():
        program += [(_EQUAL, 0, 1, numbers_of_call[numbers is _AARCH64]), (_RETURN, 0, 0, ERRNO | _EPERM)]
    return _assemble([*program, (_RETURN, 0, 0, ALLOW)])


def pretended(numbers: Machine) -> bytes:
    """Make the filter that lets root of a one-user namespace change owners and users without effect.

    A container here has one user, and a kernel that knows no other one would refuse ``chown`` and ``setuid``, on which
    almost every package's installation rests. The same is done by Charliecloud (``--force=seccomp``).
    """
    program = _head(numbers)
    for name in _PRETENDED:
        if name in numbers.calls:
            program += [(_EQUAL, 0, 1, numbers.calls[name]), (_RETURN, 0, 0, ERRNO)]
    return _assemble([*program, (_RETURN, 0, 0, ALLOW)])


def _head(numbers: Machine) -> list[tuple[int, int, int, int]]:
    """Let calls of another architecture (32-bit programs) through, then load the number of the call."""
    return [(_LOAD, 0, 0, _ARCH), (_EQUAL, 1, 0, numbers.audit), (_RETURN, 0, 0, ALLOW), (_LOAD, 0, 0, _NR)]


def _load_argument(index: int) -> tuple[int, int, int, int]:
    """Load the lower half of an argument of the call (little-endian machines)."""
    return (_LOAD, 0, 0, 16 + 8 * index)


def _assemble(program: list[tuple[int, int, int, int]]) -> bytes:
    """Write instructions as the kernel reads them (struct sock_filter)."""
    return b"".join(struct.pack("<HBBI", code, yes, no, value) for code, yes, no, value in program)

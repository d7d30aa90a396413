"""The process that starts everything which runs in containers, and their only parent.

It runs as a program of its own (``python -I spawner.py FD``): small and with one thread, so that it can fork in a
millisecond and do in the child what a process with threads must not. It is the subreaper of all that its children leave
behind. When the engine goes, kill -9 included, it ends every process below it and then itself.

An order is a JSON object in a memory file, sent over a socket with the descriptors that the child needs; answers are
JSON too: ``{"key": 1, "pid": 2}`` and, later, ``{"key": 1, "status": 0}`` (as of waitpid). See ``launcher.Order``.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import fcntl
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
import termios
import time
from pathlib import Path
from typing import Any, NoReturn

SYS_SECCOMP = {"x86_64": 317, "aarch64": 277}
_SET_FILTER, _NEW_LISTENER = 1, 8
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS, _PR_SET_CHILD_SUBREAPER = 1, 38, 36
_NAMESPACES = {
    "user": 0x10000000,
    "ipc": 0x08000000,
    "uts": 0x04000000,
    "net": 0x40000000,
    "pid": 0x20000000,
    "mnt": 0x00020000,
}
_NEWUSER, _NEWNS = 0x10000000, 0x00020000
_MAX_ORDER_FDS = 8
_libc = ctypes.CDLL(None, use_errno=True)
_machine = os.uname().machine


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def install_filter(program: bytes, *, listener: bool = False) -> int:
    """Put a seccomp filter on this process; give the listener's descriptor when one was asked for."""
    instructions = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(instructions))
    flags = _NEW_LISTENER if listener else 0
    return _check(_libc.syscall(SYS_SECCOMP[_machine], _SET_FILTER, flags, header), "seccomp")


def no_new_privileges() -> None:
    """Promise that no program started from here gains privileges; seccomp asks for that."""
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")


def adopt() -> None:
    """Become the parent of what processes below this one leave behind."""
    _check(_libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl")


class Spawner:
    """The loop: orders in, children out."""

    def __init__(self, control: socket.socket) -> None:
        self.control = control
        self.keys: dict[int, int] = {}  # process number: key of its order

    def run(self) -> None:
        """Serve until the engine closes its end."""
        adopt()
        wake, woken = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(ignored, signal.SIG_IGN)
        poll = select.poll()
        poll.register(self.control, select.POLLIN)
        poll.register(wake, select.POLLIN)
        while True:
            for descriptor, _ in poll.poll():
                if descriptor == wake:
                    os.read(wake, 4096)
                elif not self._order():
                    return
            self._reap()

    def _order(self) -> bool:
        """Take one order; False at the end of the connection."""
        message, ancillary, _, _ = self.control.recvmsg(
            16, socket.CMSG_SPACE(4 * _MAX_ORDER_FDS), socket.MSG_CMSG_CLOEXEC
        )
        if not message:
            return False
        descriptors = array.array("i")
        for _, _, content in ancillary:
            descriptors.frombytes(content[: len(content) - len(content) % 4])
        try:
            order: dict[str, Any] = json.loads(os.pread(descriptors[0], os.fstat(descriptors[0]).st_size, 0))
            pid = os.fork()
            if pid == 0:
                _Child(order, list(descriptors)[1:]).run()
            self.keys[pid] = order["key"]
            self._answer({"key": order["key"], "pid": pid})
        except OSError as error:
            self._answer({"key": order["key"], "pid": 0, "error": str(error)})
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return True

    def _reap(self) -> None:
        """Take the exit codes of all children that have ended; those of strangers that were left to us as well."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            key = self.keys.pop(pid, None)
            if key is not None:
                self._answer({"key": key, "status": status})

    def _answer(self, answer: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # the engine has gone; the end of the connection is noticed next
            self.control.sendall(json.dumps(answer).encode())


class _Child:
    """What a child does between its birth and its program."""

    def __init__(self, order: dict[str, Any], descriptors: list[int]) -> None:
        self.order = order
        self.stdin, self.stdout, self.stderr, self.channel, *self.more = descriptors

    def run(self) -> NoReturn:
        """Become the program that was ordered; what fails is told over the channel."""
        try:
            self._prepare()
            kind = self.order["kind"]
            if kind == "view":
                self._view()
                os._exit(0)
            if kind == "enter":
                self._enter()
            else:
                self._filters()
            self._execute()
        except OSError as error:
            self._tell({"errno": error.errno or 0, "error": str(error)})
        except BaseException as error:  # noqa: BLE001 - nothing may run on as a second spawner
            self._tell({"errno": 0, "error": f"{type(error).__name__}: {error}"})
        os._exit(127)

    def _tell(self, message: dict[str, Any], *descriptors: int) -> None:
        with socket.socket(fileno=os.dup(self.channel)) as channel:
            ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
            channel.sendmsg([json.dumps(message).encode()], ancillary)

    def _prepare(self) -> None:
        """Set up session, standard streams, limits."""
        signal.set_wakeup_fd(-1)
        for ordinary in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(ordinary, signal.SIG_DFL)
        os.setsid()
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        # First out of the way of 0, 1 and 2, then into them
        safe = [
            fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10) for descriptor in (self.stdin, self.stdout, self.stderr)
        ]
        for number, descriptor in enumerate(safe):
            os.dup2(descriptor, number, inheritable=True)
        if self.order.get("tty"):
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        for name, soft, hard in self.order.get("ulimits", ()):
            _limit(name, soft, hard)
        os.umask(0o022)
        if self.order.get("cwd"):
            os.chdir(self.order["cwd"])
        # What the program shall inherit, such as a descriptor for --info-fd, gets its number from 3 on
        safe = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 30) for descriptor in (self.channel, *self.more)]
        self.channel, more = safe[0], safe[1:]
        for number, descriptor in enumerate(more, 3):
            os.dup2(descriptor, number, inheritable=True)

    def _filters(self) -> None:
        """Put the filters on; the listener's descriptor goes to the engine."""
        if not self.order.get("filters") and not self.order.get("notify"):
            return
        no_new_privileges()
        if self.order.get("notify"):
            listener = install_filter(bytes.fromhex(self.order["notify"]), listener=True)
            self._tell({"listener": True}, listener)
            os.close(listener)
        for program in self.order.get("filters", ()):
            install_filter(bytes.fromhex(program))

    def _execute(self) -> NoReturn:
        """Start the program, and say so to the engine when that fails."""
        argv, environ = self.order["argv"], dict(item.partition("=")[::2] for item in self.order["env"])
        if self.order.get("path"):
            os.execve(self.order["path"], argv, environ)
        os.execvpe(argv[0], argv, environ)

    def _enter(self) -> None:
        """Go into the namespaces of a container, then become the parent of what runs there."""
        pid = self.order["pid"]
        folder = os.open(f"/proc/{pid}/ns", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        opened = []
        for name, flag in _NAMESPACES.items():
            if not _same_namespace(pid, name):
                opened.append((os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder), flag))
        for descriptor, flag in opened:
            _check(_libc.setns(descriptor, flag), "setns")
        child = os.fork()
        if child:
            self._stand_in(child)
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        os.chdir("/")
        self._become()
        # Only now: a filter that pretends would pretend to us as well
        self._filters()
        _go_to(self.order["workdir"])

    def _stand_in(self, child: int) -> NoReturn:
        """Wait for the process inside, and end as it ended."""
        self._tell({"child": child})
        os.closerange(0, 1 << 16)
        for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(ignored, signal.SIG_IGN)
        _, status = os.waitpid(child, 0)
        os._exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))

    def _become(self) -> None:
        """Be the user that was asked for; one unknown to the namespace gets a namespace in which it is known."""
        uid, gid = self.order["uid"], self.order["gid"]
        if (os.geteuid(), os.getegid()) != (uid, gid):
            own_uid, own_gid = os.geteuid(), os.getegid()
            _check(_libc.unshare(_NEWUSER), "unshare")
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"{uid} {own_uid} 1")
            Path("/proc/self/gid_map").write_text(f"{gid} {own_gid} 1")
        if uid != 0:
            _drop_capabilities()

    def _view(self) -> None:
        """Mount layers and the writable one in a namespace of this child, and hand the opened root to the engine."""
        uid, gid = os.geteuid(), os.getegid()
        _check(_libc.unshare(_NEWUSER | _NEWNS), "unshare")
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
        target = self.order["target"]
        options = self.order["options"].encode()
        _check(_libc.mount(b"overlay", target.encode(), b"overlay", 0, options), "mount")
        root = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._tell({"root": True}, root)


def _limit(name: str, soft: int, hard: int) -> None:
    kind = getattr(resource, f"RLIMIT_{name.upper()}", None)
    if kind is None:
        return
    _, most = resource.getrlimit(kind)
    hard = most if hard < 0 or (0 <= most < hard) else hard
    soft = hard if soft < 0 or (0 <= hard < soft) else soft
    resource.setrlimit(kind, (soft, hard))


def _same_namespace(pid: int, name: str) -> bool:
    ours, theirs = os.stat(f"/proc/self/ns/{name}"), os.stat(f"/proc/{pid}/ns/{name}")
    return (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino)


def _go_to(folder: str) -> None:
    try:
        os.chdir(folder)
    except FileNotFoundError as error:
        raise OSError(
            0,
            f'chdir to cwd ("{folder}") set in config.json failed: {error.strerror}',
        ) from error


def _drop_capabilities() -> None:
    """Give up every capability, as a user that is not root has none."""
    header = struct.pack("Ii", 0x20080522, 0)
    _libc.capset(header, struct.pack("IIIIII", 0, 0, 0, 0, 0, 0))


def _children() -> list[int]:
    """Give the numbers of all processes whose ancestor this one is, deepest last."""
    parents: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                parent = int(Path(f"/proc/{entry}/stat").read_text(errors="replace").rpartition(")")[2].split()[1])
            except (OSError, IndexError, ValueError):
                continue
            parents.setdefault(parent, []).append(int(entry))
    found, waiting = [], [os.getpid()]
    while waiting:
        below = parents.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def end_descendants(limit_s: float = 10.0) -> None:
    """Kill every process below this one, also those that are born meanwhile."""
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        below = _children()
        if not below:
            return
        for pid in below:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            continue
        time.sleep(0.005)


def main() -> None:
    """Serve the engine at the other end of the descriptor that is named as argument."""
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)
    os.setsid()
    try:
        with contextlib.suppress(OSError):  # the engine was killed
            Spawner(control).run()
    finally:
        end_descendants()


if __name__ == "__main__":
    main()

"""What several tests use: a wire to the engine that can be cut, a look at the processes of this machine,
a registry."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil


def until(condition: Callable[[], Any], timeout_s: float = 20.0, what: str = "it did not happen in time") -> Any:
    """Wait for a true value and give it."""
    ends_s = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < ends_s, what
        time.sleep(0.02)
    return value


def image_names(client: Any) -> list[str]:
    """Give all tags and digests of images. `images.list()` asks for each one, which another test may have removed."""
    return [
        name for entry in client.api.images() for name in (*(entry["RepoTags"] or ()), *(entry["RepoDigests"] or ()))
    ]


class Forwarder:
    """Passes bytes between a socket of its own and the engine's, until it is cut."""

    def __init__(self, listener: socket.socket, target: str) -> None:
        self._listener, self._target = listener, target
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._cut = False
        self._listener.settimeout(0.1)
        self._start(self._accept)

    def _start(self, run: Any, *arguments: Any) -> None:
        thread = threading.Thread(target=run, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._cut:
            try:
                near, _ = self._listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            near.settimeout(None)
            far = socket.socket(socket.AF_UNIX)
            far.connect(self._target)
            self._open += [near, far]
            self._start(self._pump, near, far)
            self._start(self._pump, far, near)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while block := source.recv(65536):
                sink.sendall(block)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        """End every connection at once, as an engine does that is killed."""
        self._cut = True
        self._threads[0].join()  # the one that accepts: no connection is added after this
        for end in self._open:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for end in (*self._open, self._listener):
            end.close()


def processes_with(text: str) -> list[int]:
    """Give the processes of this machine, those in containers too, whose command line holds the text."""
    running = psutil.process_iter(["cmdline"])
    return [process.pid for process in running if text in " ".join(process.info["cmdline"] or ())]


def registry_command(program: str, home: Path, address: str) -> list[str]:
    """Give the command line of Debian's docker-registry that keeps its files in a folder and listens at an address."""
    settings = home / "config.yml"
    settings.write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {home / 'data'}}}}}\n"
        f"http: {{addr: '{address}'}}\n"
    )
    return [program, "serve", str(settings)]


@contextlib.contextmanager
def docker_registry(program: str, home: Path) -> Iterator[str]:
    """Run a registry on this machine; gives its address."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(registry_command(program, home, address), stdout=log, stderr=log)
    try:
        ends = time.monotonic() + 20
        while True:
            try:
                with urllib.request.urlopen(f"http://{address}/v2/", timeout=1):
                    break
            except OSError:
                assert time.monotonic() < ends, (home / "log").read_text()
                time.sleep(0.05)
        yield address
    finally:
        process.terminate()
        process.wait(10)

"""What the fuzz tests work with: an embedded engine of their own that is watched, and how many examples there are."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import shutil
import socket
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import hypothesis
import psutil
import pytest
from fuzz_archives import busybox_image
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import HypothesisWarning
from hypothesis.strategies import SearchStrategy

from dockerlab.engine import daemon
from dockerlab.engine.places import Places

T = TypeVar("T")
LONG = int(os.environ.get("DOCKERLAB_FUZZ", "10000"))
SEED = int(os.environ.get("DOCKERLAB_FUZZ_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
_FIXED_SEED = 20240101  # what runs with every change must not fail by chance
_TRACES = (b"Traceback (most recent call last)", b"never retrieved", b"was destroyed but it is pending")
_LATE = 0.2


class Many(int):
    """So many examples that their seed may change from run to run."""


def amounts(quick: int, slow_factor: int = 1) -> pytest.MarkDecorator:
    """Run a test with a few examples always, and with DOCKERLAB_FUZZ examples at night."""
    many = Many(max(quick, LONG // slow_factor))
    night = pytest.param(many, marks=[pytest.mark.nightly, pytest.mark.timeout(3600)], id="many")
    return pytest.mark.parametrize("amount", [pytest.param(quick, id="few"), night])


def fuzz(amount: int, strategy: SearchStrategy[T], check: Callable[[T], None]) -> None:
    """Check so many examples; the seed is printed, DOCKERLAB_FUZZ_SEED repeats a run."""
    seed = SEED if isinstance(amount, Many) or "DOCKERLAB_FUZZ_SEED" in os.environ else _FIXED_SEED
    # The text of a long example is not worth an error of its own
    warnings.filterwarnings("ignore", category=HypothesisWarning)
    print(f"DOCKERLAB_FUZZ_SEED={seed} examples={amount}")

    @hypothesis.seed(seed)
    @settings(
        max_examples=amount,
        deadline=None,
        database=None,
        print_blob=True,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    @given(strategy)
    def one(value: T) -> None:
        check(value)

    one()


@dataclass(frozen=True)
class Answer:
    """What the engine answered; status 0 when it went on and on and was left."""

    status: int
    body: bytes
    headers: Mapping[str, str]

    @property
    def messages(self) -> list[Any]:
        """The JSON values of the body, one a line."""
        return [json.loads(line) for line in self.body.splitlines() if line.strip()]

    @property
    def errors(self) -> str:
        """What the stream of a build or pull says went wrong."""
        found = [message for message in self.messages if isinstance(message, dict)]
        return " ".join(str(one.get("error") or one.get("message") or "") for one in found).strip()


class _Connection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Rig:
    """An engine, everything it may touch, and what must not change."""

    def __init__(self, home: Path, isolation: str = "") -> None:
        self.home = home
        self.temporary = home / "tmp"
        self.canary = home / "canary"
        self.temporary.mkdir()
        self.canary.mkdir()
        (self.canary / "secret").write_text("untouched")
        self.places = Places(home / "d", home / "run" / "r")
        before = dict(os.environ)
        os.environ.update(TMPDIR=str(self.temporary), HTTPS_PROXY="http://127.0.0.1:9", HTTP_PROXY="http://127.0.0.1:9")
        try:
            daemon.start(self.places, isolation=isolation)
        finally:
            os.environ.clear()
            os.environ.update(before)
        pid = daemon.status(self.places).pid
        assert pid is not None
        self.process = psutil.Process(pid)
        self._log_bytes = 0
        self._outside = self.outside()

    def close(self) -> None:
        """End the engine and remove what it had."""
        daemon.stop(self.places)
        remove(self.home)

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | Mapping[str, Any] | list[Any] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 60.0,
    ) -> Answer:
        """Send a request; an answer that does not end in time is left (status 0, or its own when it had begun)."""
        sent = dict(headers or {})
        if isinstance(body, (Mapping, list)):
            body = json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        connection = _Connection(self.places.socket, timeout_s)
        status, found, known = 0, bytearray(), {}
        try:
            connection.request(method, path, body=body, headers=sent)
            response = connection.getresponse()
            status, known = response.status, dict(response.headers.items())
            with contextlib.suppress(http.client.IncompleteRead):
                while piece := response.read1(1 << 16):
                    found += piece
            response.close()
        except TimeoutError:
            pass
        except (ConnectionError, http.client.HTTPException):
            if not status:
                raise
        finally:
            connection.close()
        return Answer(status, bytes(found), known)

    def raw(self, content: bytes, timeout_s: float = _LATE) -> bytes:
        """Send bytes as they are and give what comes back until the end or until nothing comes for a while."""
        found = b""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeout_s)
            connection.connect(str(self.places.socket))
            with contextlib.suppress(OSError):
                connection.sendall(content)
                connection.shutdown(socket.SHUT_WR)
                while piece := connection.recv(1 << 16):
                    found += piece
        return found

    def check_log(self) -> None:
        """Fail when the engine printed a traceback since the last look."""
        size = self.places.log.stat().st_size
        if size == self._log_bytes:
            return
        with self.places.log.open("rb") as log:
            log.seek(self._log_bytes if size > self._log_bytes else 0)
            new = log.read()
        self._log_bytes = size
        assert not any(trace in new for trace in _TRACES), new.decode(errors="replace")

    def skip_log(self) -> None:
        """Take the log as it is for known."""
        self._log_bytes = self.places.log.stat().st_size

    def check_answer(self, answer: Answer) -> None:
        """Fail when an answer is no answer to bad input, or the engine printed a traceback."""
        self.check_log()
        assert answer.status < 500 or answer.status in (501, 502), (answer.status, answer.body[:2000])
        assert b"the engine failed" not in answer.body, answer.body[:2000]
        if answer.status >= 400 and answer.body and answer.headers.get("Content-Type", "").startswith("application"):
            message = json.loads(answer.body.splitlines()[0])["message"]
            assert isinstance(message, str)
            assert message
            assert "Error(" not in message
            assert str(self.places.data) not in message, "a message tells where the engine keeps its things"

    def outside(self) -> dict[str, bytes]:
        """Give every file in the home of the engine that is not its own."""
        own = (self.places.data, self.places.runtime.parent)
        found = {}
        for folder, names, files in os.walk(self.home):
            names[:] = [name for name in names if Path(folder, name) not in own]
            found.update({str(Path(folder, name)): b"" for name in names})
            found.update({str(Path(folder, name)): Path(folder, name).read_bytes() for name in files})
        return found

    def check_clean(self) -> None:
        """Fail when something was left: a temporary file, a file elsewhere."""
        assert self.outside() == self._outside
        wait_for(lambda: not list(self.places.temporary.iterdir()), 5, "temporary files were left")
        # Work on layers goes on in folders whose names begin with a dot or are called tmp
        wait_for(lambda: not self._workspaces(), 5, "the work folders of the store were left")

    def _workspaces(self) -> list[Path]:
        folder = self.places.images / "tmp"
        return list(folder.iterdir()) if folder.is_dir() else []

    def used(self) -> int:
        """Give how many bytes the engine has on the disk, its log left out."""
        # Not os.walk, which gives up in a tree that is deep enough
        told = subprocess.run(
            ["du", "-s", "-B512", "--exclude=engine.log", str(self.places.data)], capture_output=True, check=False
        )
        return int(told.stdout.split()[0]) * 512

    def descriptors(self) -> int:
        """Give how many descriptors the engine has."""
        return self.process.num_fds()

    def below(self) -> list[psutil.Process]:
        """Give every process below the engine."""
        return self.process.children(recursive=True)


def remove(folder: Path) -> None:
    """Remove a folder however deep it is."""
    subprocess.run(["rm", "-rf", str(folder)], check=True)


def wait_for(condition: Callable[[], object], limit_s: float, what: str) -> None:
    """Wait until something is so."""
    ends = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < ends, what
        time.sleep(0.02)


@contextlib.contextmanager
def rig(isolation: str = "") -> Iterator[Rig]:
    """Start an engine that is ended and removed afterwards."""
    home = Path(tempfile.mkdtemp(prefix="dl-"))  # the path of a socket must be short
    try:
        made = Rig(home, isolation)
    except BaseException:
        remove(home)
        raise
    try:
        yield made
    finally:
        if log := os.environ.get("DOCKERLAB_TEST_LOG"):
            shutil.copy(made.places.log, f"{log}.fuzz")
        made.close()


def load_base(rig: Rig) -> None:
    """Load an image with busybox in it, and make a container of it that runs."""
    answer = rig.ask("POST", "/images/load", busybox_image())
    assert answer.status == 200, answer


def runs_a_container(rig: Rig) -> None:
    """See that the engine still does what it is for."""
    assert rig.ask("GET", "/_ping").body == b"OK"
    made = rig.ask("POST", "/containers/create", {"Image": "fuzz/base:1", "Cmd": ["echo", "alive"]})
    assert made.status == 201, made
    name = made.messages[0]["Id"]
    assert rig.ask("POST", f"/containers/{name}/start").status == 204
    assert rig.ask("POST", f"/containers/{name}/wait").messages[0]["StatusCode"] == 0
    assert b"alive\n" in rig.ask("GET", f"/containers/{name}/logs?stdout=1").body
    assert rig.ask("DELETE", f"/containers/{name}").status == 204

"""The embedded engine as a process: started once, shut to others, ended, killed, and full of hostile containers."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import tempfile
import textwrap
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import docker
import psutil
import pytest
from support import until

from dockerlab.engine import daemon
from dockerlab.engine.places import Places
from dockerlab.errors import EngineError

if sys.platform != "linux":
    pytest.skip("the embedded engine runs on Linux only", allow_module_level=True)

# docker-py leaves the sockets of its pool to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")

ISOLATORS = ("bubblewrap", "proot")
BASE = "dockerlab/base:1"
MEMORY_BYTES = 80e6
ENDED_S = 5.0
Missing = Callable[[str, str], NoReturn]
_numbers = itertools.count(random.SystemRandom().randrange(10**8, 10**9))
_given: list[int] = []


class Home:
    """The folders of one engine, and a file beside them that no container may see."""

    def __init__(self, isolator: str) -> None:
        self.isolator = isolator
        self.folder = Path(tempfile.mkdtemp(prefix="dl-"))  # the path of a socket must be short
        self.places = Places(self.folder / "d", self.folder / "run" / "r")
        self._client: docker.DockerClient | None = None

    def start(self) -> bool:
        return daemon.start(self.places, isolation=self.isolator)

    @property
    def client(self) -> docker.DockerClient:
        """The SDK at this engine."""
        if self._client is None:
            self._client = docker.DockerClient(base_url=self.places.address, timeout=30)
        return self._client

    def forget_connections(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def pid(self) -> int:
        pid = daemon.status(self.places).pid
        assert pid is not None
        return pid

    def spawner(self) -> int:
        """Give the process that starts what runs in containers."""
        below = psutil.Process(self.pid()).children()
        return next(process.pid for process in below if any("spawner.py" in word for word in process.cmdline()))

    def load_base(self) -> None:
        from dockerlab.images import base

        base.ensure(self.client)

    def run(self, script: str, **options: Any) -> Any:
        """Start a container with a shell's script."""
        return self.client.containers.run(BASE, ["sh", "-c", script], detach=True, **options)

    def output(self, command: list[str], image: str = BASE, **options: Any) -> str:
        """Run a container to its end and give what it printed, errors included."""
        made = self.client.containers.run(image, command, detach=True, **options)
        made.wait(timeout=30)
        text: str = made.logs().decode(errors="replace")
        made.remove(force=True)
        return text

    def roots(self) -> list[str]:
        """Give what is on the disk for containers."""
        found = []
        for folder, names, _ in os.walk(self.places.roots):
            found += [str(Path(folder, name)) for name in names]
        return found

    def clear(self) -> None:
        for container in self.client.containers.list(all=True):
            container.remove(force=True, v=True)

    def close(self) -> None:
        if daemon.answers(self.places):
            self.clear()  # a stop would wait for those that do not listen to signals
        self.forget_connections()
        daemon.stop(self.places)
        subprocess.run(["rm", "-rf", str(self.folder)], check=True)


def number() -> int:
    """Give a number that marks processes: nobody else sleeps for so long."""
    _given.append(next(_numbers))
    return _given[-1]


def marked(mark: int) -> list[int]:
    """Give the processes of this machine that have the number among their words."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if any(str(mark) in word for word in process.cmdline()) and process.pid != os.getpid():
                found.append(process.pid)
    return found


def open_home(isolator: str, missing: Missing) -> Home:
    home = Home(isolator)
    try:
        home.start()
    except EngineError as error:
        home.close()
        if "No container can be held here" not in error.message:
            raise
        missing(isolator, error.message)
    return home


@pytest.fixture(params=ISOLATORS)
def home(request: pytest.FixtureRequest, missing: Missing) -> Iterator[Home]:
    """Give an engine of one's own that may be killed."""
    made = open_home(request.param, missing)
    try:
        made.load_base()
        yield made
    finally:
        made.close()
        for mark in _given:  # what a test that failed has left
            for pid in marked(mark):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        _given.clear()


@pytest.fixture(scope="module", params=ISOLATORS)
def shared(request: pytest.FixtureRequest, missing: Missing) -> Iterator[Home]:
    """Give an engine that stays for all tests of one isolator."""
    made = open_home(request.param, missing)
    try:
        made.load_base()
        yield made
    finally:
        made.close()


@pytest.fixture
def kept(shared: Home) -> Iterator[Home]:
    """Give the engine that stays; it has no container before and after."""
    yield shared
    shared.clear()


class TestProcess:
    def test_started_once_however_many_ask(self, home: Home) -> None:
        home.forget_connections()
        assert daemon.stop(home.places)
        code = (
            "import sys; from pathlib import Path; from dockerlab.engine import daemon; "
            "from dockerlab.engine.places import Places; "
            "print(daemon.start(Places(Path(sys.argv[1]), Path(sys.argv[2])), isolation=sys.argv[3]))"
        )
        words = [sys.executable, "-c", code, str(home.places.data), str(home.places.runtime), home.isolator]
        asking = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(8)]
        said = sorted(process.communicate(timeout=60)[0].strip() for process in asking)
        assert said == ["False"] * 7 + ["True"]
        engines = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                words = process.cmdline()
                if str(home.places.data) in words and any(word.endswith("boot.py") for word in words):
                    engines.append(process.pid)
        assert engines == [home.pid()]

    def test_nobody_else_gets_in(self, shared: Home) -> None:
        modes = {path: stat.S_IMODE(path.lstat().st_mode) for path in (shared.places.socket, shared.places.runtime)}
        assert modes == {shared.places.socket: 0o600, shared.places.runtime: 0o700}
        assert stat.S_ISSOCK(shared.places.socket.lstat().st_mode)
        assert stat.S_IMODE(shared.places.data.stat().st_mode) == 0o700

    def test_nothing_listens_outside_loopback(self, kept: Home) -> None:
        script = "echo hello > index.html; httpd -p 8080; nc -lk -p 8081 & sleep 1000"
        made = kept.run(script, ports={"8080/tcp": None, "8081/tcp": ("127.0.0.1", None), "9/udp": None})
        made.reload()
        port = made.ports["8080/tcp"][0]["HostPort"]
        until(lambda: fetches(f"http://127.0.0.1:{port}/"), 10, "the container does not answer")
        engine = psutil.Process(kept.pid())
        sockets = set()
        for process in (engine, *engine.children(recursive=True)):
            with contextlib.suppress(OSError):
                for link in Path(f"/proc/{process.pid}/fd").iterdir():
                    with contextlib.suppress(OSError):
                        sockets.add(str(link.readlink()).removeprefix("socket:[").rstrip("]"))
        listening = [(place, inode) for place, inode in listeners() if inode in sockets]
        assert listening, "the published port listens nowhere"
        assert [place for place, _ in listening if not place.is_loopback] == []

    def test_idle_it_costs_next_to_nothing(self, home: Home) -> None:
        made = home.run("sleep 1000")  # with a container that does nothing
        made.reload()
        time.sleep(1)
        engine = psutil.Process(home.pid())
        before = engine.cpu_times()
        time.sleep(3)
        after = engine.cpu_times()
        used_s = after.user + after.system - before.user - before.system
        assert used_s <= 0.03 + 1 / os.sysconf("SC_CLK_TCK")  # one more tick for the clock's grain
        assert engine.memory_info().rss < MEMORY_BYTES

    def test_a_clean_stop_ends_every_container(self, home: Home) -> None:
        mark = number()
        home.run(f"setsid sleep {mark} & sleep {mark}")
        home.run(f"trap '' TERM INT HUP; while :; do sleep {mark}; done")
        made = home.run(f"trap 'echo bye; exit 0' TERM; echo ready; sleep {mark} & wait")
        name = made.id
        until(lambda: len(marked(mark)) >= 4, 10, "the containers do not run")
        until(lambda: made.logs() == b"ready\n", 10, "the last one does not listen to TERM")
        home.forget_connections()
        below = psutil.Process(home.pid()).children(recursive=True)
        assert daemon.stop(home.places)
        until(lambda: not marked(mark), 1, "a process of a container runs on")
        assert not [process for process in below if process.is_running() and process.status() != "zombie"]
        home.start()
        again = home.client.containers.get(name)
        assert again.status == "exited"
        assert again.logs() == b"ready\nbye\n"


def fetches(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=2) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def listeners() -> list[tuple[Any, str]]:
    """Give address and inode of each socket of this machine that waits for others."""
    import ipaddress

    found: list[tuple[Any, str]] = []
    for name in ("tcp", "tcp6", "udp", "udp6"):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/net/{name}").read_text(encoding="ascii").splitlines()[1:]:
                fields = line.split()
                if fields[3] != ("0A" if name.startswith("tcp") else "07"):
                    continue
                raw = bytes.fromhex(fields[1].partition(":")[0])
                packed = b"".join(raw[place : place + 4][::-1] for place in range(0, len(raw), 4))
                place = ipaddress.ip_address(packed)
                found.append((getattr(place, "ipv4_mapped", None) or place, fields[9]))
    return found


class TestKilled:
    @pytest.mark.parametrize("victims", [("engine",), ("spawner",), ("spawner", "engine"), ("engine", "spawner")])
    def test_nothing_runs_on_and_all_can_be_started_again(self, home: Home, victims: tuple[str, ...]) -> None:
        mark = number()
        double_fork = f"(setsid sh -c '(sleep {mark} &)' &); trap '' TERM; while :; do sleep {mark}; done"
        names = [home.run(script).id for script in (f"sleep {mark}", double_fork)]
        names.append(home.run(f"sleep {mark}", init=True).id)
        home.client.containers.get(names[0]).exec_run(["sh", "-c", f"sleep {mark} & sleep {mark}"], detach=True)
        until(lambda: len(marked(mark)) >= 6, 10, "the containers do not run")
        pids = {"engine": home.pid(), "spawner": home.spawner()}
        for victim in victims:
            os.kill(pids[victim], signal.SIGKILL)
        both = len(victims) == 2
        if not both:
            until(lambda: not marked(mark), ENDED_S, "a process of a container runs on")
        if "engine" in victims:
            home.forget_connections()
            until(lambda: not daemon.answers(home.places), 5, "a dead engine answers")
            assert home.start()
        if both:
            until(lambda: not marked(mark), ENDED_S, "a process of a container runs on")
        states = {}
        until(
            lambda: (
                set(states := {one.id: one.status for one in home.client.containers.list(all=True)}) == set(names)
                and set(states.values()) == {"exited"}
            ),
            ENDED_S,
            f"the containers are not reported as exited: {states}",
        )
        for name in names:
            again = home.client.containers.get(name)
            assert again.attrs["State"]["ExitCode"] != 0
            again.start()
            again.reload()
            assert again.status == "running"
            assert again.exec_run("echo here").output == b"here\n"
        assert home.output(["cat", "/etc/passwd"])
        assert home.client.images.get(BASE).id
        home.client.api.build(fileobj=io.BytesIO(f"FROM {BASE}\nRUN true\n".encode()), rm=True)
        home.clear()
        until(lambda: not marked(mark), ENDED_S, "a process of a container runs on")
        assert not [path for path in home.roots() if any(name in path for name in names)]

    def test_in_the_middle_of_many_changes(self, home: Home) -> None:
        """Kill it again and again while containers are made: what it says afterwards is always whole."""
        for round_ in range(3):
            code = (
                "import sys, docker; client = docker.DockerClient(base_url=sys.argv[1])\n"
                f"while True: client.containers.run({BASE!r}, 'true', detach=True).remove(force=True)"
            )
            maker = subprocess.Popen([sys.executable, "-c", code, home.places.address], stderr=subprocess.DEVNULL)
            time.sleep(0.6 + 0.13 * round_)
            home.forget_connections()
            os.kill(home.pid(), signal.SIGKILL)
            maker.wait(20)
            until(lambda: not daemon.answers(home.places), 5, "a dead engine answers")
            assert home.start()
            for container in home.client.containers.list(all=True):
                assert container.status in ("exited", "created")
                container.remove()
            assert home.output(["echo", "well"]) == "well\n"
            assert "Traceback" not in home.places.log.read_text(errors="replace")
        assert not [path for path in home.roots() if len(Path(path).name.lstrip(".")) == 64]


HOSTILE = {
    "forks": "i=0; while [ $i -lt 200 ]; do (setsid sh -c '(sleep MARK &)' &); i=$((i+1)); done; sleep MARK",
    "forks and ends": "i=0; while [ $i -lt 50 ]; do (setsid sh -c '(sleep MARK &)' &); i=$((i+1)); done; sleep 1",
    "ignores every signal": "i=1; while [ $i -lt 65 ]; do trap '' $i 2>/dev/null; i=$((i+1)); done; "
    "while :; do sleep MARK; done",
    "fills its disk": "dd if=/dev/zero of=/big bs=1M count=50 2>/dev/null; sleep MARK",
    "closes its outputs": "exec <&- >&- 2>&-; sleep MARK",
    "floods its output": "yes MARK",
    "takes its own rights": "mkdir -p /d/e; echo x > /d/e/f; chmod 0 /d/e/f /d/e /d; chmod 0 /etc /bin; sleep MARK",
    "deletes its work folder": "cd /w && rm -rf /w && sleep MARK",
    "deletes everything": "cp /bin/busybox /busybox; rm -rf /bin /etc /lib /usr /tmp; exec /busybox sleep MARK",
    "makes odd names": "cd /w; touch -- '-rf' ' ' '\t' 'a\nb' \"$(printf '\\377\\376')\"; "
    "mkfifo p; ln -s / root; sleep MARK",
    "stops itself": "sleep MARK & kill -STOP $$; sleep MARK",
}  # fmt: skip


class TestHostile:
    @pytest.mark.parametrize("script", HOSTILE.values(), ids=HOSTILE)
    @pytest.mark.parametrize("how", ["stop", "force"])
    def test_it_is_stopped_and_removed(self, kept: Home, script: str, how: str) -> None:
        mark = number()
        before = used(kept.places.data)
        made = kept.run(script.replace("MARK", str(mark)), working_dir="/w")
        until(lambda: marked(mark) or script.endswith("sleep 1"), 10, "it does not run")
        time.sleep(1.2 if "sleep 1" in script[-8:] else 0.5)
        if how == "stop":
            begun = time.monotonic()
            made.stop(timeout=1)
            assert time.monotonic() - begun < 8
            made.reload()
            assert made.status == "exited"
            made.remove(v=True)
        else:
            made.remove(force=True, v=True)
        until(lambda: not marked(mark), ENDED_S, "a process of it runs on")
        until(
            lambda: not [path for path in shallow(kept.places.data) if made.id in path], ENDED_S, "its files are left"
        )
        until(lambda: used(kept.places.data) < before + (8 << 20), ENDED_S, "the disk is not free again")
        assert "Traceback" not in kept.places.log.read_text(errors="replace")
        assert kept.output(["echo", "well"]) == "well\n"

    @pytest.mark.nightly
    def test_a_tree_too_deep_to_name_is_removed(self, home: Home) -> None:
        mark = number()
        made = home.run(f"i=0; while [ $i -lt 1100 ]; do mkdir d && cd d || break; i=$((i+1)); done; exec sleep {mark}")
        ends = time.monotonic() + 15  # PRoot gets slower with each level: as deep as it comes
        while time.monotonic() < ends and not any("sleep" in row[-1][:12] for row in made.top()["Processes"]):
            time.sleep(0.1)
        try:
            assert made.diff()
        except docker.errors.APIError as error:
            if error.status_code != 400:  # too deep may be said
                raise
        made.remove(force=True)
        assert home.client.containers.list(all=True) == []
        until(
            lambda: not [path for path in shallow(home.places.data) if made.id in path], ENDED_S, "its files are left"
        )
        assert "Traceback" not in home.places.log.read_text(errors="replace")

    def test_processes_that_are_left_end_with_their_container(self, kept: Home) -> None:
        mark = number()
        made = kept.run(f"(setsid sh -c '(sleep {mark} &)' &); sleep 1")
        made.wait(timeout=20)
        until(lambda: not marked(mark), ENDED_S, "a process outlives its container")


def shallow(folder: Path) -> list[str]:
    """Give what is in the upper folders of the engine's data."""
    found = subprocess.run(["find", str(folder), "-maxdepth", "4"], capture_output=True, text=True, check=False)
    return found.stdout.splitlines()


def used(folder: Path) -> int:
    told = subprocess.run(["du", "-s", "-B1", str(folder)], capture_output=True, check=False)
    return int(told.stdout.split()[0])


@pytest.fixture(scope="module")
def glibc(missing: Missing) -> bytes:
    """Give a root file system with programs of this machine, which use newer calls than busybox."""
    wanted = [shutil.which(name) for name in ("ls", "stat", "cat", "readlink", "touch")]
    if shutil.which("ldd") is None or None in wanted:
        missing("ldd", "programs of this machine and their libraries cannot be found")
    files = {str(Path(str(name)).resolve()): f"bin/{Path(str(name)).name}" for name in wanted}
    for program in list(files):
        for word in subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout.split():
            if word.startswith("/"):
                files[word] = word.lstrip("/")
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        for source, name in files.items():
            if Path(source).exists():
                info = tarfile.TarInfo(name)
                content = Path(source).read_bytes()
                info.size, info.mode = len(content), 0o755
                tar.addfile(info, io.BytesIO(content))
    return target.getvalue()


def ways_out(path: str) -> list[str]:
    """Give names that could lead to a file of this machine."""
    up = "/.." * 30
    return [
        path,
        f"{up}{path}",
        f"/proc/self/root{path}",
        f"/proc/self/root{up}{path}",
        f"/proc/self/cwd{up}{path}",
        f"/proc/1/root{path}",
        f"/proc/1/cwd{up}{path}",
        f"/proc/self/fd/0{up}{path}",
        f"/proc/thread-self/root{path}",
        f"/proc/self/task/../root{path}",
        f"/dev/fd/..{up}{path}",
        f"/link{path}",
        f"/up{path}",
        "/direct",
        "/through/secret",
        "/chain",
    ]


@pytest.mark.parametrize("kind", ["busybox", "glibc"])
def test_no_path_leads_outside(kept: Home, glibc: bytes, kind: str) -> None:
    secret, beside = kept.folder / "secret", kept.folder / "beside"
    beside.touch()  # a name that no command gets to know
    text = uuid.uuid4().hex * 131  # 4192 bytes: a size that nothing else has
    secret.write_text(text)
    image = BASE
    if kind == "glibc":
        image = "dockerlab/glibc:test"
        kept.client.api.import_image_from_data(glibc, repository="dockerlab/glibc", tag="test")
    links = {
        "link": "/", "up": "../" * 30, "direct": str(secret), "through": str(secret.parent), "chain": "chain2",
        "chain2": f"/..{secret}",
    }  # fmt: skip
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        for name, leads in links.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, leads
            tar.addfile(info)
    paths = ways_out(str(secret))
    commands = [
        ["cat", *paths],
        ["stat", "-L", "-c", "%n %s", "/bin", *paths],
        ["ls", "-lL", *paths],
        ["stat", "-c", "%n %s", "/bin", *paths],
    ]
    commands += [["touch", "-c", *paths], ["ls", "-l", *[str(Path(path).parent) for path in paths]]]
    before = secret.stat()
    for command in commands:
        made = kept.client.containers.create(image, command)
        made.put_archive("/", target.getvalue())
        made.start()
        made.wait(timeout=30)
        printed = made.logs().decode(errors="replace")
        assert "/bin" in printed or command[0] != "stat", "it did not run"
        assert text not in printed, command[0]
        assert str(len(text)) not in printed, f"{command[0]} tells the size of a file of this machine:\n{printed}"
        assert beside.name not in printed, f"{command[0]} lists a folder of this machine:\n{printed}"
    assert secret.read_text() == text
    assert secret.stat().st_mtime_ns == before.st_mtime_ns


def test_one_more_container_costs_the_same_with_fifty_there(kept: Home) -> None:
    def one_s() -> float:
        begun = time.monotonic()
        made = kept.run("echo hello > index.html; exec httpd -f -p 80", ports={"80/tcp": None})
        made.reload()
        url = f"http://127.0.0.1:{made.ports['80/tcp'][0]['HostPort']}/"
        while not fetches(url):
            assert time.monotonic() < begun + 20, made.logs()
            time.sleep(0.002)
        took_s = time.monotonic() - begun
        made.remove(force=True)
        return took_s

    one_s()  # the first one of all pays for imports
    first_s = min(one_s() for _ in range(3))
    for _ in range(50):
        kept.run("sleep 1000")
    later_s = min(one_s() for _ in range(3))
    print(f"first {first_s:.3f} s, after fifty {later_s:.3f} s")
    assert later_s < 2 * first_s + 0.02


PLAIN = """
import io
import sys
from pathlib import Path
from dockerlab.engine import daemon
from dockerlab.engine.places import Places
from dockerlab.errors import EngineError
import docker

folder, isolator, archive = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
places = Places(folder / "d", folder / "run" / "r")
try:
    daemon.start(places, isolation=isolator)
except EngineError as error:
    sys.exit(f"not here: {error.message}" if "No container can be held here" in error.message else str(error))
try:
    client = docker.DockerClient(base_url=places.address)
    client.images.load(Path(archive).read_bytes())
    options = {"hostname": "plain", "detach": True}
    script = "id -u; echo x > /x; chmod 000 /x; mkdir -p /d/e; touch /d/e/f; chmod 000 /d; hostname"
    made = client.containers.run("dockerlab/base:1", ["sh", "-c", script + "; sleep 1000"], **options)
    print(made.exec_run(["sh", "-c", "sleep 0.3; id -u; cat /etc/hostname"]).output.decode())
    print(made.logs().decode())
    made.stop(timeout=1)
    made.remove()
    dockerfile = b"FROM dockerlab/base:1\\nRUN id -u > /who && chmod 000 /who\\n"
    image, _ = client.images.build(fileobj=io.BytesIO(dockerfile))
    print("built", client.containers.run(image.id, "cat /who", remove=True).decode())
    print("left", [p.name for p in (folder / "d" / "roots").rglob("*") if len(p.name) >= 64])
    client.close()
finally:
    print("stopped", daemon.stop(places))
print("log", "Traceback" in places.log.read_text())
"""


@pytest.fixture(scope="module")
def plain_python(missing: Missing) -> list[str]:
    """Give a Python that a user without privileges can run, with our packages."""
    packages = {str(Path(module.__file__ or "").parents[1]) for module in (docker, psutil, pytest)}
    packages.add(str(Path(daemon.__file__).parents[2]))
    for name in (sys.executable, "/usr/bin/python3", *(shutil.which(f"python3.{n}") or "" for n in range(14, 9, -1))):
        words = [
            "env",
            "HOME=/nonexistent",
            f"TMPDIR={for_others()}",
            f"PYTHONPATH={os.pathsep.join(sorted(packages, key=len))}",
            "PYTHONDONTWRITEBYTECODE=1",
            name,
        ]
        try:
            done = subprocess.run(
                [*words, "-c", "import aiohttp, docker, psutil, filelock, dockerlab.engine.server"],
                **as_plain(),
                cwd="/",
                capture_output=True,
                check=False,
                timeout=60,
            )
        except OSError:
            continue
        if name and done.returncode == 0:
            return words
    return missing("plain-user", "no Python that another user can run has our packages")


def for_others() -> str:
    """Find a folder for temporary files that every user can enter."""
    for place in (tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev/shm"):
        if all(path.stat().st_mode & stat.S_IXOTH for path in (Path(place), *Path(place).parents) if path.exists()):
            return place
    return ""


def as_plain() -> dict[str, Any]:
    """Say who runs a program: nobody when these tests run as root."""
    return {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}


def test_as_a_plain_user(shared: Home, plain_python: list[str], missing: Missing) -> None:
    place = for_others()
    if not place:
        missing("plain-user", "there is no folder for temporary files that another user can enter")
    folder = Path(tempfile.mkdtemp(prefix="dl-", dir=place))
    try:
        saved = folder / "base.tar"
        saved.write_bytes(b"".join(shared.client.images.get(BASE).save(named=True)))
        saved.chmod(0o644)
        folder.chmod(0o755)
        own = folder / "own"
        own.mkdir(mode=0o700)
        if os.geteuid() == 0:
            os.chown(own, 65534, 65534)
        done = subprocess.run(
            [*plain_python, "-c", textwrap.dedent(PLAIN), str(own), shared.isolator, str(saved)],
            **as_plain(),
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
            timeout=90,
        )
        if "not here: " in done.stderr:
            missing(f"{shared.isolator}-plain", done.stderr)
        assert done.returncode == 0, done.stdout + done.stderr
        words = done.stdout.split()
        assert words[:2] == ["0", "plain"], done.stdout
        assert words.count("plain") == 2, done.stdout
        assert "left []" in done.stdout
        assert "stopped True" in done.stdout
        assert "log False" in done.stdout
    finally:
        subprocess.run(["rm", "-rf", str(folder)], check=True)

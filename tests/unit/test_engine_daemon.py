"""The embedded engine as a process: started once, ended cleanly, and no worse for a kill -9. Real processes."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dockerlab import cli
from dockerlab.connect import connect
from dockerlab.engine import daemon
from dockerlab.engine.journal import Journal, end_of
from dockerlab.engine.lock import Lock, holder
from dockerlab.engine.places import Places
from dockerlab.errors import EngineError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the embedded engine runs on Linux only")

MEMORY_BYTES = 80 << 20


@pytest.fixture
def places(tmp_path: Path) -> Iterator[Places]:
    made = Places(tmp_path / "data", Path("/tmp") / f"dl-{uuid.uuid4().hex[:8]}" / "r")
    yield made
    daemon.stop(made)
    for folder in (made.runtime, made.runtime.parent):
        if folder.is_dir():
            for path in folder.iterdir():
                path.unlink() if not path.is_dir() else path.rmdir()
            folder.rmdir()


def start_elsewhere(places: Places) -> subprocess.Popen[str]:
    code = (
        "import sys; from pathlib import Path; from dockerlab.engine import daemon; "
        "from dockerlab.engine.places import Places; "
        "print(daemon.start(Places(Path(sys.argv[1]), Path(sys.argv[2]))))"
    )
    command = [sys.executable, "-c", code, str(places.data), str(places.runtime)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def wait_until_free(places: Places) -> None:
    deadline = time.monotonic() + 15
    while holder(places.lock) is not None:
        assert time.monotonic() < deadline, "the engine is still there"
        time.sleep(0.02)


def pid_of(places: Places) -> int:
    pid = daemon.status(places).pid
    assert pid is not None
    return pid


class TestLife:
    def test_it_starts_answers_and_stops(self, places: Places) -> None:
        assert not daemon.status(places).running
        assert not daemon.stop(places)
        assert daemon.start(places)
        found = daemon.status(places)
        assert found.running
        assert found.pid != os.getpid()
        assert found.memory_bytes is not None
        assert found.memory_bytes < MEMORY_BYTES
        assert found.info["DockerRootDir"] == str(places.data)
        assert json.loads(json.dumps(found.as_dict()))["socket"] == str(places.socket)
        assert dict(found.rows)["runs"] == "yes"
        assert not daemon.start(places)
        assert daemon.stop(places)
        assert not places.socket.exists()
        assert not daemon.status(places).running
        assert not daemon.stop(places)

    def test_nobody_else_can_talk_to_it_or_read_its_log(self, places: Places) -> None:
        before = os.umask(0)
        try:
            daemon.start(places)
        finally:
            os.umask(before)
        modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (places.socket, places.runtime, places.data)}
        assert modes == {places.socket: 0o600, places.runtime: 0o700, places.data: 0o700}
        assert stat.S_IMODE(places.log.stat().st_mode) & 0o077 == 0

    def test_however_many_ask_at_once_one_is_started(self, places: Places) -> None:
        asking = [start_elsewhere(places) for _ in range(4)]
        with ThreadPoolExecutor(3) as threads:
            own = list(threads.map(lambda _: daemon.start(places), range(3)))
        said = [process.communicate(timeout=60)[0].strip() for process in asking] + [str(one) for one in own]
        assert sorted(said) == ["False"] * 6 + ["True"]

    def test_it_outlives_who_started_it_and_its_terminal(self, places: Places) -> None:
        starter = start_elsewhere(places)
        assert starter.communicate(timeout=60)[0].strip() == "True"
        assert daemon.answers(places)
        assert os.getsid(pid_of(places)) not in (os.getsid(0), pid_of(places))

    def test_after_kill_9_the_next_start_takes_the_place_over(self, places: Places) -> None:
        daemon.start(places)
        first, identity = pid_of(places), daemon.status(places).info["ID"]
        os.kill(first, signal.SIGKILL)
        wait_until_free(places)
        assert places.socket.exists()
        assert not daemon.status(places).running
        assert daemon.start(places)
        assert pid_of(places) != first
        assert daemon.status(places).info["ID"] == identity

    def test_what_lies_in_the_folder_of_the_caller_does_not_matter(
        self, places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("aiohttp", "docker", "dockerlab", "json"):
            (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong one')")
        monkeypatch.chdir(tmp_path)
        assert daemon.start(places)

    def test_what_keeps_it_from_starting_is_said_with_the_end_of_its_log(self, places: Places) -> None:
        places.make()
        places.socket.mkdir()
        with pytest.raises(EngineError, match="did not start") as caught:
            daemon.start(places)
        assert "cannot listen" in caught.value.message
        assert str(places.log) in caught.value.message
        assert caught.value.advice
        assert holder(places.lock) is None

    def test_an_isolation_that_is_not_there_is_said(self, places: Places) -> None:
        with pytest.raises(EngineError, match="lxc"):
            daemon.start(places, isolation="lxc")

    def test_it_ends_by_itself_when_nobody_wants_anything(self, places: Places) -> None:
        daemon.start(places, idle_exit_s=0.4)
        for _ in range(4):
            time.sleep(0.2)
            assert daemon.answers(places)
        wait_until_free(places)
        assert not places.socket.exists()


class TestCommands:
    def call(self, *arguments: str) -> Result:
        return CliRunner().invoke(cli.main, ["engine", *arguments], prog_name="dockerlab")

    def test_start_status_env_connect_and_stop(
        self, places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        places.runtime.parent.mkdir(mode=0o700)
        for name, value in (("XDG_DATA_HOME", tmp_path / "d"), ("XDG_RUNTIME_DIR", places.runtime.parent)):
            monkeypatch.setenv(name, str(value))
        for name in ("DOCKERLAB_ISOLATION", "DOCKERLAB_ENGINE", "DOCKER_HOST"):
            monkeypatch.delenv(name, raising=False)
        assert self.call("status").exit_code == 1
        assert "did not run" in self.call("stop").output
        try:
            assert "was started" in self.call("start").output
            assert "runs already" in self.call("start").output
            told = json.loads(self.call("status", "--json").output)
            assert (told["running"], told["containers"]) == (True, 0)
            shown = self.call("status")
            assert shown.exit_code == 0
            for text in (str(told["pid"]), told["socket"], told["isolator"], told["storage_driver"], told["data"]):
                assert text in shown.output
            export = self.call("env").output
            assert export == f"export DOCKER_HOST=unix://{told['socket']}\n"
            by_kind = connect("embedded")
            by_host = connect(environ={"DOCKER_HOST": f"unix://{told['socket']}"})
            for engine in (by_kind, by_host):
                engine.client.close()
                assert (engine.kind, engine.isolator) == ("embedded", told["isolator"])
                assert {wall.name: wall.present for wall in engine.walls}.items() >= told["walls"].items()
            assert by_kind.id == by_host.id
            other = "proot" if told["isolator"] == "bubblewrap" else "bubblewrap"
            with pytest.raises(EngineError, match="dockerlab engine stop"):
                connect("embedded", environ={**os.environ, "DOCKERLAB_ISOLATION": other})
            assert "runs already" in self.call("start", "--isolation", told["isolator"]).output
            refused = self.call("start", "--isolation", other)
            assert refused.exit_code == 1
            assert f"but {other} was asked for" in refused.output
        finally:
            assert "was stopped" in self.call("stop").output
            shutil.rmtree(places.runtime.parent)


class TestForeground:
    def run(self, places: Places) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "dockerlab.engine", "--data", str(places.data)]
        return subprocess.Popen([*command, "--runtime", str(places.runtime)])

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_ends_it_cleanly(self, places: Places, number: signal.Signals) -> None:
        process = self.run(places)
        deadline = time.monotonic() + 20
        while not daemon.answers(places):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(number)
        assert process.wait(15) == 0
        assert not places.socket.exists()

    def test_a_second_one_for_the_same_data_refuses_to_run(self, places: Places) -> None:
        daemon.start(places)
        first = pid_of(places)
        assert self.run(places).wait(30) == 1
        assert "another engine serves" in end_of(places.log)
        assert pid_of(places) == first
        assert daemon.answers(places)


class TestLock:
    def test_it_is_gone_with_its_process_although_a_child_lives_on(self, tmp_path: Path) -> None:
        code = (
            "import os, sys, time; from pathlib import Path; from dockerlab.engine.lock import Lock\n"
            "taken = Lock(Path(sys.argv[1])).take()\n"
            "child = os.fork()\n"
            "if child: print(taken, child, flush=True)\n"
            "time.sleep(60)\n"
        )
        path = tmp_path / "lock"
        with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            taken, child = process.stdout.readline().split()
            try:
                assert taken == "True"
                assert holder(path) == process.pid
                process.kill()
                process.wait()
                assert holder(path) is None
            finally:
                os.kill(int(child), signal.SIGKILL)

    def test_it_can_be_given_back(self, tmp_path: Path) -> None:
        lock = Lock(tmp_path / "lock")
        assert lock.take()
        lock.release()
        assert holder(tmp_path / "lock") is None
        assert holder(tmp_path / "never") is None


def test_the_log_is_bounded_and_keeps_its_end(tmp_path: Path) -> None:
    path = tmp_path / "log"
    journal = Journal(path, bound_bytes=5000)
    try:
        for count in range(1000):
            journal.emit(logging.makeLogRecord({"msg": f"line {count}", "levelname": "INFO", "name": "x"}))
            assert path.stat().st_size <= 5000
    finally:
        journal.close()
    lines = path.read_text().splitlines()
    assert lines[-1].endswith("line 999")
    assert all(line.endswith(tuple("0123456789")) and "INFO" in line for line in lines)
    assert end_of(path, 200).endswith("line 999\n")
    assert len(end_of(path, 200)) < 200

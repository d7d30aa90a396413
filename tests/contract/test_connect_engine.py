"""Finding a real engine, losing it, and what it says about itself held against a real container."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker.errors
import pytest
from support import Forwarder

from dockerlab import errors
from dockerlab.connect import Engine, connect, engine_errors, search
from dockerlab.doctor import diagnose

PLACE_LIMIT_S = 3.0
SLACK_S = 2.0  # this machine may be busy
NOBODY = 65534


def socket_of(engine: Engine) -> str:
    if not engine.address.startswith("unix://"):
        pytest.skip(f"the engine is not at a unix socket but at {engine.address}")
    return engine.address.removeprefix("unix://")


@pytest.fixture
def unix_forwarder(engine: Engine, tmp_path: Path) -> Iterator[tuple[Forwarder, str]]:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "f.sock"))
    listener.listen()
    forwarder = Forwarder(listener, socket_of(engine))
    yield forwarder, f"unix://{tmp_path}/f.sock"
    forwarder.cut()


@pytest.fixture
def tcp_forwarder(engine: Engine) -> Iterator[tuple[Forwarder, str]]:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    forwarder = Forwarder(listener, socket_of(engine))
    yield forwarder, f"tcp://127.0.0.1:{port}"
    forwarder.cut()


def test_the_engine_says_who_it_is(engine: Engine) -> None:
    version = engine.client.version()
    assert engine.version == version["Version"]
    assert engine.api_version == version["ApiVersion"]
    assert engine.id == engine.client.info()["ID"]
    assert engine.storage_driver == engine.client.info()["Driver"]
    assert engine.client.api.timeout == 120
    assert engine.client.api.trust_env is False
    for text in (str(engine), engine._repr_html_()):
        assert engine.version in text
        assert engine.address in text


def test_two_connections_are_to_the_same_engine(engine: Engine) -> None:
    again = connect(engine.kind)
    assert (again.id, again.address, again.walls, again.limits) == (
        engine.id,
        engine.address,
        engine.walls,
        engine.limits,
    )
    again.client.close()


def test_an_unknown_wall_is_an_error(engine: Engine) -> None:
    with pytest.raises(errors.BadInputError, match="'fire'"):
        engine.has_wall("fire")


class TestDockerHost:
    def test_the_engine_is_found_there(self, unix_forwarder: tuple[Forwarder, str], engine: Engine) -> None:
        found = connect(environ={"DOCKER_HOST": unix_forwarder[1]})
        assert (found.address, found.found_at, found.id) == (unix_forwarder[1], "DOCKER_HOST", engine.id)
        found.client.close()

    def test_a_dead_socket_is_not_replaced_by_another_engine(self, engine: Engine, tmp_path: Path) -> None:
        with pytest.raises(errors.EngineNotFoundError) as caught:
            connect(environ={"DOCKER_HOST": f"unix://{tmp_path}/dead.sock", "HOME": str(tmp_path)})
        assert [attempt.outcome for attempt in caught.value.attempts] == ["no such socket"]
        assert "unset DOCKER_HOST" in caught.value.advice

    @pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
    def test_a_proxy_does_not_come_between(
        self, tcp_forwarder: tuple[Forwarder, str], engine: Engine, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nothing answers there
        found = connect(environ={**os.environ, "DOCKER_HOST": tcp_forwarder[1]})
        assert found.id == engine.id
        assert found.client.ping()
        found.client.close()


class TestContext:
    @pytest.fixture
    def config(self, tmp_path: Path, unix_forwarder: tuple[Forwarder, str]) -> Path:
        """Give a DOCKER_CONFIG with the context `bench`, written by the docker command itself."""
        program = shutil.which("docker")
        if program is None:
            pytest.skip("there is no docker command to make a context with")
        folder = tmp_path / "config"
        folder.mkdir()
        command = [program, "context", "create", "bench", "--docker", f"host={unix_forwarder[1]}"]
        subprocess.run(command, env={"DOCKER_CONFIG": str(folder)}, check=True, capture_output=True)
        return folder

    def test_docker_context_names_one(self, config: Path, engine: Engine) -> None:
        found = connect(environ={"DOCKER_CONFIG": str(config), "DOCKER_CONTEXT": "bench"})
        assert (found.id, found.found_at) == (engine.id, "the docker context 'bench'")
        found.client.close()

    def test_the_current_one_is_taken(self, config: Path, unix_forwarder: tuple[Forwarder, str]) -> None:
        (config / "config.json").write_text(json.dumps({"currentContext": "bench"}))
        found = connect(environ={"DOCKER_CONFIG": str(config)})
        assert (found.address, found.warnings) == (unix_forwarder[1], connect().warnings)
        found.client.close()

    def test_a_dead_current_one_is_passed_over_with_a_warning(
        self, config: Path, unix_forwarder: tuple[Forwarder, str], engine: Engine
    ) -> None:
        if engine.kind == "embedded":
            pytest.skip("the embedded engine is in no context")
        (config / "config.json").write_text(json.dumps({"currentContext": "bench"}))
        unix_forwarder[0].cut()
        found = search(environ={**os.environ, "DOCKER_CONFIG": str(config)})
        assert found.attempts[0].outcome == "nothing answers there"
        assert found.engine is not None
        assert found.engine.id == engine.id
        assert "docker context use default" in found.engine.warnings[0]
        found.engine.client.close()


class TestNoAnswer:
    def test_a_listener_that_never_answers_costs_three_seconds_at_most(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            began = time.monotonic()
            found = search(environ={"DOCKER_HOST": f"tcp://127.0.0.1:{silent.getsockname()[1]}"})
            took_s = time.monotonic() - began
        assert [attempt.outcome for attempt in found.attempts] == ["no answer in time (time-out)"]
        assert took_s < PLACE_LIMIT_S + SLACK_S

    def test_so_does_a_socket_whose_queue_is_full(self, tmp_path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as full, contextlib.ExitStack() as waiting:
            full.bind(str(tmp_path / "full.sock"))
            full.listen(0)
            for _ in range(8):
                client = waiting.enter_context(socket.socket(socket.AF_UNIX))
                client.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    client.connect(str(tmp_path / "full.sock"))
            began = time.monotonic()
            found = search(environ={"DOCKER_HOST": f"unix://{tmp_path}/full.sock"})
            took_s = time.monotonic() - began
        assert [attempt.outcome for attempt in found.attempts] == ["no answer in time (time-out)"]
        assert took_s < PLACE_LIMIT_S + SLACK_S

    def test_a_user_without_permission_is_told_about_the_group(self, engine: Engine) -> None:
        path = Path(socket_of(engine))
        if os.getuid() != 0:
            pytest.skip("only root can become another user")
        if path.stat().st_mode & 0o006:
            pytest.skip("everybody may talk to this engine")
        import grp  # not on Windows

        if not any(group.gr_name == "docker" for group in grp.getgrall()):
            pytest.skip("this machine has no group docker")
        # The modules are loaded first: the other user may not be able to read them
        code = (
            "import json, os, sys; from dockerlab import doctor; "
            f"os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY}); "
            f"print(json.dumps(doctor.diagnose(environ={{'DOCKER_HOST': 'unix://{path}'}}).as_dict()))"
        )
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
        told = json.loads(run.stdout)
        assert told["ok"] is False
        assert told["engine"] is None
        assert "permission denied: add yourself to the group docker" in told["attempts"][0]["outcome"]
        assert any("usermod" in finding["advice"] for finding in told["findings"] if finding["name"] == "permission")


@pytest.fixture
def made(engine: Engine, base_image: Any, lab_name: str) -> Iterator[dict[str, Any]]:
    """Give the options that mark a container as the test's own; they are all removed afterwards."""
    yield {"image": base_image.id, "labels": {"dockerlab.lab": lab_name}}
    for container in engine.client.api.containers(all=True, filters={"label": f"dockerlab.lab={lab_name}"}):
        engine.client.api.remove_container(container["Id"], force=True, v=True)


class TestLost:
    def test_in_the_middle_of_a_stream(
        self, engine: Engine, made: dict[str, Any], unix_forwarder: tuple[Forwarder, str]
    ) -> None:
        forwarder, address = unix_forwarder
        client = connect(environ={"DOCKER_HOST": address}).client
        container = engine.client.containers.run(command=["sleep", "60"], detach=True, **made)
        stream = client.api.stats(container.id, decode=True, stream=True)
        assert next(stream)["id"] == container.id
        killer = threading.Timer(0.3, forwarder.cut)
        killer.start()
        with pytest.raises(errors.EngineLostError) as caught, engine_errors():
            for _ in stream:
                pass
        killer.join()
        client.close()
        assert caught.value.advice
        assert caught.value.__cause__ is not None

    def test_docker_py_ends_events_silently_so_the_next_call_must_tell(
        self, tcp_forwarder: tuple[Forwarder, str]
    ) -> None:
        forwarder, address = tcp_forwarder
        client = connect(environ={"DOCKER_HOST": address}).client
        stream = client.events(decode=True)
        killer = threading.Timer(0.3, forwarder.cut)
        killer.start()
        for _ in stream:
            pass
        killer.join()
        with pytest.raises(errors.EngineLostError), engine_errors():
            client.ping()
        client.close()

    def test_between_two_calls(self, tcp_forwarder: tuple[Forwarder, str]) -> None:
        forwarder, address = tcp_forwarder
        client = connect(environ={"DOCKER_HOST": address}).client
        assert client.ping()
        forwarder.cut()
        with pytest.raises(errors.EngineLostError), engine_errors():
            client.ping()
        client.close()


class TestRefusals:
    """What the engine itself answers, translated."""

    def test_no_such_image(self, engine: Engine) -> None:
        with pytest.raises(errors.ImageNotFoundError) as caught, engine_errors():
            engine.client.images.get("dockerlab-test/never-built:1")
        assert caught.value.image == "dockerlab-test/never-built:1"

    def test_no_such_container(self, engine: Engine) -> None:
        with pytest.raises(errors.EngineError, match="does not have") as caught, engine_errors():
            engine.client.containers.get("dockerlab-test-never-made")
        assert isinstance(caught.value.__cause__, docker.errors.NotFound)

    def test_a_name_twice(self, engine: Engine, made: dict[str, Any], lab_name: str) -> None:
        engine.client.api.create_container(command=["true"], name=lab_name, **made)
        with pytest.raises(errors.EngineError, match="there already"), engine_errors():
            engine.client.api.create_container(command=["true"], name=lab_name, **made)

    def test_a_port_twice(self, engine: Engine, made: dict[str, Any]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(errors.PortTakenError) as caught, engine_errors():
                engine.client.containers.run(
                    command=["sleep", "60"], detach=True, ports={80: ("127.0.0.1", port)}, **made
                )
        assert caught.value.port == port

    def test_a_program_that_the_image_does_not_have(self, engine: Engine, made: dict[str, Any]) -> None:
        with pytest.raises(errors.ContainerFailedError, match="no-such-program"), engine_errors():
            engine.client.containers.run(command=["no-such-program"], detach=True, **made)

    def test_a_command_that_fails(self, engine: Engine, made: dict[str, Any]) -> None:
        with pytest.raises(errors.ContainerFailedError, match="exit status 3"), engine_errors():
            engine.client.containers.run(command=["sh", "-c", "exit 3"], **made)


@pytest.fixture(scope="session")
def inside(engine: Engine, base_image: Any) -> dict[str, str]:
    script = (
        "for kind in pid net mnt ipc uts user; do echo $kind $(readlink /proc/self/ns/$kind); done;"
        "grep ^Seccomp: /proc/self/status; echo processes $(ls /proc | grep -c '^[0-9]')"
    )
    labels = {"dockerlab.lab": "test-walls"}
    printed = engine.client.containers.run(base_image.id, ["sh", "-c", script], labels=labels, remove=True)
    return dict(line.replace(":\t", " ", 1).split(maxsplit=1) for line in printed.decode().splitlines())


class TestWalls:
    """What the engine says about its walls, held against what a container sees."""

    @pytest.mark.parametrize(
        ("wall", "kind"),
        [("pid", "pid"), ("network", "net"), ("mount", "mnt"), ("ipc", "ipc"), ("hostname", "uts"), ("user", "user")],
    )
    def test_namespaces(self, engine: Engine, inside: dict[str, str], wall: str, kind: str) -> None:
        if not Path("/proc/self/ns").is_dir() or engine.desktop:
            pytest.skip("the namespaces of the engine's machine cannot be seen from here")
        outside = str(Path(f"/proc/self/ns/{kind}").readlink())
        apart = inside[kind] != outside
        if wall == "user" and engine.kind == "embedded" and os.geteuid() == 0:
            apart = False  # it is a namespace, but its root is root outside as well
        assert engine.has_wall(wall) is apart

    def test_seccomp(self, engine: Engine, inside: dict[str, str]) -> None:
        assert engine.has_wall("seccomp") is (inside["Seccomp"] == "2")

    def test_few_processes_are_seen(self, engine: Engine, inside: dict[str, str]) -> None:
        assert engine.has_wall("pid") is (int(inside["processes"]) < 6)


class TestDoctor:
    def test_all_is_well_here(self, engine: Engine) -> None:
        told = diagnose()
        assert told.engine is not None
        assert told.engine["id"] == engine.id
        assert json.loads(json.dumps(told.as_dict())) == told.as_dict()
        names = {finding.name for finding in told.findings}
        assert {"engine", "wall: pid", "limit: memory", "base image", "disk", "HAProxy", "memory", "Python"} <= names
        assert all(len(row) == 3 for row in told.rows)

    @pytest.mark.parametrize("host", ["unix:///nowhere.sock", "ssh://me@server", "gopher://x"])
    def test_it_never_raises_without_an_engine(self, host: str) -> None:
        told = diagnose(environ={"DOCKER_HOST": host})
        assert (told.ok, told.engine) == (False, None)
        finding = next(finding for finding in told.findings if finding.name == "engine")
        assert finding.status == "missing"
        assert "DOCKER_HOST" in finding.advice

    def test_an_unknown_kind_of_engine_is_told(self) -> None:
        told = diagnose(environ={"DOCKERLAB_ENGINE": "lxc"})
        assert "lxc" in next(finding.found for finding in told.findings if finding.name == "engine")

    def test_a_proxy_that_swallows_loopback_is_told(self) -> None:
        environ = {"DOCKER_HOST": "unix:///nowhere.sock", "http_proxy": "http://proxy:3128", "no_proxy": "localhost"}
        finding = next(finding for finding in diagnose(environ=environ).findings if finding.name == "proxy")
        assert finding.status == "warning"
        assert "no_proxy=localhost,127.0.0.1" in finding.advice

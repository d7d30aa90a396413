"""Where an engine is looked for, what its facts mean, and how errors of the SDK are translated; no engine needed."""

from __future__ import annotations

import hashlib
import json
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import docker.errors
import pytest
import requests
import urllib3

from dockerlab import errors
from dockerlab.connect import connect, engine_errors, protect_loopback, search, translate
from dockerlab.connect.boundary import causes
from dockerlab.connect.isolation import limits_from, security_options, walls_from
from dockerlab.connect.places import Place, places, refuse_remote
from dockerlab.doctor import examine

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the places are those of a Unix machine")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="the embedded engine runs on Linux only")


def environ_of(home: Path, **more: str) -> dict[str, str]:
    return {"HOME": str(home), "XDG_RUNTIME_DIR": str(home / "run"), **more}


def write_context(folder: Path, name: str, host: str, *, current: bool = False) -> None:
    """Write a context as `docker context create` does."""
    meta = folder / "contexts" / "meta" / hashlib.sha256(name.encode()).hexdigest()
    meta.mkdir(parents=True)
    endpoints = {"docker": {"Host": host, "SkipTLSVerify": False}}
    (meta / "meta.json").write_text(json.dumps({"Name": name, "Metadata": {}, "Endpoints": endpoints}))
    if current:
        (folder / "config.json").write_text(json.dumps({"currentContext": name}))


class TestPlaces:
    def test_the_well_known_ones_in_order(self, tmp_path: Path) -> None:
        assert [place.address for place in places(environ_of(tmp_path))] == [
            "unix:///var/run/docker.sock",
            f"unix://{tmp_path}/run/docker.sock",
            f"unix://{tmp_path}/.docker/run/docker.sock",
            f"unix://{tmp_path}/.docker/desktop/docker.sock",
            f"unix://{tmp_path}/run/podman/podman.sock",
            "unix:///run/podman/podman.sock",
        ]

    def test_docker_host_is_first_and_outranks_the_context(self, tmp_path: Path) -> None:
        write_context(tmp_path / ".docker", "other", "unix:///other.sock", current=True)
        found = list(places(environ_of(tmp_path, DOCKER_HOST="unix:///mine.sock", DOCKER_CONTEXT="other")))
        assert (found[0].address, found[0].chosen_by, found[0].binding) == ("unix:///mine.sock", "DOCKER_HOST", True)
        assert "unix:///other.sock" not in [place.address for place in found]

    def test_the_current_context_is_a_wish_and_docker_context_an_order(self, tmp_path: Path) -> None:
        write_context(tmp_path / ".docker", "other", "unix:///other.sock", current=True)
        by_file = next(iter(places(environ_of(tmp_path))))
        by_variable = next(iter(places(environ_of(tmp_path, DOCKER_CONTEXT="other"))))
        assert (by_file.address, by_file.binding) == ("unix:///other.sock", False)
        assert (by_variable.address, by_variable.binding) == ("unix:///other.sock", True)

    def test_a_context_is_found_without_a_config_file_and_in_docker_config(self, tmp_path: Path) -> None:
        write_context(tmp_path / "elsewhere", "other", "unix:///other.sock")
        environ = environ_of(tmp_path, DOCKER_CONTEXT="other", DOCKER_CONFIG=str(tmp_path / "elsewhere"))
        assert next(iter(places(environ))).address == "unix:///other.sock"

    @pytest.mark.parametrize("text", ["", "[]", "no json", '{"currentContext": "default"}', '{"currentContext": ""}'])
    def test_a_config_file_without_a_context_changes_nothing(self, tmp_path: Path, text: str) -> None:
        (tmp_path / ".docker").mkdir()
        (tmp_path / ".docker" / "config.json").write_text(text)
        assert next(iter(places(environ_of(tmp_path)))).address == "unix:///var/run/docker.sock"

    def test_no_place_comes_twice(self, tmp_path: Path) -> None:
        (tmp_path / "link.sock").symlink_to("/var/run/docker.sock")
        found = list(places(environ_of(tmp_path, DOCKER_HOST=f"unix://{tmp_path}/link.sock")))
        assert "unix:///var/run/docker.sock" not in [place.address for place in found]

    def test_a_kind_leaves_the_other_sockets_out(self, tmp_path: Path) -> None:
        for kind, podman in (("docker", False), ("podman", True)):
            found = list(places(environ_of(tmp_path), kind))
            assert found
            assert all(place.podman is podman for place in found)
        assert list(places(environ_of(tmp_path), "embedded")) == []

    def test_certificates_are_used_where_there_are_any(self, tmp_path: Path) -> None:
        host = {"DOCKER_HOST": "tcp://127.0.0.1:2376"}
        assert next(iter(places(environ_of(tmp_path, **host)))).tls is None
        for name in ("ca", "cert", "key"):
            (tmp_path / f"{name}.pem").write_text("")
        secured = environ_of(tmp_path, **host, DOCKER_TLS_VERIFY="1", DOCKER_CERT_PATH=str(tmp_path))
        tls = next(iter(places(secured))).tls
        assert tls is not None
        assert (tls.ca_cert, tls.verify) == (str(tmp_path / "ca.pem"), True)

    @pytest.mark.parametrize(
        "address",
        [
            "ssh://me@server",
            "ssh://localhost",
            "tcp://192.0.2.1:2375",
            "tcp://docker:2376",
            "https://example.org:1",
            "server:1",
        ],
    )
    def test_an_engine_on_another_machine_is_refused(self, address: str) -> None:
        with pytest.raises(errors.RemoteEngineError, match="another machine") as caught:
            refuse_remote(Place("DOCKER_HOST", address, "DOCKER_HOST"))
        assert "unset DOCKER_HOST" in caught.value.advice

    @pytest.mark.parametrize(
        "address",
        [
            "unix:///x",
            "npipe:////./pipe/x",
            "tcp://127.0.0.1:1",
            "tcp://127.1.2.3:1",
            "tcp://localhost:1",
            "tcp://[::1]:1",
            ":1",
        ],
    )
    def test_an_engine_on_this_machine_is_not(self, address: str) -> None:
        refuse_remote(Place("DOCKER_HOST", address, "DOCKER_HOST"))


class TestSearch:
    def test_an_unknown_kind_is_refused(self) -> None:
        for ask in (lambda: connect("lxc", environ={}), lambda: connect(environ={"DOCKERLAB_ENGINE": "lxc"})):
            with pytest.raises(errors.BadInputError, match="'lxc'") as caught:
                ask()
            assert "docker, podman, embedded" in caught.value.advice

    def test_the_argument_outranks_the_variable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "platform", "darwin")
        found = search("embedded", environ={"DOCKERLAB_ENGINE": "docker"})
        assert [attempt.place for attempt in found.attempts] == ["the embedded engine"]

    def test_a_remote_docker_host_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(errors.RemoteEngineError):
            connect(environ=environ_of(tmp_path, DOCKER_HOST="tcp://192.0.2.1:2375"))

    def test_a_context_that_does_not_exist(self, tmp_path: Path) -> None:
        found = search(environ=environ_of(tmp_path, DOCKER_CONTEXT="gone"))
        assert [attempt.outcome for attempt in found.attempts] == [
            "there is no such context; `docker context ls` lists them"
        ]
        assert "unset DOCKER_CONTEXT" in found.advice

    @pytest.mark.parametrize(
        "address", ["unix:///nowhere/x.sock", "gopher://x", "tcp://127.0.0.1", "unix:///" + "x" * 200]
    )
    def test_a_docker_host_that_is_no_use_is_the_only_place_tried(self, tmp_path: Path, address: str) -> None:
        found = search(environ=environ_of(tmp_path, DOCKER_HOST=address))
        assert found.engine is None
        assert len(found.attempts) == 1
        assert "unset DOCKER_HOST" in found.advice


class TestEmbedded:
    ASK = ({"engine": "embedded"}, {"environ": {"DOCKERLAB_ENGINE": "Embedded", "DOCKER_HOST": "unix:///other.sock"}})

    @pytest.mark.parametrize("ask", ASK)
    def test_it_runs_on_linux_only(self, ask: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "platform", "darwin")
        with pytest.raises(errors.EngineNotFoundError) as caught:
            connect(**ask)
        assert caught.value.attempts == (errors.Attempt("the embedded engine", "it runs on Linux only"),)
        assert "install Docker or Podman" in caught.value.advice

    @on_linux
    @pytest.mark.parametrize("ask", ASK)
    def test_what_keeps_it_from_starting_is_an_attempt(
        self, ask: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from dockerlab.engine import daemon

        def refuse(places: object, *, isolation: str) -> bool:
            raise errors.EngineError("It does not want to.", "Ask nicely.")

        monkeypatch.setattr(daemon, "start", refuse)
        with pytest.raises(errors.EngineNotFoundError) as caught:
            connect(**ask)
        assert [attempt.place for attempt in caught.value.attempts] == ["the embedded engine"]
        assert caught.value.attempts[0].outcome == "It does not want to. Ask nicely."

    @on_linux
    def test_it_comes_last_where_nothing_was_chosen(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from dockerlab.connect import find
        from dockerlab.engine import daemon

        asked: list[str] = []

        def refuse(places: object, *, isolation: str) -> bool:
            asked.append(isolation)
            raise errors.EngineError("no", "")

        monkeypatch.setattr(daemon, "start", refuse)
        monkeypatch.setattr(find, "places", lambda environ, wanted: [Place("a", f"unix://{tmp_path}/a.sock")])
        found = search(environ={"DOCKERLAB_ISOLATION": " PRoot "})
        assert [attempt.place.split(" (")[0] for attempt in found.attempts] == ["a", "the embedded engine"]
        assert asked == ["proot"]
        assert "Install or start" in found.advice

    def test_it_is_recognised_wherever_it_is_found_and_says_itself_which_walls_there_are(self) -> None:
        version = {"ApiVersion": "1.43", "Version": "1", "Platform": {"Name": "dockerlab embedded engine"}}
        told = {"Isolator": "proot", "Walls": {"mount": True, "seccomp": True, "pid": False}}
        info = {
            "ID": "x",
            "Driver": "copy",
            "Warnings": ["so"],
            "Dockerlab": told,
            "SecurityOptions": ["name=rootless"],
        }
        with stranger(version=version, info=info) as address:
            found = search(environ={"DOCKER_HOST": address}).engine
            other = search("docker", environ={"DOCKER_HOST": address})
        assert found is not None
        found.client.close()
        assert (found.kind, found.name, found.isolator, found.storage_driver) == (
            "embedded",
            "embedded engine",
            "proot",
            "copy",
        )
        assert {wall.name for wall in found.walls if wall.present} == {"mount", "seccomp"}
        assert not any(limit.enforced for limit in found.limits)
        assert ("isolation by", "proot") in found.rows
        findings = {(finding.name, finding.status): finding.found for finding in examine.engine(found)}
        assert "by proot; walls: mount, seccomp; missing: pid, " in findings["isolation", "ok"]
        assert findings["isolation", "warning"] == "so"
        assert findings["wall: pid", "warning"]
        assert other.attempts[0].outcome == "embedded answers there, but docker was asked for"


class Stranger(BaseHTTPRequestHandler):
    """Something that listens and is not the engine that one hopes for."""

    answers: dict[str, Any]

    def do_GET(self) -> None:
        answer = next((value for path, value in self.answers.items() if self.path.endswith(path)), None)
        body = b"<html>hello</html>" if answer is None else json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def stranger(**answers: Any) -> Iterator[str]:
    handler = type("Handler", (Stranger,), {"answers": {f"/{name}": value for name, value in answers.items()}})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"tcp://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("answers", "asked", "outcome"),
    [
        ({}, None, "not as a container engine"),
        ({"version": {"Version": "1"}}, None, "not as a container engine"),
        ({"version": ["1.41"]}, None, "not as a container engine"),
        ({"version": {"ApiVersion": "1.9"}}, None, "install a newer engine"),
        ({"version": {"ApiVersion": "1.41"}}, "podman", "docker answers there, but podman was asked for"),
        (
            {"version": {"ApiVersion": "1.41", "Components": [{"Name": "Podman Engine"}]}},
            "docker",
            "podman answers there, but docker was asked for",
        ),
        ({"version": {"ApiVersion": "1.41"}, "info": {"OSType": "windows"}}, None, "Linux containers"),
    ],
)
def test_what_answers_but_cannot_be_used(answers: dict[str, Any], asked: str | None, outcome: str) -> None:
    with stranger(**answers) as address:
        found = search(asked, environ={"DOCKER_HOST": address})
    assert found.engine is None
    assert len(found.attempts) == 1
    assert outcome in found.attempts[0].outcome


def test_a_closed_port_and_a_socket_that_nobody_serves(tmp_path: Path) -> None:
    with socket.socket() as closed, socket.socket(socket.AF_UNIX) as left:
        closed.bind(("127.0.0.1", 0))  # bound, so nobody else takes it, but not listening
        left.bind(str(tmp_path / "left.sock"))
        for address in (f"tcp://127.0.0.1:{closed.getsockname()[1]}", f"unix://{tmp_path}/left.sock"):
            found = search(environ={"DOCKER_HOST": address})
            assert [attempt.outcome for attempt in found.attempts] == ["nothing answers there"]


DOCKER = {
    "SecurityOptions": ["name=apparmor", "name=seccomp,profile=builtin", "name=cgroupns"],
    "CgroupDriver": "systemd",
    "MemoryLimit": True,
    "SwapLimit": False,
    "CpuCfsQuota": True,
    "PidsLimit": True,
}
ROOTLESS = {
    "SecurityOptions": ["name=seccomp,profile=unconfined", "name=rootless", "name=selinux"],
    "CgroupDriver": "none",
    "MemoryLimit": True,
    "PidsLimit": True,
}


class TestIsolation:
    @pytest.mark.parametrize(
        ("info", "missing"),
        [
            (DOCKER, {"user", "selinux"}),
            (ROOTLESS, {"cgroup", "seccomp", "apparmor"}),
            ({"SecurityOptions": ["name=userns"]}, {"cgroup", "seccomp", "apparmor", "selinux"}),
            ({"SecurityOptions": None}, {"cgroup", "user", "seccomp", "apparmor", "selinux"}),
            ({}, {"cgroup", "user", "seccomp", "apparmor", "selinux"}),
        ],
    )
    def test_walls_follow_from_what_the_engine_says(self, info: dict[str, Any], missing: set[str]) -> None:
        assert {wall.name for wall in walls_from(info) if not wall.present} == missing

    @pytest.mark.parametrize(
        ("info", "enforced"),
        [(DOCKER, {"memory", "cpu", "pids"}), (ROOTLESS, set()), ({}, set()), ({"SwapLimit": True}, {"swap"})],
    )
    def test_limits_follow_from_what_the_engine_says(self, info: dict[str, Any], enforced: set[str]) -> None:
        assert {limit.name for limit in limits_from(info) if limit.enforced} == enforced

    def test_each_has_a_meaning_for_there_and_for_missing(self) -> None:
        for there, missing in zip(walls_from(DOCKER), walls_from(ROOTLESS), strict=True):
            assert there.name == missing.name
            assert there.meaning
            assert (there.meaning == missing.meaning) == (there.present == missing.present)

    def test_old_engines_write_bare_names(self) -> None:
        assert security_options({"SecurityOptions": ["seccomp"]}) == {"seccomp": ""}


class TestProtectLoopback:
    @pytest.mark.parametrize(
        "name", ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]
    )
    def test_each_proxy_variable_counts(self, name: str) -> None:
        environ = {name: "http://proxy:3128"}
        protect_loopback(environ)
        assert environ["no_proxy"] == environ["NO_PROXY"] == "127.0.0.1,localhost,::1"

    def test_nothing_is_set_where_there_is_no_proxy(self) -> None:
        environ = {"HTTP_PROXY": "", "NO_PROXY": "example.org"}
        protect_loopback(environ)
        assert environ == {"HTTP_PROXY": "", "NO_PROXY": "example.org"}

    def test_what_is_there_is_kept_in_both_and_nothing_comes_twice(self) -> None:
        environ = {"http_proxy": "p", "no_proxy": "a.org, localhost", "NO_PROXY": "b.org"}
        protect_loopback(environ)
        protect_loopback(environ)
        assert environ["no_proxy"] == environ["NO_PROXY"] == "a.org,localhost,b.org,127.0.0.1,::1"

    def test_a_star_says_it_all(self) -> None:
        environ = {"http_proxy": "p", "no_proxy": "*"}
        protect_loopback(environ)
        assert environ["no_proxy"] == environ["NO_PROXY"] == "*"

    def test_python_then_goes_past_the_proxy(self) -> None:
        environ = {"HTTP_PROXY": "http://127.0.0.1:9", "ALL_PROXY": "http://127.0.0.1:9"}
        protect_loopback(environ)
        code = "import requests; print(requests.get('ADDRESS/version', timeout=5).json()['Version'])"
        with stranger(version={"Version": "7"}) as address:
            code = code.replace("ADDRESS", address.replace("tcp", "http"))
            run = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
        assert run.stdout.strip() == "7"


def answer(status: int, message: str) -> docker.errors.APIError:
    """Give the error that docker-py makes of an answer of the engine."""
    response = requests.Response()
    response.status_code = status
    response._content = json.dumps({"message": message}).encode()
    try:
        response.raise_for_status()
    except requests.HTTPError as error:
        try:
            docker.errors.create_api_error_from_http_exception(error)
        except docker.errors.APIError as made:
            return made
    raise AssertionError("no error was made")


def aborted(reason: Exception) -> requests.exceptions.ConnectionError:
    return requests.exceptions.ConnectionError(urllib3.exceptions.ProtocolError("Connection aborted.", reason))


READ = urllib3.exceptions.ReadTimeoutError(urllib3.HTTPConnectionPool("localhost"), "/x", "Read timed out.")


class TestTranslate:
    @pytest.mark.parametrize(
        ("error", "expected"),
        [
            (answer(404, "No such image: web:9"), errors.ImageNotFoundError),
            (answer(404, "pull access denied for web, repository does not exist"), errors.ImageNotFoundError),
            (answer(404, "No such container: abc"), errors.EngineError),
            (answer(409, 'Conflict. The container name "/a" is already in use by container "b".'), errors.EngineError),
            (answer(500, "write /var/lib/x: no space left on device"), errors.DiskFullError),
            (answer(500, "Bind for 0.0.0.0:8080 failed: port is already allocated"), errors.PortTakenError),
            (answer(500, "listen tcp4 0.0.0.0:80: bind: address already in use"), errors.PortTakenError),
            (
                answer(400, 'OCI runtime create failed: exec: "x": executable file not found'),
                errors.ContainerFailedError,
            ),
            (answer(400, "No command specified"), errors.ContainerFailedError),
            (answer(500, "Get https://r/v2/: dial tcp: lookup r: no such host"), errors.EngineError),
            (answer(400, "invalid reference format"), errors.EngineError),
            (answer(500, "out of luck"), errors.EngineError),
            (docker.errors.BuildError("no space left on device", iter(())), errors.DiskFullError),
            (docker.errors.BuildError("returned 1", [{"stream": "Step 1/1"}, {"error": "x"}]), errors.BuildError),
            (docker.errors.ContainerError("c", 1, "false", "web", b"oh"), errors.ContainerFailedError),
            (docker.errors.InvalidArgument("no such"), errors.BadInputError),
            (docker.errors.NullResource("Resource ID was not provided"), errors.BadInputError),
            (docker.errors.DockerException("hm"), errors.EngineError),
            (aborted(ConnectionRefusedError(111, "refused")), errors.EngineLostError),
            (aborted(FileNotFoundError(2, "gone")), errors.EngineLostError),
            (requests.exceptions.ReadTimeout(READ), errors.EngineLostError),
            (requests.exceptions.ConnectionError(READ), errors.EngineLostError),
            (requests.exceptions.ChunkedEncodingError("cut"), errors.EngineLostError),
            (urllib3.exceptions.ProtocolError("Connection broken"), errors.EngineLostError),
            (BrokenPipeError(32, "Broken pipe"), errors.EngineLostError),
            (TimeoutError("timed out"), errors.EngineLostError),
            (ssl.SSLError("bad"), errors.EngineError),
        ],
        ids=lambda value: getattr(value, "__name__", str(value)[:60]),
    )
    def test_each_becomes_one_of_ours_with_advice(
        self, error: Exception, expected: type[errors.DockerlabError]
    ) -> None:
        ours = translate(error)
        assert type(ours) is expected
        assert ours.advice

    def test_data_is_kept(self) -> None:
        image = translate(answer(404, "No such image: web:9"))
        port = translate(answer(500, "endpoint web (1a2): Bind for 0.0.0.0:8080 failed: port is already allocated"))
        ipv6 = translate(answer(500, "listen tcp6 [::]:8081: bind: address already in use"))
        build = translate(docker.errors.BuildError("returned 1", [{"stream": "Step 1/1"}, {"error": "x"}]))
        assert isinstance(image, errors.ImageNotFoundError)
        assert isinstance(port, errors.PortTakenError)
        assert isinstance(ipv6, errors.PortTakenError)
        assert isinstance(build, errors.BuildError)
        assert (image.image, port.port, ipv6.port, build.output) == ("web:9", 8080, 8081, "Step 1/1")

    def test_a_slow_engine_is_told_from_one_that_is_gone(self) -> None:
        assert "in time" in translate(requests.exceptions.ConnectionError(READ)).message
        assert "went away" in translate(aborted(ConnectionResetError(104, "reset"))).message

    def test_one_of_ours_stays_as_it_is(self) -> None:
        ours = errors.PortTakenError(1)
        assert translate(ours) is ours

    def test_the_block_raises_ours_from_theirs_and_lets_others_pass(self) -> None:
        theirs = answer(500, "no space left on device")
        with pytest.raises(errors.DiskFullError) as caught, engine_errors():
            raise theirs
        assert caught.value.__cause__ is theirs
        for other in (KeyError("x"), errors.PortTakenError(1), FileNotFoundError("mine")):
            with pytest.raises(type(other)) as passed, engine_errors():
                raise other
            assert passed.value is other

    def test_causes_ends_also_with_a_circle(self) -> None:
        first, second = ValueError("a"), KeyError("b")
        first.__cause__, second.__cause__ = second, first
        assert list(causes(first)) == [first, second]

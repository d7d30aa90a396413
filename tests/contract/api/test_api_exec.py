"""One more process in a container that runs."""

from __future__ import annotations

import shutil
import socket
import time
from typing import Any

import docker.errors
import pytest
from bench import Bench, Raw, end_of, rest_of
from support import until


@pytest.fixture(scope="module")
def container(shared: Bench) -> Any:
    return shared.start(environment={"FROM_CONTAINER": "1"}, init=True, working_dir="/usr")


@pytest.mark.parametrize("code", [0, 1, 7, 255])
def test_exit_codes(container: Any, code: int) -> None:
    assert container.exec_run(["sh", "-c", f"exit {code}"]).exit_code == code


def test_output(container: Any) -> None:
    assert container.exec_run(["sh", "-c", "echo out; usleep 50000; echo err >&2"]).output == b"out\nerr\n"
    apart = container.exec_run(["sh", "-c", "echo out; echo err >&2"], demux=True).output
    assert apart == (b"out\n", b"err\n")
    assert container.exec_run("true", demux=True).output == (None, None)
    assert b"".join(container.exec_run(["sh", "-c", "echo a; sleep 0.1; echo b"], stream=True).output) == b"a\nb\n"
    assert container.exec_run(["sh", "-c", "echo out; echo err >&2"], stderr=False).output == b"out\n"


def test_much_output(container: Any) -> None:
    assert len(container.exec_run(["head", "-c", "3000000", "/dev/zero"]).output) == 3_000_000


def test_environment_and_place(container: Any) -> None:
    script = 'echo $(pwd) "$FROM_CONTAINER" "$OWN" $HOME'
    assert container.exec_run(["sh", "-c", script], environment={"OWN": "a b"}).output == b"/usr 1 a b /root\n"
    assert container.exec_run("pwd", workdir="/tmp").output == b"/tmp\n"


def test_users(container: Any) -> None:
    assert (
        container.exec_run(["sh", "-c", "id -u; id -g; echo $HOME"], user="nobody").output == b"65534\n65534\n/home\n"
    )
    assert container.exec_run("id -u", user="1234:99").output == b"1234\n"


def test_it_is_in_the_container(container: Any) -> None:
    assert container.exec_run(["sh", "-c", "echo x > /made-by-exec"]).exit_code == 0
    assert container.exec_run("cat /made-by-exec").output == b"x\n"
    assert container.exec_run("hostname").output.decode().strip() == container.id[:12]
    assert b"sleep" in container.exec_run("ps").output


@pytest.mark.parametrize(
    ("program", "code"), [("no-such-program", 127), ("/no/such/program", 127), ("/etc/passwd", 126)]
)
def test_programs_that_cannot_be_started(container: Any, program: str, code: int) -> None:
    told = container.exec_run([program])
    assert told.exit_code in (126, code)  # older Docker Engines have 126 for all
    assert program.encode() in told.output


def test_a_terminal(container: Any) -> None:
    told = container.exec_run(["sh", "-c", "test -t 0 && test -t 1 && echo yes; echo err >&2"], tty=True)
    assert told.output == b"yes\r\nerr\r\n"
    assert b"yes" not in container.exec_run(["sh", "-c", "test -t 1 && echo yes"]).output


def test_detached(container: Any) -> None:
    container.exec_run(["sh", "-c", "sleep 0.2; echo late > /detached"], detach=True)
    until(lambda: container.exec_run("cat /detached").output == b"late\n")


def test_standard_input(container: Any, shared: Bench) -> None:
    made = shared.api.exec_create(container.id, ["sh", "-c", "read a; echo got $a; cat; exit 4"], stdin=True)
    with end_of(shared.api.exec_start(made, socket=True)) as end:
        end.sendall(b"one\nrest")
        data = end.recv(1024)
        end.shutdown(socket.SHUT_WR)
        data += rest_of(end)
    assert b"got one\n" in data
    assert data.endswith(b"rest")
    until(lambda: shared.api.exec_inspect(made)["ExitCode"] == 4)


def test_standard_input_of_a_terminal(container: Any, shared: Bench) -> None:
    made = shared.api.exec_create(container.id, ["sh"], stdin=True, tty=True)
    with end_of(shared.api.exec_start(made, socket=True, tty=True)) as end:
        shared.api.exec_resize(made, 33, 77)
        end.sendall(b"stty size; exit 6\n")
        data = rest_of(end)
    assert b"33 77\r\n" in data
    until(lambda: shared.api.exec_inspect(made)["ExitCode"] == 6)


def test_inspect(container: Any, shared: Bench) -> None:
    made = shared.api.exec_create(container.id, ["sh", "-c", "sleep 0.5; exit 3"], user="nobody", environment=["A=b"])
    told = shared.api.exec_inspect(made)
    assert (told["Running"], told["ExitCode"], told["ContainerID"]) == (False, None, container.id)
    config = told["ProcessConfig"]
    assert (config["entrypoint"], config["arguments"]) == ("sh", ["-c", "sleep 0.5; exit 3"])
    assert (config["tty"], config.get("user")) == (False, "nobody")
    shared.api.exec_start(made, detach=True)
    told = until(lambda: (it := shared.api.exec_inspect(made))["Running"] and it)
    assert told["Pid"] > 0
    container.reload()
    assert made["Id"] in container.attrs["ExecIDs"]
    until(lambda: shared.api.exec_inspect(made)["ExitCode"] == 3)


def test_refusals(bench: Bench) -> None:
    made = bench.create(["true"])
    with pytest.raises(docker.errors.APIError, match="is not running") as caught:
        made.exec_run("true")
    assert caught.value.status_code == 409
    with pytest.raises(docker.errors.NotFound):
        bench.api.exec_create("no-such-container", ["true"])
    running = bench.start()
    running.pause()
    with pytest.raises(docker.errors.APIError, match="paused") as caught:
        running.exec_run("true")
    assert caught.value.status_code == 409


def test_the_end_of_the_container_ends_it(bench: Bench) -> None:
    made = bench.start()
    run = bench.api.exec_create(made.id, ["sleep", "300"])
    stream = bench.api.exec_start(run, stream=True)
    until(lambda: bench.api.exec_inspect(run)["Running"])
    made.stop(timeout=0)
    begun = time.monotonic()
    said = b"".join(stream)
    assert said == b"" or b"OCI runtime" in said
    assert time.monotonic() - begun < 5


def test_many_at_the_same_time(container: Any) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(lambda n: container.exec_run(["sh", "-c", f"echo {n}; exit {n}"]), range(24)))
    assert [(one.exit_code, one.output) for one in told] == [(n, f"{n}\n".encode()) for n in range(24)]


def test_top(bench: Bench) -> None:
    made = bench.start(["sh", "-c", "sleep 4321; true"])
    until(lambda: len(made.top()["Processes"]) >= 2)
    told = made.top()
    assert "PID" in told["Titles"]
    assert "CMD" in told["Titles"]
    assert len(told["Processes"]) >= 2
    assert all(len(row) == len(told["Titles"]) for row in told["Processes"])
    if bench.engine.kind == "docker" or shutil.which("ps"):  # without, the embedded engine says that it cannot
        assert any("sleep 4321" in " ".join(row) for row in made.top(ps_args="-o pid,args")["Processes"])


def test_stats(bench: Bench, raw: Raw) -> None:
    made = bench.start(["sh", "-c", "while :; do :; done"])
    told = made.stats(stream=False)
    assert told["id"] == made.id
    assert told["name"] == f"/{made.name}"
    assert told["cpu_stats"]["cpu_usage"]["total_usage"] >= 0
    assert told["memory_stats"].get("usage", 1) > 0
    assert "precpu_stats" in told
    assert "T" in told["read"]

    def used() -> int:
        return int(
            raw("GET", f"/containers/{made.id}/stats?stream=0&one-shot=1").json["cpu_stats"]["cpu_usage"]["total_usage"]
        )

    until(lambda: used() > told["cpu_stats"]["cpu_usage"]["total_usage"])


def test_stats_of_one_that_does_not_run(bench: Bench) -> None:
    told = bench.create(["true"]).stats(stream=False)
    assert told["cpu_stats"]["cpu_usage"]["total_usage"] == 0

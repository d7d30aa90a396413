"""Calls of the Engine API as docker commands; no engine is needed."""

from __future__ import annotations

import json
import threading
from types import SimpleNamespace
from typing import Any

import docker
import pytest
import requests

from dockerlab.commands import CommandLog, Commands, build_folder, unlisted
from dockerlab.commands.log import COMMAND_LIMIT, GROUP_LIMIT, NAME_LIMIT
from dockerlab.commands.typed import Call, translate

ID = "0123456789ab" + "c" * 52
IMAGE = "sha256:" + "d" * 64
NAMES = {ID: "web-1", IMAGE: "web:1", "e" * 64: "shop"}


def create(body: dict[str, Any], **query: str) -> Call:
    return Call("POST", "/containers/create", query, body)


CASES: list[tuple[Call, str | None]] = [
    (create({"Image": "web:1"}), "docker create web:1"),
    (create({"Image": IMAGE}), "docker create web:1"),
    (create({"Image": "sha256:" + "f" * 64}), "docker create ffffffffffff"),
    (
        create(
            {
                "Image": "web:1",
                "Cmd": ["sh", "-c", "echo it's $HOME"],
                "Env": ["WORK_MS=50", "NOTE=two words"],
                "Labels": {"dockerlab.owner": "0a1b2c3d", "dockerlab.lab": "shop"},
                "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
                "HostConfig": {
                    "NetworkMode": "default",
                    "PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]},
                    "Init": True,
                },
            },
            name="web-1",
        ),
        (
            "docker create --name web-1 --label dockerlab.lab=shop --label dockerlab.owner=0a1b2c3d --init "
            "-p 127.0.0.1::80 --expose 53/udp -e WORK_MS=50 -e 'NOTE=two words' web:1 sh -c 'echo it'\"'\"'s $HOME'"
        ),
    ),
    (
        create(
            {
                "Image": "web:1",
                "Hostname": "h",
                "User": "1000",
                "WorkingDir": "/w",
                "StopSignal": "SIGINT",
                "StopTimeout": 3,
                "Tty": True,
                "OpenStdin": True,
                "Entrypoint": ["sh", "-c"],
                "Cmd": "true",
                "Healthcheck": {"Test": ["CMD-SHELL", "wget -q x"], "Interval": 500_000_000, "Retries": 2},
                "NetworkingConfig": {"EndpointsConfig": {"e" * 64: {"Aliases": ["web"]}}},
                "HostConfig": {
                    "Binds": ["data:/data:rw", "/src:/src:ro"],
                    "Mounts": [{"Type": "volume", "Source": "v", "Target": "/v", "ReadOnly": True}],
                    "Tmpfs": {"/tmp": "size=1m"},
                    "Memory": 64 << 20,
                    "MemorySwap": 100_000_001,
                    "NanoCpus": 500_000_000,
                    "PidsLimit": 20,
                    "ReadonlyRootfs": True,
                    "AutoRemove": True,
                    "CapDrop": ["ALL"],
                    "CapAdd": ["CHOWN"],
                    "SecurityOpt": ["no-new-privileges"],
                    "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3},
                    "Ulimits": [{"Name": "nofile", "Soft": 10, "Hard": 20}],
                },
            }
        ),
        (
            "docker create -i -t --rm --read-only -v data:/data -v /src:/src:ro "
            "--mount type=volume,source=v,target=/v,readonly --tmpfs /tmp:size=1m --network shop --network-alias web "
            "--hostname h --user 1000 --workdir /w --stop-signal SIGINT --stop-timeout 3 --memory 64m "
            "--memory-swap 100000001 --cpus 0.5 --pids-limit 20 --cap-add CHOWN --cap-drop ALL "
            "--security-opt no-new-privileges --restart on-failure:3 --ulimit nofile=10:20 --health-cmd 'wget -q x' "
            "--health-interval 0.5s --health-retries 2 --entrypoint sh web:1 -c true"
        ),
    ),
    (
        create({"Image": "web:1", "HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": "8080"}], "53/udp": None}}}),
        "docker create -p 53/udp -p 8080:80 web:1",
    ),
    (
        create({"Image": "w", "Volumes": {"/a": {}, "/b": {}}, "HostConfig": {"Binds": ["data:/a:rw"]}}),
        "docker create -v data:/a -v /b w",
    ),
    (
        create({"Image": "w", "HostConfig": {"NetworkMode": f"container:{ID}"}}),
        "docker create --network container:web-1 w",
    ),
    (Call("POST", f"/containers/{ID}/start"), "docker start web-1"),
    (Call("POST", f"/containers/{ID}/stop", {"t": "5"}), "docker stop -t 5 web-1"),
    (Call("POST", f"/containers/{ID}/stop"), "docker stop web-1"),
    (Call("POST", f"/containers/{'9' * 64}/stop"), "docker stop 999999999999"),
    (Call("POST", "/containers/web-1/restart", {"t": "0"}), "docker restart -t 0 web-1"),
    (Call("POST", "/containers/web-1/kill", {"signal": "SIGKILL"}), "docker kill -s SIGKILL web-1"),
    (Call("POST", "/containers/web-1/kill"), "docker kill web-1"),
    (Call("POST", "/containers/web-1/pause"), "docker pause web-1"),
    (Call("POST", "/containers/web-1/unpause"), "docker unpause web-1"),
    (Call("POST", "/containers/web-1/wait"), "docker wait web-1"),
    (Call("GET", "/containers/web-1/logs", {"stdout": "1", "follow": "1", "tail": "all"}), "docker logs -f web-1"),
    (Call("GET", "/containers/web-1/logs", {"stdout": "1", "follow": "0"}), "docker logs web-1"),
    (Call("DELETE", f"/containers/{ID}", {"v": "True", "force": "True", "link": "False"}), "docker rm -f -v web-1"),
    (Call("DELETE", f"/containers/{ID}", {"v": "False", "force": "False"}), "docker rm web-1"),
    (Call("POST", f"/containers/{ID}/rename", {"name": "shop"}), "docker rename web-1 shop"),
    (
        Call("POST", f"/containers/{ID}/update", {}, {"Memory": 1 << 30, "RestartPolicy": {"Name": "always"}}),
        "docker update --memory 1g --restart always web-1",
    ),
    (
        Call(
            "POST",
            f"/containers/{ID}/exec",
            {},
            {"Cmd": ["sh", "-c", "ls >/x"], "Tty": False, "User": "nobody", "Env": ["A=1"], "WorkingDir": "/"},
        ),
        "docker exec -e A=1 -u nobody -w / web-1 sh -c 'ls >/x'",
    ),
    (
        Call("POST", "/commit", {"container": ID, "repo": "snow", "tag": "1", "comment": "by hand"}),
        "docker commit -m 'by hand' web-1 snow:1",
    ),
    (
        Call(
            "POST",
            "/build",
            {
                "t": "web:2",
                "nocache": "True",
                "dockerfile": "Dockerfile",
                "buildargs": json.dumps({"VERSION": "2"}),
                "labels": json.dumps({"dockerlab.image": "true"}),
                "rm": "True",
            },
            folder="apps/web",
        ),
        "docker build -t web:2 --no-cache --build-arg VERSION=2 --label dockerlab.image=true apps/web",
    ),
    (
        Call("POST", "/build", {"t": "web:2", "dockerfile": "Other", "nocache": "False"}, folder="my app"),
        "docker build -t web:2 -f 'my app/Other' 'my app'",
    ),
    (Call("POST", "/build", {"t": "web:2"}), "docker build -t web:2 ."),
    (Call("POST", "/images/create", {"fromImage": "busybox", "tag": "1.37"}), "docker pull busybox:1.37"),
    (Call("POST", "/images/create", {"fromImage": "busybox", "tag": IMAGE}), f"docker pull busybox@{IMAGE}"),
    (Call("POST", "/images/localhost:5000/web/push", {"tag": "1"}), "docker push localhost:5000/web:1"),
    (
        Call("POST", "/images/web:1/tag", {"repo": "localhost:5000/web", "tag": "1"}),
        "docker tag web:1 localhost:5000/web:1",
    ),
    (Call("DELETE", "/images/web:1", {"force": "False", "noprune": "False"}), "docker rmi web:1"),
    (Call("DELETE", f"/images/{IMAGE}", {"force": "True"}), "docker rmi -f web:1"),
    (Call("GET", "/images/web:1/get"), "docker save -o web-1.tar web:1"),
    (Call("POST", "/images/load"), "docker load -i image.tar"),
    (
        Call(
            "POST", "/networks/create", {}, {"Name": "shop", "Driver": "bridge", "Labels": {"a": "b"}, "Internal": True}
        ),
        "docker network create --internal --label a=b shop",
    ),
    (
        Call("POST", f"/networks/{'e' * 64}/connect", {}, {"Container": ID, "EndpointConfig": {"Aliases": ["w"]}}),
        "docker network connect --alias w shop web-1",
    ),
    (Call("POST", "/networks/shop/disconnect", {}, {"Container": ID}), "docker network disconnect shop web-1"),
    (Call("DELETE", f"/networks/{'e' * 64}"), "docker network rm shop"),
    (
        Call("POST", "/volumes/create", {}, {"Name": "data", "Driver": "local", "Labels": {"a": "b"}}),
        "docker volume create --label a=b data",
    ),
    (Call("DELETE", "/volumes/data", {"force": "True"}), "docker volume rm -f data"),
    (Call("GET", "/containers/json"), None),
    (Call("GET", f"/containers/{ID}/json"), None),
    (Call("GET", f"/containers/{ID}/stats"), None),
    (Call("GET", "/images/web:1/json"), None),
    (Call("GET", "/images/web:1/history"), None),
    (Call("GET", "/info"), None),
    (Call("GET", "/version"), None),
    (Call("GET", "/_ping"), None),
    (Call("HEAD", "/_ping"), None),
    (Call("GET", "/events"), None),
    (Call("POST", f"/containers/{ID}/attach"), None),
    (Call("POST", f"/containers/{ID}/resize"), None),
    (Call("POST", "/something/new"), None),
]


@pytest.mark.parametrize(("call", "command"), CASES)
def test_translate(call: Call, command: str | None) -> None:
    assert translate(call, NAMES) == command


def test_a_repr_folds_long_runs() -> None:
    log = heard()
    log.begin("Scale to 30")
    for number in range(30):
        started(log, f"web-{number}", port=str(33000 + number))
    lines = repr(log.last).splitlines()
    assert lines[0] == "# Scale to 30"
    assert len(lines) == 4
    assert lines[1].startswith("docker run -d --name web-0 ")
    assert lines[3] == "# and 28 more like it"
    assert len(log.last) == 30
    log.begin("Remove them")
    for number in range(30):
        tell(log, "POST", f"/containers/{identity(f'web-{number}')}/stop?t=1")
        tell(log, "DELETE", f"/containers/{identity(f'web-{number}')}")
    assert repr(log.last).splitlines()[1:] == [
        "docker stop -t 1 web-0",
        "docker rm web-0",
        "docker stop -t 1 web-1",
        "docker rm web-1",
        "# and 28 more like these",
    ]


def test_a_repr_folds_commands_that_alternate() -> None:
    log = heard()
    log.begin("Replace 6")
    for number in range(6):
        started(log, f"new-{number}")
        if number % 2:
            tell(log, "DELETE", f"/containers/{identity(f'new-{number - 1}')}")
            tell(log, "DELETE", f"/containers/{identity(f'new-{number}')}")
    lines = repr(log.last).splitlines()[1:]
    assert [line.split(" new-")[0].split(" --")[0] for line in lines] == [
        "docker run -d",
        "docker run -d",
        "docker rm",
        "docker rm",
        "# and 4 more like these",
    ]


def test_short_runs_and_different_commands_stay() -> None:
    log = heard()
    for image in ("web:1", "web:2", "web:3", "web:4"):
        tell(log, "DELETE", f"/images/{image}")
    for name in ("a", "b", "c"):
        tell(log, "POST", f"/containers/{name}/stop")
    assert "more" not in repr(log.last)
    assert len(repr(log.last).splitlines()) == 7


def test_commands_are_a_sequence_that_shows_itself() -> None:
    commands = Commands(["docker run a", "docker run '<b>'"], "Two")
    assert list(commands) == ["docker run a", "docker run '<b>'"]
    assert commands[-1] == "docker run '<b>'"
    assert list(commands[:1]) == ["docker run a"]
    assert "docker rm x" not in commands
    assert repr(commands) == "# Two\ndocker run a\ndocker run '<b>'"
    html = commands._repr_html_()
    assert html.startswith("<pre")
    assert "docker run '&lt;b&gt;'" in html
    assert repr(Commands()) == "# nothing was changed on the engine"


# --- the log, fed with answers as requests gives them ---


def identity(name: str) -> str:
    return name.encode().hex().ljust(64, "0")


def heard() -> CommandLog:
    return CommandLog()


def tell(
    log: CommandLog,
    method: str,
    path: str,
    body: object = None,
    answer: object = None,
    *,
    status: int = 200,
    stream: bool = False,
) -> requests.Response:
    response = requests.Response()
    response.status_code = status
    response.request = requests.Request(method, f"http://localhost/v1.41{path}", json=body).prepare()
    if answer is not None:
        response._content = json.dumps(answer).encode()
        response.headers["Content-Type"] = "application/json"
    client = SimpleNamespace(api=SimpleNamespace(hooks={"response": []}))
    log.attach(client)  # type: ignore[arg-type]
    log.attach(client)  # type: ignore[arg-type]
    assert len(client.api.hooks["response"]) == 1
    client.api.hooks["response"][0](response, stream=stream, timeout=60)
    return response


def started(log: CommandLog, name: str, *, port: str = "") -> None:
    bindings = {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": port}]}
    body = {"Image": "web:1", "HostConfig": {"PortBindings": bindings}, "Env": [f"REPLICA={name}"]}
    tell(log, "POST", f"/containers/create?name={name}", body, {"Id": identity(name)})
    tell(log, "POST", f"/containers/{identity(name)}/start", status=204)


def test_create_and_start_become_run() -> None:
    log = heard()
    started(log, "web-1")
    assert list(log.last) == ["docker run -d --name web-1 -p 127.0.0.1::80 -e REPLICA=web-1 web:1"]
    tell(log, "POST", f"/containers/{identity('web-1')}/stop", status=204)
    tell(log, "POST", f"/containers/{identity('web-1')}/start", status=204)
    assert list(log.last)[1:] == ["docker stop web-1", "docker start web-1"]


def test_create_and_start_stay_apart_when_something_comes_between() -> None:
    log = heard()
    tell(log, "POST", "/containers/create?name=a", {"Image": "w"}, {"Id": identity("a")})
    tell(log, "PUT", f"/containers/{identity('a')}/archive?path=/etc")
    tell(log, "POST", f"/containers/{identity('a')}/start")
    assert list(log.last) == ["docker create --name a w", "docker cp - a:/etc", "docker start a"]
    tell(log, "POST", "/containers/create?name=b", {"Image": "w"}, {"Id": identity("b")})
    log.begin("Later")
    tell(log, "POST", f"/containers/{identity('b')}/start")
    assert list(log.last) == ["docker start b"]


def test_a_container_that_is_waited_for_and_removed_was_run_in_front() -> None:
    log = heard()
    tell(log, "POST", "/containers/create", {"Image": "w", "Cmd": ["ls", "/"]}, {"Id": identity("x")})
    tell(log, "POST", f"/containers/{identity('x')}/start")
    tell(log, "GET", f"/containers/{identity('x')}/logs?follow=1", stream=True)
    tell(log, "POST", f"/containers/{identity('x')}/wait", answer={"StatusCode": 0})
    tell(log, "DELETE", f"/containers/{identity('x')}")
    assert list(log.last) == ["docker run --rm w ls /"]


def test_a_detached_exec() -> None:
    log = heard()
    tell(log, "POST", "/containers/web-1/exec", {"Cmd": ["sleep", "1"]}, {"Id": "9" * 64})
    tell(log, "POST", f"/exec/{'9' * 64}/start", {"Detach": True})
    assert list(log.last) == ["docker exec -d web-1 sleep 1"]


def test_names_are_learned_from_reads_and_forgotten_when_a_tag_moves() -> None:
    log = heard()
    old, new = "sha256:" + "1" * 64, "sha256:" + "2" * 64
    tell(log, "GET", "/images/web:1/json", answer={"Id": old, "RepoTags": ["web:1"]})
    tell(log, "POST", "/containers/create", {"Image": old}, {"Id": identity("a")})
    tell(log, "GET", "/images/web:1/json", answer={"Id": new, "RepoTags": ["web:1"]})
    tell(log, "POST", "/containers/create", {"Image": old}, {"Id": identity("b")})
    tell(log, "GET", f"/containers/{identity('c')}/json", answer={"Id": identity("c"), "Name": "/cool"})
    tell(log, "POST", f"/containers/{identity('c')}/stop")
    assert list(log.last) == ["docker create web:1", "docker create 111111111111", "docker stop cool"]


def test_a_container_is_known_by_its_name_too_and_after_a_rename() -> None:
    log = heard()
    tell(log, "POST", "/containers/create?name=a", {"Image": "w"}, {"Id": identity("a")})
    tell(log, "POST", "/containers/a/start")
    tell(log, "POST", f"/containers/{identity('a')}/rename?name=b")
    tell(log, "POST", f"/containers/{identity('a')}/stop")
    assert list(log.last) == ["docker run -d --name a w", "docker rename a b", "docker stop b"]


def test_failed_calls_streams_and_hidden_calls() -> None:
    log = heard()
    tell(log, "POST", "/containers/a/stop", answer={"message": "No such container"}, status=404)
    tell(log, "POST", "/containers/a/start", status=304)
    with unlisted():
        tell(log, "POST", "/build?t=hidden:1", stream=True)
    assert list(log.last) == []
    with build_folder("apps/web"):
        answer = tell(log, "POST", "/build?t=web:1", answer={"stream": "x"}, stream=True)
    assert list(log.last) == ["docker build -t web:1 apps/web"]
    assert answer.json() == {"stream": "x"}


def test_nothing_that_goes_wrong_here_reaches_the_caller() -> None:
    log = heard()
    answer = tell(log, "POST", "/containers/create", {"Image": "w", "HostConfig": "not a mapping"}, {"Id": "x"})
    answer = tell(log, "POST", "/containers/create", {"Image": "w"}, ["not", "a", "mapping"])
    assert answer.status_code == 200
    assert list(log.last) == ["docker create w"]


def test_memory_is_bounded() -> None:
    log = heard()
    for number in range(GROUP_LIMIT + 10):
        log.begin(str(number))
        tell(log, "POST", f"/containers/{number}/stop")
    assert len(log.all) == GROUP_LIMIT
    for number in range(COMMAND_LIMIT + 10):
        tell(log, "POST", f"/containers/{number}/stop")
    assert len(log.last) == COMMAND_LIMIT
    for number in range(NAME_LIMIT + 10):
        log._learn(Call("GET", f"/containers/{number}/json", answer={"Id": str(number), "Name": "/n"}))
    assert len(log._names) == NAME_LIMIT


def test_many_threads_lose_nothing() -> None:
    log = heard()

    def work(worker: int) -> None:
        for number in range(50):
            started(log, f"w{worker}-{number}")

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(log.last) == 400
    assert all(command.startswith("docker run -d ") for command in log.last)


def test_attach_takes_a_real_client() -> None:
    client = docker.DockerClient("tcp://127.0.0.1:9", version="1.41")
    log = CommandLog()
    log.attach(client)
    assert len(client.api.hooks["response"]) == 1
    client.close()

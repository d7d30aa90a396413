"""What an engine says about itself."""

from __future__ import annotations

import pytest
from bench import Bench, Raw

from dockerlab.connect import Engine


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_ping(raw: Raw, method: str) -> None:
    answer = raw(method, "/_ping")
    assert answer.status == 200
    assert answer.body == (b"OK" if method == "GET" else b"")
    assert answer.headers["content-type"].startswith("text/plain")
    assert tuple(map(int, answer.headers["api-version"].split("."))) >= (1, 41)
    assert answer.headers.get("ostype", "linux") == "linux"


def test_version(engine: Engine) -> None:
    told = engine.client.version()
    assert tuple(map(int, told["ApiVersion"].split("."))) >= (1, 41)
    assert told["MinAPIVersion"]
    assert told["Version"]
    assert told["Os"] == "linux"
    assert told["Arch"] in ("amd64", "arm64")
    assert any(part["Name"] for part in told["Components"])


def test_info(bench: Bench) -> None:
    bench.start()
    told = bench.client.info()
    assert told["OSType"] == "linux"
    assert told["Architecture"] in ("x86_64", "aarch64")
    assert told["NCPU"] >= 1
    assert told["MemTotal"] > 1e8
    assert told["ContainersRunning"] >= 1
    parts = ("ContainersRunning", "ContainersPaused", "ContainersStopped")
    assert told["Containers"] == sum(told[part] for part in parts)
    assert told["Images"] >= 1
    for name in ("ID", "Name", "Driver", "ServerVersion", "DockerRootDir", "KernelVersion", "OperatingSystem"):
        assert isinstance(told[name], str), name
        assert told[name], name
    assert isinstance(told["SecurityOptions"], list)
    assert isinstance(told["Warnings"] or [], list)


def test_disk_usage(bench: Bench) -> None:
    volume = bench.volume()
    container = bench.create(["true"])
    told = bench.api.df()
    assert told["LayersSize"] > 1e6
    assert container.id in {entry["Id"] for entry in told["Containers"]}
    assert bench.base in {entry["Id"] for entry in told["Images"]}
    assert volume.name in {entry["Name"] for entry in told["Volumes"]}


def test_paths_with_and_without_a_version(raw: Raw, engine: Engine) -> None:
    plain = raw("GET", "/version")
    assert plain.headers["content-type"].startswith("application/json")
    for version in {"1.41", engine.api_version}:
        assert raw("GET", f"/v{version}/version").json["Version"] == plain.json["Version"]
    answer = raw("GET", "/v9.99/version")
    assert answer.status == 400
    assert "too new" in answer.message


def test_answers_are_json_with_a_message(raw: Raw) -> None:
    answer = raw("GET", "/containers/nosuch/json")
    assert answer.status == 404
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.json == {"message": "No such container: nosuch"}


def test_many_answers_on_one_connection(engine: Engine) -> None:
    for _ in range(50):
        assert engine.client.ping()

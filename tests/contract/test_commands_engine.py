"""The listed commands, carried out by the docker command line: they make the same things."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import docker
import pytest
from support import until

from dockerlab.commands import CommandLog
from dockerlab.connect import Engine
from dockerlab.images import Image, build

LABEL = "dockerlab.test.commands"


@pytest.fixture
def mark(engine: Engine) -> Iterator[str]:
    """A label value and name prefix of one's own; what carries it is gone afterwards."""
    value = f"cmd-{uuid.uuid4().hex[:8]}"
    yield value
    api = engine.client.api
    for entry in api.containers(all=True, filters={"label": f"{LABEL}={value}"}):
        api.remove_container(entry["Id"], force=True, v=True)
    for entry in api.networks(filters={"label": f"{LABEL}={value}"}):
        api.remove_network(entry["Id"])
    for entry in api.volumes(filters={"label": f"{LABEL}={value}"})["Volumes"] or ():
        api.remove_volume(entry["Name"])
    for image in engine.client.images.list(f"dockerlab-test/{value}"):
        engine.client.images.remove(image.id, force=True)


@pytest.fixture
def listened(engine: Engine) -> Iterator[tuple[docker.DockerClient, CommandLog]]:
    """A client of one's own with a log."""
    # The engine's client is shared, and a log stays attached to its client.
    client = docker.DockerClient(engine.address) if "://" in engine.address else docker.from_env()
    log = CommandLog()
    log.attach(client)
    yield client, log
    client.close()


@pytest.fixture
def shell(engine: Engine, missing: Callable[[str, str], NoReturn], tmp_path: Path) -> Callable[[str], str]:
    """Run a listed command as a person would: in a shell."""
    if shutil.which("docker") is None:
        missing("docker-cli", "no docker command on PATH")

    def run(command: str) -> str:
        environ = {**os.environ, "DOCKER_HOST": engine.address, "DOCKER_BUILDKIT": "0"}
        done = subprocess.run(
            ["sh", "-c", command], capture_output=True, text=True, timeout=60, cwd=tmp_path, env=environ, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        return done.stdout.strip()

    return run


Listened = tuple[docker.DockerClient, CommandLog]
Shell = Callable[[str], str]

# What differs between two containers made the same way.
_OWN = {"Id", "Created", "State", "Name", "ResolvConfPath", "HostnamePath", "HostsPath", "LogPath", "NetworkSettings"}
_OWN |= {"GraphDriver", "Config.Hostname", "Config.Image", "HostConfig.ConsoleSize", "HostConfig.LogConfig"}
_OWN |= {"Config.AttachStdout", "Config.AttachStderr", "Config.Volumes", "HostConfig.Binds", "Mounts"}


def same(one: dict[str, Any], other: dict[str, Any], path: str = "") -> list[str]:
    """Name what differs, taking nothing, false, zero and empty as the same."""
    differences = []
    for key in sorted(one.keys() | other.keys()):
        place, mine, theirs = f"{path}{key}", one.get(key), other.get(key)
        if place in _OWN or (not mine and not theirs):
            continue
        if isinstance(mine, dict) and isinstance(theirs, dict):
            differences += same(mine, theirs, f"{place}.")
        elif (
            sorted(map(str, mine)) != sorted(map(str, theirs)) if isinstance(mine, list) and theirs else mine != theirs
        ):
            differences.append(f"{place}: {mine!r} != {theirs!r}")
    return differences


def test_the_printed_run_makes_the_same_container(listened: Listened, shell: Shell, web1: Image, mark: str) -> None:
    client, log = listened
    client.volumes.create(f"{mark}-data", labels={LABEL: mark})
    network = client.networks.create(f"{mark}-net", labels={LABEL: mark})
    log.begin("One replica")
    container = client.containers.run(
        web1.id,
        ["sh", "-c", 'echo "it\'s $NOTE"; exec sh /srv/web/serve'],
        name=f"{mark}-a",
        detach=True,
        environment={"NOTE": "two words & more", "WORK_MS": "10"},
        labels={LABEL: mark, "dockerlab.lab": "nobody's"},
        ports={"80/tcp": ("127.0.0.1", None)},
        volumes={f"{mark}-data": {"bind": "/data", "mode": "rw"}},
        network=network.name,
        mem_limit="32m",
        nano_cpus=500_000_000,
        pids_limit=50,
        init=True,
        read_only=True,
        tmpfs={"/tmp": "size=4m"},
        cap_drop=["CAP_MKNOD"],
        restart_policy={"Name": "on-failure", "MaximumRetryCount": 2},
    )
    assert len(log.last) == 1
    command = log.last[0]
    assert command.startswith(f"docker run -d --name {mark}-a ")
    shell(command.replace(f"--name {mark}-a", f"--name {mark}-b"))
    one = client.api.inspect_container(container.id)
    other = client.api.inspect_container(f"{mark}-b")
    assert same(one, other) == []
    # The same mount, which the SDK and the command line write down in different words.
    mounts = [[(m["Type"], m["Name"], m["Destination"], m["RW"]) for m in made["Mounts"]] for made in (one, other)]
    assert mounts == [[("volume", f"{mark}-data", "/data", True)]] * 2
    until(lambda: b"it's two words & more" in client.containers.get(f"{mark}-b").logs())


def test_a_life_by_the_printed_commands(listened: Listened, shell: Shell, base_image: Image, mark: str) -> None:
    """Everything that the SDK did is undone, then done again by the listed commands."""
    client, log = listened
    log.begin("A life")
    network = client.networks.create(f"{mark}-net", labels={LABEL: mark}, internal=True)
    volume = client.volumes.create(f"{mark}-vol", labels={LABEL: mark})
    container = client.containers.create(
        "dockerlab/base:1", ["sleep", "600"], name=f"{mark}-c", labels={LABEL: mark}, init=True
    )
    container.start()
    network.connect(container, aliases=["c"])
    container.exec_run(["sh", "-c", "echo hello > /hello"], user="root", workdir="/tmp")
    container.update(mem_limit="64m", memswap_limit="64m")
    container.pause()
    container.unpause()
    container.rename(f"{mark}-d")
    container.commit(f"dockerlab-test/{mark}", "snow", message="by hand")
    client.images.get(f"dockerlab-test/{mark}:snow").tag(f"dockerlab-test/{mark}", "white")
    network.disconnect(container)
    container.kill("SIGTERM")
    container.wait()
    container.restart(timeout=0)
    container.stop(timeout=1)
    container.remove(v=True)
    network.remove()
    volume.remove()
    client.images.remove(f"dockerlab-test/{mark}:snow")
    client.images.remove(f"dockerlab-test/{mark}:white")
    done = list(log.last)
    assert [re.sub(r"^docker (network |volume )?(\w+).*", r"\1\2", command) for command in done] == [
        *("network create", "volume create", "run", "network connect", "exec", "update", "pause", "unpause", "rename"),
        *("commit", "tag", "network disconnect", "kill", "wait", "restart", "stop", "rm", "network rm", "volume rm"),
        *("rmi", "rmi"),
    ]
    # An id of the SDK's container would mean nothing to a learner, and nothing to the second life.
    assert container.id not in "".join(done)
    before_exec = next(at for at, command in enumerate(done) if " exec " in command)
    for at, command in enumerate(done):
        shell(re.sub(rf"\b({mark}-c)\b", r"\1", command))
        if at == before_exec:
            assert shell(f"docker exec {mark}-c cat /hello") == "hello"
    assert client.api.containers(all=True, filters={"label": f"{LABEL}={mark}"}) == []


def test_the_printed_build_makes_the_same_image(
    listened: Listened, shell: Shell, base_image: Image, mark: str, tmp_path: Path
) -> None:
    client, log = listened
    (tmp_path / "my app").mkdir()
    (tmp_path / "my app" / "Dockerfile").write_text('FROM dockerlab/base:1\nARG V=1\nENV V=$V\nCMD ["sh"]\n')
    log.begin("Build")
    image = build(client, tmp_path / "my app", tag=f"dockerlab-test/{mark}:1", args={"V": "two words"})
    assert len(log.last) == 1
    shell("DOCKER_BUILDKIT=0 " + log.last[0].replace(f"{mark}:1", f"{mark}:2"))
    other = client.api.inspect_image(f"dockerlab-test/{mark}:2")
    # The classic builder finds every step in its cache: the id is the same, label and arguments included.
    assert other["Id"] == image.id


def test_a_one_off_run_is_one_command(listened: Listened, shell: Shell, base_image: Image, mark: str) -> None:
    client, log = listened
    log.begin("One-off")
    said = client.containers.run("dockerlab/base:1", ["echo", "it works"], labels={LABEL: mark}, remove=True)
    assert said == b"it works\n"
    assert len(log.last) == 1
    assert log.last[0] == f"docker run --rm --label {LABEL}={mark} dockerlab/base:1 echo 'it works'"
    assert shell(log.last[0]) == "it works"


def test_reads_are_not_listed_and_streams_arrive_whole(listened: Listened, base_image: Image, mark: str) -> None:
    client, log = listened
    container = client.containers.run("dockerlab/base:1", ["sh", "-c", "seq 2000"], labels={LABEL: mark}, detach=True)
    container.wait()
    log.begin("Reads")
    client.ping()
    client.version()
    client.info()
    client.containers.list(all=True, filters={"label": LABEL})
    client.images.get("dockerlab/base:1").history()
    container.reload()
    assert list(log.last) == []
    lines = b"".join(container.logs(stream=True)).split()
    assert len(lines) == 2000
    assert list(log.last) == [f"docker logs -f {container.name}"]


def test_a_refused_call_is_not_listed(listened: Listened, base_image: Image) -> None:
    client, log = listened
    log.begin("Refused")
    with pytest.raises(docker.errors.NotFound):
        client.api.stop("dockerlab-no-such-container")
    assert list(log.last) == []

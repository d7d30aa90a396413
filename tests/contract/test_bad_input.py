"""Bad input: each a clear error of ours that says what to do, and nothing is left behind."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import docker.errors
import pytest

from dockerlab.errors import (
    BadInputError,
    BuildError,
    DockerfileError,
    DockerlabError,
    ImageError,
    ImageNotFoundError,
    PortTakenError,
    ReplicaFailedError,
)
from dockerlab.fleet.fleet import Fleet
from dockerlab.images import Image, build
from dockerlab.lab import Lab


def things(lab: Lab) -> list[str]:
    """Name everything on the engine that a failed attempt could have left."""
    api, filters = lab.client.api, {"label": f"dockerlab.lab={lab.name}"}
    found = [row["Id"] for row in api.containers(all=True, filters=filters)]
    found += [row["Id"] for row in api.networks(filters=filters)]
    return found + [row["Name"] for row in api.volumes(filters=filters)["Volumes"] or ()]


@pytest.fixture
def clean_lab(lab: Lab) -> Iterator[Lab]:
    """Give a lab that must be empty again when the test ends, before reset."""
    everything = {row["Id"] for row in lab.client.api.containers(all=True)}
    yield lab
    assert things(lab) == []
    assert lab.fleets == {}
    unlabelled = [row for row in lab.client.api.containers(all=True) if not row["Labels"]]
    assert not {row["Id"] for row in unlabelled} - everything


def folder(tmp_path: Path, dockerfile: str) -> Path:
    (tmp_path / "Dockerfile").write_text(dockerfile, encoding="utf-8")
    return tmp_path


def says(error: DockerlabError) -> None:
    assert error.message
    assert error.advice, "an error must say what to do"


def test_a_dockerfile_that_does_not_parse(clean_lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(DockerfileError, match=r"(?i)FORM") as caught:
        clean_lab.build(folder(tmp_path, "FORM dockerlab/base:1\n"), tag="bad:1", quiet=True)
    says(caught.value)


def test_a_run_that_fails_shows_the_step_and_its_output(clean_lab: Lab, tmp_path: Path) -> None:
    text = "FROM dockerlab/base:1\nRUN echo so far so good && echo but then >&2 && exit 7\n"
    with pytest.raises(BuildError, match="but then") as caught:
        clean_lab.build(folder(tmp_path, text), tag="bad:1", quiet=True)
    says(caught.value)
    assert caught.value.step == 2
    assert caught.value.instruction.startswith("RUN echo so far")
    assert "7" in caught.value.message
    with pytest.raises(ImageNotFoundError):
        clean_lab.image("bad:1")


def test_a_from_that_does_not_exist(clean_lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(ImageError) as caught:
        clean_lab.build(folder(tmp_path, f"FROM nowhere-{uuid.uuid4().hex}:1\n"), tag="bad:1", quiet=True)
    says(caught.value)


def test_an_image_that_does_not_exist(clean_lab: Lab) -> None:
    with pytest.raises(ImageNotFoundError, match="nosuch:1") as caught:
        clean_lab.fleet("web", "nosuch:1")
    says(caught.value)


@pytest.fixture
def broken(lab: Lab, base_image: Image, tmp_path: Path) -> Image:
    """Give an image whose program exits at once."""
    text = 'FROM dockerlab/base:1\nEXPOSE 80\nCMD ["sh", "-c", "echo no config found; exit 4"]\n'
    return build(lab.client, folder(tmp_path, text), tag="broken:test")


@pytest.fixture
def startless(lab: Lab, base_image: Image, tmp_path: Path) -> Image:
    """Give an image whose program does not exist."""
    text = 'FROM dockerlab/base:1\nEXPOSE 80\nCMD ["no-such-program"]\n'
    return build(lab.client, folder(tmp_path, text), tag="startless:test")


def test_an_image_that_exits_at_once(clean_lab: Lab, broken: Image) -> None:
    with pytest.raises(ReplicaFailedError, match="exited with exit code 4") as caught:
        clean_lab.fleet("web", broken, replicas=2)
    says(caught.value)
    assert caught.value.logs.strip() == "no config found"
    assert caught.value.exit_code == 4


def test_an_image_that_cannot_start(clean_lab: Lab, startless: Image) -> None:
    with pytest.raises(ReplicaFailedError, match="no-such-program") as caught:
        clean_lab.fleet("web", startless)
    says(caught.value)


def test_an_image_that_never_gets_healthy(clean_lab: Lab, web1: Image) -> None:
    with pytest.raises(ReplicaFailedError, match="did not become healthy within 1 s") as caught:
        clean_lab.fleet("web", web1, env={"HEALTH": "never"}, ready_timeout_s=1)
    says(caught.value)
    assert "/healthz" in str(caught.value)


@pytest.mark.parametrize("kind", ["broken", "startless"])
def test_a_rollout_to_a_bad_image_leaves_the_old_one_serving(
    lab: Lab, web1: Image, kind: str, request: pytest.FixtureRequest
) -> None:
    bad: Image = request.getfixturevalue(kind)
    web = lab.fleet("web", web1, replicas=2)
    before = things(lab)
    rollout = web.rollout(bad)
    assert rollout.status == "RolledBack"
    assert rollout.reason
    assert web.status().phase == "Healthy"
    assert set(before) & set(things(lab)), "no old replica was left"


def test_scaling_that_fails_leaves_what_served(lab: Lab, web1: Image) -> None:
    web = lab.fleet("web", web1, replicas=2)
    lab.client.api.tag(web1.id, f"gone-{lab.name}", "1")
    gone = f"gone-{lab.name}:1"
    lab.client.api.remove_image(gone)
    with pytest.raises(ImageNotFoundError):
        web.rollout(gone)
    assert web.status().phase == "Healthy"


@pytest.mark.parametrize("replicas", [-1, 10**6, 2.0, True, "3", None])
def test_replicas_that_cannot_be_had(clean_lab: Lab, web1: Image, replicas: int) -> None:
    with pytest.raises(BadInputError, match="cannot be had") as caught:
        clean_lab.fleet("web", web1, replicas=replicas)
    says(caught.value)


def test_a_bad_number_changes_nothing(lab: Lab, web1: Image) -> None:
    web = lab.fleet("web", web1, replicas=1)
    for replicas in (-1, 10**6):
        with pytest.raises(BadInputError, match="cannot be had"):
            web.scale(replicas)
    assert web.status().ready == web.replicas == 1


def test_a_port_that_is_taken(clean_lab: Lab, web1: Image) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(PortTakenError, match=str(port)) as caught:
            clean_lab.fleet("web", web1, port=port)
        says(caught.value)
        with pytest.raises(PortTakenError):
            clean_lab.start(web1, ports={80: port})


@pytest.mark.parametrize("name", ["", "Web", "web_1", "../web", "a" * 32, "1web", 7])
def test_names_that_cannot_be_used(clean_lab: Lab, web1: Image, name: str) -> None:
    with pytest.raises(BadInputError, match="cannot be the name"):
        clean_lab.fleet(name, web1)
    with pytest.raises(BadInputError, match="cannot be the name"):
        Lab(name)


@pytest.mark.parametrize("port", [-1, 0, 70000])
def test_ports_that_do_not_exist(clean_lab: Lab, web1: Image, port: int) -> None:
    with pytest.raises(BadInputError, match="does not exist"):
        clean_lab.fleet("web", web1, port=port)


def test_an_image_without_a_port(clean_lab: Lab, base_image: Image) -> None:
    with pytest.raises(BadInputError, match="exposes no port") as caught:
        clean_lab.fleet("web", base_image)
    says(caught.value)


PROXY = """
import sys
import dockerlab as dl
lab = dl.Lab(sys.argv[1])
web = lab.fleet("web", sys.argv[2], replicas=2)
with lab.traffic(web.url, rate=20, duration_s=1) as traffic:
    traffic.wait()
import urllib.request
print(urllib.request.urlopen(web.url, timeout=5).status, traffic.results.summary().lost, web.status().ready)
lab.reset()
"""


def test_a_proxy_that_would_swallow_loopback(lab: Lab, web1: Image) -> None:
    lab.close()
    swallow = dict.fromkeys(("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    environ = {**os.environ, **swallow, "NO_PROXY": "example.org", "no_proxy": ""}
    command = [sys.executable, "-c", PROXY, lab.name, web1.name]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environ, check=False)
    assert answer.stdout.split() == ["200", "0", "2"], answer.stderr


def test_a_removed_image_is_named(lab: Lab, base_image: Image, tmp_path: Path) -> None:
    text = f'FROM dockerlab/base:1\nRUN echo {uuid.uuid4()} > /mark\nEXPOSE 80\nCMD ["sleep", "60"]\n'
    image = lab.build(folder(tmp_path, text), tag="removed:test", quiet=True)
    lab.client.api.remove_image("removed:test")
    with pytest.raises(docker.errors.ImageNotFound):
        lab.client.api.inspect_image(image.id)
    with pytest.raises(ImageNotFoundError):
        lab.fleet("web", image)
    assert things(lab) == []
    assert "web" not in lab.fleets
    assert isinstance(lab.fleets, dict)
    assert not any(isinstance(fleet, Fleet) for fleet in lab.fleets.values())

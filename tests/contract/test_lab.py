"""What a lab owns, and what it never touches."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import docker.errors
import psutil
import pytest

from dockerlab.connect import Engine
from dockerlab.errors import ContainerFailedError, ImageNotFoundError
from dockerlab.images import Image
from dockerlab.lab import Lab
from dockerlab.lab.clean import clean
from dockerlab.processes import Process


@pytest.fixture
def bystanders(engine: Engine, base_image: Image) -> Iterator[dict[str, str]]:
    """Give things on the engine that are not the lab's: some look like it."""
    api, mark = engine.client.api, uuid.uuid4().hex[:8]
    plain = api.create_container(base_image.id, ["sleep", "600"], name=f"bystander-{mark}")["Id"]
    other = {"dockerlab.lab": f"other-{mark}", "dockerlab.owner": "0badcafe"}
    foreign = api.create_container(base_image.id, ["sleep", "600"], labels=other)["Id"]
    api.start(plain)
    network = api.create_network(f"bystander-{mark}", labels=other)["Id"]
    volume = api.create_volume(f"bystander-{mark}", labels={"somebody": "else"})["Name"]
    api.tag(base_image.id, f"bystander-{mark}", "1")
    yield {"plain": plain, "foreign": foreign, "network": network, "volume": volume, "image": f"bystander-{mark}:1"}
    for container in (plain, foreign):
        api.remove_container(container, force=True)
    api.remove_network(network)
    api.remove_volume(volume)
    api.remove_image(f"bystander-{mark}:1")


def test_nothing_without_our_labels_is_ever_touched(
    lab: Lab, web1: Image, web2: Image, bystanders: dict[str, str]
) -> None:
    api = lab.client.api
    before = api.inspect_container(bystanders["plain"])["State"]
    web = lab.fleet("web", web1, replicas=2)
    web.rollout(web2)
    web.scale(1)
    lab.start(web1)
    lab.start(web1, volumes={f"{lab.name}-data": "/data"})
    lab.reset()
    clean(lab.engine)
    assert api.inspect_container(bystanders["plain"])["State"] == before
    assert api.inspect_container(bystanders["foreign"])["State"]["Status"] == "created"
    assert api.inspect_network(bystanders["network"])
    assert api.inspect_volume(bystanders["volume"])
    assert api.inspect_image(bystanders["image"])


def test_a_container_made_by_hand_from_our_image_is_named_and_left(lab: Lab, web1: Image) -> None:
    container = lab.client.api.create_container(web1.id)["Id"]
    try:
        report = lab.reset()
        assert any("made by hand" in line for line in report.kept)
        assert lab.client.api.inspect_container(container)
    finally:
        lab.client.api.remove_container(container)


def test_a_taken_container_name_is_not_taken_away(lab: Lab, base_image: Image) -> None:
    name = f"bystander-{uuid.uuid4().hex[:8]}"
    theirs = lab.client.api.create_container(base_image.id, name=name)["Id"]
    try:
        with pytest.raises(ContainerFailedError, match="is already in use"):
            lab.start(base_image, "sleep 60", name=name)
        assert lab.client.api.inspect_container(theirs)
    finally:
        lab.client.api.remove_container(theirs)


def test_run_gives_the_output_and_leaves_nothing(lab: Lab, base_image: Image) -> None:
    result = lab.run(base_image, "echo hello")
    assert (str(result), result.exit_code) == ("hello", 0)
    assert 0 < result.start_s <= result.total_s
    assert lab.run(base_image, ["sh", "-c", "echo $A; exit 3"], env={"A": "b"}).exit_code == 3
    assert not lab.client.api.containers(all=True, filters={"label": f"dockerlab.lab={lab.name}"})


def test_run_that_cannot_start_or_end_is_a_clear_error(lab: Lab, base_image: Image) -> None:
    with pytest.raises(ContainerFailedError, match="no-such-program"):
        lab.run(base_image, "no-such-program")
    with pytest.raises(ContainerFailedError, match="still ran after 1 s"):
        lab.run(base_image, "sleep 60", timeout_s=1)
    with pytest.raises(ImageNotFoundError, match="no/such:image"):
        lab.run("no/such:image", "true")
    assert not lab.client.api.containers(all=True, filters={"label": f"dockerlab.lab={lab.name}"})


def test_start_again_under_a_name_replaces_our_own(lab: Lab, base_image: Image) -> None:
    first = lab.start(base_image, "sleep 60", name=f"{lab.name}-one", init=True)
    second = lab.start(base_image, "sleep 60", name=f"{lab.name}-one", init=True)
    assert first.id != second.id
    with pytest.raises(docker.errors.NotFound):
        lab.client.api.inspect_container(first.id)


def test_opening_it_again_in_one_process_gives_the_same_fleets(lab: Lab, web1: Image) -> None:
    web = lab.fleet("web", web1, replicas=1)
    again = Lab(lab.name, engine=lab.engine.kind)
    other = again.fleet("other", web1)
    assert again.fleets["web"] is web
    assert lab.fleets["other"] is other
    web.scale(2)
    again.close()
    assert set(Lab(lab.name, engine=lab.engine.kind).fleets) == {"web", "other"}


def test_containers_that_ended_while_nobody_looked_are_replaced(lab: Lab, web1: Image) -> None:
    web = lab.fleet("web", web1, replicas=2)
    lab.close()
    for row in web.status().replicas:
        lab.client.api.kill(row.id)
    again = Lab(lab.name, engine=lab.engine.kind)
    assert again.fleets["web"].status().phase == "Degraded"
    assert again.fleet("web", web1, replicas=2).status().ready == 2


def test_a_router_that_was_never_recorded_is_ended(lab: Lab, web1: Image) -> None:
    web = lab.fleet("web", web1, replicas=1)
    router = web._control.router.record
    if router.kind != "process":
        pytest.skip("the router is a container here: its labels are enough")
    lab._state.fleets["web"].router = None
    lab._save()
    lab.reset()
    assert not Process(router.pid, router.created_s).alive()


EPHEMERAL = """
import os, sys, time
import dockerlab as dl
lab = dl.Lab()
web = lab.fleet("web", sys.argv[1], replicas=2)
assert dl.Lab().name == lab.name
print(lab.name, web._control.router.record.pid, os.environ["XDG_STATE_HOME"], flush=True)
time.sleep(60)
"""


def wait_until_gone(engine: Engine, name: str) -> None:
    """Wait for the watchdog: first the containers go, the files of the lab last."""
    folder = Path(os.environ["XDG_STATE_HOME"]) / "dockerlab" / "labs" / name
    deadline = time.monotonic() + 30
    while engine.client.api.containers(all=True, filters={"label": f"dockerlab.lab={name}"}) or folder.exists():
        assert time.monotonic() < deadline, "the watchdog left something behind"
        time.sleep(0.1)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_an_ephemeral_lab_is_removed_when_its_process_ends(engine: Engine, web1: Image, end: signal.Signals) -> None:
    command = [sys.executable, "-c", EPHEMERAL, web1.name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        name, router, state = process.stdout.readline().split()
        filters = {"label": f"dockerlab.lab={name}"}
        assert len(engine.client.api.containers(filters=filters)) == 2
        os.kill(process.pid, end)
    wait_until_gone(engine, name)
    assert not (Path(state) / "dockerlab" / "labs" / name).exists()
    assert not psutil.pid_exists(int(router)) or psutil.Process(int(router)).status() == psutil.STATUS_ZOMBIE


def test_clean_leaves_the_lab_of_a_live_process(engine: Engine, web1: Image) -> None:
    command = [sys.executable, "-c", EPHEMERAL, web1.name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        name, *_ = process.stdout.readline().split()
        report = clean(engine, names=[name])
        assert any(f"process {process.pid} drives it" in line for line in report.kept)
        dry = clean(engine, names=[name], force=True, dry_run=True)
        assert sum(line.startswith("container") for line in dry.removed) == 2
        assert len(engine.client.api.containers(filters={"label": f"dockerlab.lab={name}"})) == 2
        process.kill()
    wait_until_gone(engine, name)

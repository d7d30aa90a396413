"""The engine goes away in the middle, or has no room left: a clear error, and a state that the next cell can use."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
import requests
from support import Forwarder

from dockerlab.connect import Engine
from dockerlab.errors import DiskFullError, DockerlabError, EngineLostError
from dockerlab.images import Image
from dockerlab.lab import Lab

Missing = Callable[[str, str], NoReturn]


@pytest.fixture
def wire(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Forwarder]:
    """Put a wire between the SDK and the engine that the test can cut."""
    if not engine.address.startswith("unix://"):
        pytest.skip(f"the engine is not at a unix socket but at {engine.address}")
    listener = socket.create_server(("127.0.0.1", 0))
    monkeypatch.delenv("DOCKERLAB_ENGINE", raising=False)
    monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{listener.getsockname()[1]}")
    forwarder = Forwarder(listener, engine.address.removeprefix("unix://"))
    yield forwarder
    forwarder.cut()


def cut_when(wire: Forwarder, condition: Callable[[], bool]) -> threading.Thread:
    def watch() -> None:
        end_s = time.monotonic() + 30
        while time.monotonic() < end_s and not condition():
            time.sleep(0.02)
        wire.cut()

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def live(engine: Engine, name: str, revision: int = 0) -> int:
    labels = [f"dockerlab.lab={name}"] + ([f"dockerlab.revision={revision}"] if revision else [])
    return len(engine.client.api.containers(filters={"label": labels}))


@pytest.fixture
def back(engine: Engine, monkeypatch: pytest.MonkeyPatch, lab_name: str) -> Iterator[Callable[[], Lab]]:
    """Give a function that opens the lab again once the engine is back; everything is gone afterwards."""
    labs: list[Lab] = []

    def reopen() -> Lab:
        monkeypatch.delenv("DOCKER_HOST")
        labs.append(Lab(lab_name, engine=engine.kind))
        return labs[-1]

    yield reopen
    for lab in labs:
        lab.reset()
    assert live(engine, lab_name) == 0


def test_lost_in_a_scale(engine: Engine, wire: Forwarder, back: Callable[[], Lab], lab_name: str, web1: Image) -> None:
    web = Lab(lab_name).fleet("web", web1, replicas=1)
    thread = cut_when(wire, lambda: live(engine, lab_name) >= 4)
    with pytest.raises(EngineLostError) as caught:
        web.scale(25)
    thread.join()
    assert caught.value.advice
    web = back().fleets["web"]
    assert web.scale(3).ready == 3
    assert live(engine, lab_name) == 3


def test_lost_in_a_rollout(
    engine: Engine, wire: Forwarder, back: Callable[[], Lab], lab_name: str, web1: Image, web2: Image
) -> None:
    web = Lab(lab_name).fleet("web", web1, replicas=4)
    thread = cut_when(wire, lambda: live(engine, lab_name, revision=2) >= 1)
    with pytest.raises(EngineLostError):
        web.rollout(web2)
    thread.join()
    web = back().fleets["web"]
    assert web.rollout(web2).status == "Complete"
    assert live(engine, lab_name, revision=2) == live(engine, lab_name) == 4


def test_lost_in_a_build(
    wire: Forwarder, back: Callable[[], Lab], lab_name: str, base_image: Image, tmp_path: Path
) -> None:
    (tmp_path / "Dockerfile").write_text("FROM dockerlab/base:1\nRUN echo here && sleep 5\n", encoding="utf-8")
    lab, begun = Lab(lab_name), threading.Event()
    thread = cut_when(wire, begun.is_set)

    def notice(answer: requests.Response, **_: object) -> None:
        if "/build" in str(answer.url):
            begun.set()

    lab.client.api.hooks["response"].append(notice)
    with pytest.raises(EngineLostError):
        lab.build(tmp_path, tag="lost:test", no_cache=True, quiet=True)
    thread.join()
    assert back().image("dockerlab/base:1").id == base_image.id


def test_lost_in_a_run(
    wire: Forwarder, back: Callable[[], Lab], engine: Engine, lab_name: str, base_image: Image
) -> None:
    lab = Lab(lab_name)
    thread = cut_when(wire, lambda: live(engine, lab_name) == 1)
    with pytest.raises(EngineLostError):
        lab.run(base_image, "sleep 20")
    thread.join()
    back()


@pytest.fixture
def small_engine(missing: Missing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """Give a lab on a Docker Engine of its own whose disk is 60 MB."""
    program = shutil.which("dockerd")
    if program is None or os.geteuid() != 0:
        missing("dockerd", "a second Docker Engine needs the program dockerd and root")
    disk, address = tmp_path / "disk", f"unix://{tmp_path}/d.sock"
    disk.mkdir()
    # In network and mount namespaces of its own: the first engine's bridge and rules stay as they are.
    script = f"mount -t tmpfs -o size=60m tmpfs {disk} && ip link set lo up && exec {program} --data-root {disk} "
    script += f"--exec-root {tmp_path}/exec -H {address} -p {tmp_path}/pid --iptables=false --ip6tables=false"
    log = (tmp_path / "log").open("wb")
    daemon = subprocess.Popen(["unshare", "--net", "--mount", "sh", "-c", script], stdout=log, stderr=log)
    try:
        end_s = time.monotonic() + 60
        while not (tmp_path / "d.sock").exists():
            assert daemon.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < end_s
            time.sleep(0.1)
        monkeypatch.setenv("DOCKER_HOST", address)
        lab = Lab("small")
        yield lab
        lab.reset()
        lab.client.close()
    finally:
        daemon.terminate()
        daemon.wait(30)
        log.close()


def test_a_full_disk(small_engine: Lab, tmp_path: Path) -> None:
    lab, folder = small_engine, tmp_path / "context"
    folder.mkdir()
    (folder / "Dockerfile").write_text("FROM dockerlab/base:1\nCOPY big /big\n", encoding="utf-8")
    (folder / "big").write_bytes(os.urandom(80 * 2**20))
    with pytest.raises(DiskFullError) as caught:
        lab.build(folder, tag="big:1", quiet=True)
    assert "docker image prune" in caught.value.advice
    assert not lab.client.api.containers(all=True)
    # A step that fills the disk itself fails as a step; what it printed says why.
    (folder / "big").unlink()
    (folder / "Dockerfile").write_text("FROM dockerlab/base:1\nRUN dd if=/dev/zero of=/big bs=1M\n", encoding="utf-8")
    with pytest.raises(DockerlabError, match="No space left on device"):
        lab.build(folder, tag="big:1", quiet=True)
    assert not lab.client.api.containers(all=True)
    # The disk has room again.
    assert str(lab.run("dockerlab/base:1", "echo fine")) == "fine"

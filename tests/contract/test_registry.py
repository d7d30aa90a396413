"""The registry of a lab: what was built once goes through it to wherever it runs."""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import docker.errors
import psutil
import pytest

from dockerlab.errors import BadInputError, ImageNotFoundError, LabClosedError, RegistryError
from dockerlab.images import Image, Registry, build
from dockerlab.images.build import build_context
from dockerlab.lab import Lab
from dockerlab.lab import registry as launch
from dockerlab.lab.home import Home
from dockerlab.processes import registries_with


@pytest.fixture(params=["distribution", "own"])
def registry(request: pytest.FixtureRequest, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """Give the lab's registry, served by either program."""
    if request.param == "distribution" and not shutil.which(launch.PROGRAM):
        request.getfixturevalue("missing")("registry", f"the program {launch.PROGRAM} is not installed")
    if request.param == "own":
        monkeypatch.setattr(launch, "PROGRAM", "no-such-program")
    return lab.registry()


@pytest.fixture
def image(lab: Lab, base_image: Image, tmp_path: Path) -> Image:
    """Give an image that nothing else has, of two layers of its own."""
    return make(lab, tmp_path / "one", f"FROM {base_image.name}\nRUN echo shared > /shared\nCOPY own /own\n")


def make(lab: Lab, folder: Path, dockerfile: str) -> Image:
    folder.mkdir()
    (folder / "Dockerfile").write_text(dockerfile)
    (folder / "own").write_text(uuid.uuid4().hex)
    return build(lab.client, folder, tag=f"{lab.name}:{folder.name}")


@pytest.fixture(autouse=True)
def no_images_left(lab: Lab) -> Iterator[None]:
    """Remove what a test built, before the lab goes."""
    yield
    for row in lab.client.api.images(name=lab.name):
        for name in row["RepoTags"] or ():
            lab.client.api.remove_image(name)


def test_what_is_pushed_comes_back_the_same(
    lab: Lab, registry: Registry, image: Image, capsys: pytest.CaptureFixture[str]
) -> None:
    assert re.fullmatch(r"127\.0\.0\.1:\d+", registry.address)
    pinned = registry.push(image, "web:1")
    assert re.fullmatch(rf"{registry.address}/web@sha256:[0-9a-f]{{64}}", pinned)
    assert list(lab.commands) == [
        f"docker tag {image.name} {registry.address}/web:1",
        f"docker push {registry.address}/web:1",
    ]
    assert f"web:1 is {pinned.partition('@')[2]}" in capsys.readouterr().out
    for name in (f"{registry.address}/web:1", image.name):
        lab.client.api.remove_image(name)
    with pytest.raises(ImageNotFoundError):
        lab.image(image.id)
    for name in ("web:1", f"{registry.address}/web:1", pinned, pinned.partition("/")[2]):
        assert registry.pull(name, quiet=True).id == image.id
    assert list(lab.commands) == [f"docker pull {pinned}"]
    assert capsys.readouterr().out == ""
    assert pinned in lab.image(f"{registry.address}/web:1").digests
    assert lab.run(pinned, "cat /shared").output == "shared\n"


def test_tags_move_and_digests_do_not(lab: Lab, registry: Registry, image: Image, tmp_path: Path) -> None:
    second = make(lab, tmp_path / "two", f"FROM {image.name}\nCOPY own /second\n")
    first = registry.push(image, "web:latest", quiet=True)
    moved = registry.push(second, "web", quiet=True)
    assert first != moved
    assert registry.tags("web") == {"latest": moved.partition("@")[2]}
    assert registry.pull(first, quiet=True).id == image.id
    assert registry.pull("web", quiet=True).id == second.id


def test_promotion_gives_the_same_image_another_name(
    registry: Registry, image: Image, capsys: pytest.CaptureFixture[str]
) -> None:
    tested = registry.push(image, "team/web:1")
    assert "Pushed" in capsys.readouterr().out
    assert registry.push(registry.pull("team/web:1"), "team/web:production") == tested
    out = capsys.readouterr().out
    assert "Layer already exists" in out
    assert ": Pushed" not in out
    digest = tested.partition("@")[2]
    assert registry.tags("team/web") == {"1": digest, "production": digest}
    assert registry.push(image, "live:1").partition("@")[2] == digest
    assert "Mounted from team/web" in capsys.readouterr().out
    assert registry.repositories() == ("live", "team/web")


def test_layers_are_kept_once(lab: Lab, registry: Registry, image: Image, tmp_path: Path) -> None:
    second = make(lab, tmp_path / "two", f"FROM {image.name}\nCOPY own /second\n")
    pinned = registry.push(image, "web:1", quiet=True)
    registry.push(second, "web:2", quiet=True)
    one, two = registry.layers("web:1"), registry.layers("web:2")
    assert two[:-1] == one == registry.layers(pinned)
    assert all(layer.size_bytes > 0 for layer in two)
    assert str(one[0]).startswith(one[0].digest[7:19])


def test_what_is_wrong_is_said(lab: Lab, registry: Registry, image: Image) -> None:
    for ask in (
        lambda: registry.pull("web:1"),
        lambda: registry.tags("web"),
        lambda: registry.layers("web:1"),
        lambda: registry.pull("web@sha256:" + "0" * 64),
    ):
        with pytest.raises(RegistryError, match=r"has no 'web.*\n.*push"):
            ask()
    assert registry.repositories() == ()
    for name in ("Web:1", "web:1:2", "web:", "", " "):
        with pytest.raises(BadInputError, match="cannot name an image"):
            registry.push(image, name or " ")
    with pytest.raises(BadInputError, match="is a digest"):
        registry.push(image, "web@sha256:" + "0" * 64)
    with pytest.raises(ImageNotFoundError):
        registry.push("no-such-image:1", "web:1")
    lab.close()
    with pytest.raises(LabClosedError):
        registry.push(image, "web:1")


def test_one_a_lab_and_reset_ends_it(lab: Lab, registry: Registry, image: Image) -> None:
    registry.push(image, "web:1", quiet=True)
    assert lab.registry().address == registry.address
    (process,) = registries_with(Home(lab.name).registry)
    report = lab.reset()
    assert {f"image {registry.address}/web:1", f"registry, port {registry.address.partition(':')[2]}"} <= {
        *report.removed
    }
    assert not [line for line in report.kept if registry.address in line]
    assert not process.alive()
    assert not Home(lab.name).path.exists()
    assert lab.image(image.name).digests == ()
    with pytest.raises(docker.errors.ImageNotFound):
        lab.client.api.inspect_image(f"{registry.address}/web:1")
    with pytest.raises(RegistryError, match="does not answer"):
        registry.repositories()
    assert lab.registry().repositories() == ()


def test_a_named_lab_finds_its_registry_again(lab: Lab, registry: Registry, image: Image) -> None:
    pinned = registry.push(image, "web:1", quiet=True)
    lab.close()
    again = Lab(lab.name, engine=lab.engine.kind)
    assert again.registry().address == registry.address
    for process in registries_with(Home(lab.name).registry):
        process.end()
    later = again.registry()
    assert later.address == registry.address  # the names on the engine are still right
    assert later.tags("web") == {"1": pinned.partition("@")[2]}
    assert len(registries_with(Home(lab.name).registry)) == 1
    again.close()


def test_a_port_that_was_taken_meanwhile(lab: Lab, registry: Registry, image: Image) -> None:
    registry.push(image, "web:1", quiet=True)
    other = Lab(f"{lab.name}-b", engine=lab.engine.kind)
    try:
        for process in registries_with(Home(lab.name).registry):
            process.end()
        home = Home(other.name)
        launch._save(home, launch.RegistryRecord(int(registry.address.partition(":")[2])))
        theirs = other.registry()
        assert theirs.address == registry.address
        moved = lab.registry()
        assert moved.address != registry.address
        assert set(moved.tags("web")) == {"1"}
        theirs.push(image, "web:2", quiet=True)
        lab.reset()
        assert lab.image(f"{theirs.address}/web:2").id == image.id
    finally:
        other.reset()
        other.close()


def test_where_the_engine_has_a_loopback_of_its_own(
    lab: Lab, image: Image, monkeypatch: pytest.MonkeyPatch, missing: Callable[[str, str], NoReturn]
) -> None:
    program = shutil.which(launch.PROGRAM)
    if program is None:
        missing("registry", f"the program {launch.PROGRAM} is not installed")
    linked = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as archive:
        for path in (program, *re.findall(r"(/\S+) \(0x", linked)):
            archive.add(os.path.realpath(path), f"root/{path}")
        for name, text in (
            ("root/config.yml", "{version: 0.1, storage: {filesystem: {rootdirectory: /data}}, http: {addr: ':5000'}}"),
            ("Dockerfile", f'FROM scratch\nCOPY root /\nCMD ["{program}", "serve", "/config.yml"]\n'),
        ):
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    context.seek(0)
    build_context(lab.client, context, tag=f"{lab.name}:server")
    monkeypatch.setenv(launch.IMAGE_VARIABLE, f"{lab.name}:server")
    lab.engine = replace(lab.engine, desktop=True)
    registry = lab.registry()
    pinned = registry.push(image, "web:1", quiet=True)
    server = lab.client.containers.get(f"{lab.name}-registry")
    server.stop(timeout=1)
    again = lab.registry()
    assert again.address == registry.address
    assert again.tags("web") == {"1": pinned.partition("@")[2]}
    removed = lab.reset().removed
    assert f"container {lab.name}-registry" in removed
    assert f"image {registry.address}/web:1" in removed
    with pytest.raises(RegistryError):
        again.repositories()


def test_an_ephemeral_lab_that_is_killed_takes_its_registry_along(lab: Lab, base_image: Image) -> None:
    code = (
        "import sys, time; import dockerlab as dl; from dockerlab.lab.home import Home\n"
        f"lab = dl.Lab(engine={lab.engine.kind!r}); registry = lab.registry()\n"
        f"registry.push({base_image.id!r}, 'web:1', quiet=True)\n"
        "print(registry.address, Home(lab.name).registry, flush=True); time.sleep(600)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    with child.stdout as output:
        address, folder = output.readline().split()
    (process,) = registries_with(Path(folder))
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    ends = time.monotonic() + 30
    while (process.alive() or Path(folder).exists()) and time.monotonic() < ends:
        time.sleep(0.1)
    assert not process.alive()
    assert not Path(folder).exists()
    assert not [one for one in lab.image(base_image.id).tags if one.startswith(address)]
    assert not psutil.pid_exists(process.pid)

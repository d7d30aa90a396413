"""Each rung of the ladder to the base image, alone and against the real thing."""

from __future__ import annotations

import os
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from support import image_names

from dockerlab.connect import Engine
from dockerlab.errors import BaseImageError
from dockerlab.images import BASE_TAG, Image, base, find, rootfs

Missing = Callable[[str, str], NoReturn]


@pytest.fixture
def tag(engine: Engine) -> Iterator[str]:
    """A tag of one's own; its image is gone afterwards, or only the tag where the image has others."""
    name = f"dockerlab-test/{uuid.uuid4().hex[:8]}:1"
    yield name
    if engine.client.images.list(name.rpartition(":")[0]):
        engine.client.images.remove(name)


@pytest.fixture(autouse=True)
def forget_failed_pulls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "_failed_pulls", {})


def works(engine: Engine, image: Image) -> None:
    """The image has what the course's Dockerfiles and scripts need."""
    script = (
        "set -e; id -un; stat -c %a /tmp; ls -d /root /home /var/www /etc/group; grep -c nobody /etc/passwd;"
        " /usr/bin/env sh -c 'echo env works'; echo $PATH;"
        " for a in httpd mkfifo usleep wget tr sed cut rm; do command -v $a >/dev/null; done;"
        " httpd --help 2>&1 | head -1"
    )
    said = engine.client.containers.run(image.id, ["sh", "-c", script], remove=True).decode()
    assert said.startswith("root\n1777\n")
    assert "env works" in said
    assert "/usr/local/bin" in said
    # The multi-call program names itself in its help.
    assert "BusyBox" in said


def test_ensure_is_quick_when_it_is_there(engine: Engine, base_image: Image) -> None:
    begun = time.monotonic()
    assert base.ensure(engine.client, environ={}).id == base_image.id
    assert time.monotonic() - begun < 1
    assert BASE_TAG in base_image.tags
    works(engine, base_image)


def test_rung_1_says_when_it_is_not_there(engine: Engine) -> None:
    with pytest.raises(base.RungError, match="not there"):
        base.already_there(engine.client, tag="dockerlab-test/nosuch:1")


def test_rung_2_tags_a_busybox_image(engine: Engine, base_image: Image, tag: str) -> None:
    there = any(name.startswith("busybox:") for name in image_names(engine.client))
    mine = f"busybox:dockerlab-test-{uuid.uuid4().hex[:8]}"
    if not there:
        with pytest.raises(base.RungError, match="not there"):
            base.from_busybox_image(engine.client, tag=tag)
        engine.client.api.tag(base_image.id, *mine.split(":"))
    try:
        image = base.from_busybox_image(engine.client, tag=tag)
    finally:
        if not there:
            engine.client.images.remove(mine)
    assert tag in image.tags
    works(engine, image)


@pytest.fixture
def pushed(engine: Engine, base_image: Image, registry: str) -> Iterator[str]:
    """The digest of an image that was pushed there as library/busybox and is not on the engine under that name."""
    name = f"{registry}/library/busybox"
    engine.client.api.tag(base_image.id, name, "1")
    told = list(engine.client.api.push(name, "1", stream=True, decode=True))
    digest = next(message["aux"]["Digest"] for message in told if "aux" in message)
    engine.client.images.remove(f"{name}:1")
    yield digest
    for reference in (f"{name}@{digest}", f"{name}:1"):
        if reference in image_names(engine.client):
            engine.client.images.remove(reference)


def test_rung_3_pulls_by_digest(engine: Engine, registry: str, pushed: str, tag: str) -> None:
    image = base.from_registry(engine.client, registry=registry, digest=pushed, tag=tag)
    assert tag in image.tags
    assert f"{registry}/library/busybox@{pushed}" in image.digests
    works(engine, image)


def test_rung_3_does_not_take_another_image_for_the_pinned_one(
    engine: Engine, registry: str, pushed: str, tag: str
) -> None:
    """A mirror that does not have the official image cannot pass something else off as it."""
    assert pushed != base.BUSYBOX_DIGEST
    with pytest.raises(base.RungError, match=r"not found|unknown"):
        base.from_registry(engine.client, registry=registry, tag=tag)


def test_rung_3_remembers_a_failed_pull(engine: Engine) -> None:
    with pytest.raises(base.RungError) as first:
        base.from_registry(engine.client, registry="127.0.0.1:9")
    with pytest.raises(base.RungError, match="not tried again"):
        base.from_registry(engine.client, registry="127.0.0.1:9")
    assert "not tried again" not in str(first.value)


def test_rung_3_does_not_wait_for_a_silent_registry(engine: Engine) -> None:
    """A server that takes the connection and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=20) as server:
        accepted: list[socket.socket] = []
        server.settimeout(5)

        def accept() -> None:
            try:
                while True:
                    accepted.append(server.accept()[0])
            except OSError:
                return

        thread = threading.Thread(target=accept)
        thread.start()
        begun = time.monotonic()
        try:
            with pytest.raises(base.RungError, match="no answer within 1 s"):
                base.from_registry(engine.client, registry=f"127.0.0.1:{server.getsockname()[1]}", silence_limit_s=1)
            assert time.monotonic() - begun < 4
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in accepted:
                connection.close()


def busybox(missing: Missing, folder: Path) -> Path:
    """A static busybox, from this machine or from Debian's package."""
    found = shutil.which("busybox")
    if found and not rootfs.unfit(Path(found), os.uname().machine):
        return Path(found)
    return missing("busybox", "no static busybox on this machine (Debian package busybox-static)")


def test_rung_4_builds_from_a_static_busybox(engine: Engine, missing: Missing, tag: str, tmp_path: Path) -> None:
    busybox(missing, tmp_path)
    image = base.from_machine(engine.client, tag=tag)
    assert tag in image.tags
    assert [layer.instruction.split()[0] for layer in image.layers][:3] == ["ADD", "ENV", "CMD"]
    assert image.layers[0].size_bytes == image.size_bytes
    works(engine, image)


def test_rung_4_makes_the_same_bytes_each_time(missing: Missing, tmp_path: Path) -> None:
    program = busybox(missing, tmp_path)
    copy = tmp_path / "elsewhere"
    shutil.copyfile(program, copy)
    copy.chmod(0o755)
    assert rootfs.context(program).getvalue() == rootfs.context(copy).getvalue()


def test_rung_4_refuses_what_does_not_fit(engine: Engine, missing: Missing, tmp_path: Path) -> None:
    static = busybox(missing, tmp_path)
    machine = os.uname().machine
    other = "aarch64" if machine == "x86_64" else "amd64"
    dynamic = Path(shutil.which("ls") or "/bin/ls").resolve()
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    cut = tmp_path / "cut"
    cut.write_bytes(static.read_bytes()[:40])
    assert rootfs.unfit(static, machine) == ""
    assert "another architecture" in rootfs.unfit(static, other)
    assert "is not one that this is made for" in rootfs.unfit(static, "riscv64")
    assert "not static" in rootfs.unfit(dynamic, machine)
    assert "not a 64-bit Linux program" in rootfs.unfit(script, machine)
    assert "cannot be used" in rootfs.unfit(cut, machine)
    assert "cannot be used" in rootfs.unfit(tmp_path / "nosuch", machine)


def test_rung_4_looks_on_the_path_first(
    engine: Engine, missing: Missing, tag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = busybox(missing, tmp_path)
    shutil.copyfile(program, tmp_path / "busybox")
    (tmp_path / "busybox").chmod(0o755)
    monkeypatch.setattr(base, "_PLACES", ())
    with pytest.raises(base.RungError, match="not installed"):
        base.from_machine(engine.client, tag=tag, environ={"PATH": str(tmp_path / "nosuch")})
    assert tag in base.from_machine(engine.client, tag=tag, environ={"PATH": str(tmp_path)}).tags


def test_rung_5_builds_from_the_package(engine: Engine, missing: Missing, tag: str) -> None:
    try:
        image = base.from_package(engine.client, tag=tag)
    except base.RungError as error:
        missing("package", f"busybox-static cannot be downloaded here: {error}")
    assert tag in image.tags
    works(engine, image)


def test_when_nothing_works_the_error_names_every_way(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if any("busybox" in name for name in image_names(engine.client)):
        pytest.skip("a busybox image is on this engine, so one way works")
    monkeypatch.setattr(base, "BASE_TAG", "dockerlab-test/nosuch:1")
    monkeypatch.setattr(base.already_there, "__kwdefaults__", {"tag": "dockerlab-test/nosuch:1"})
    monkeypatch.setattr(base, "_PLACES", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BaseImageError) as caught:
        base.ensure(engine.client, environ={"PATH": str(tmp_path), "DOCKERLAB_REGISTRY": "127.0.0.1:9"})
    text = str(caught.value)
    for part in ("on the engine: not there", "busybox from 127.0.0.1:9: ", "not installed", "apt-get is not on this"):
        assert part in text
    for remedy in ("docker pull busybox", "DOCKERLAB_REGISTRY", "busybox-static", "docker load"):
        assert remedy in text


def test_find_sees_the_history_of_the_base(engine: Engine, base_image: Image) -> None:
    assert find(engine.client, BASE_TAG).layers == base_image.layers
    assert base_image.layers

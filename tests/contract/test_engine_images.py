"""Images go to Docker Engine and come back the same: by archives, and over our registry."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from support import image_names

from dockerlab.connect import Engine
from dockerlab.engine.images import ImageRecord, Images, host_architecture
from dockerlab.images import Image

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the embedded engine runs on Linux only")


@pytest.fixture
def images(tmp_path: Path) -> Images:
    return Images(tmp_path / "store")


@pytest.fixture
def name(engine: Engine) -> Iterator[str]:
    """A repository of one's own; what is on the engine under it is gone afterwards."""
    repository = f"dockerlab-test/{uuid.uuid4().hex[:8]}"
    yield repository
    for one in image_names(engine.client):
        if f"{repository}:" in one or f"{repository}@" in one:
            with contextlib.suppress(docker.errors.ImageNotFound):  # a digest goes with its tag
                engine.client.api.remove_image(one)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("registry")
    command = [sys.executable, "-m", "dockerlab.engine.images.serve", str(folder), "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout as output:
        address = output.readline().strip()
        yield address
        process.terminate()
        assert process.wait(10) == 0


def make(images: Images, tag: str) -> ImageRecord:
    """Make an image that no engine has yet, with all that a layer can hold."""
    layers = []
    for step in range(2):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for path, kind, target in (
                ("d", tarfile.DIRTYPE, ""),
                ("d/file", tarfile.REGTYPE, ""),
                ("d/hard", tarfile.LNKTYPE, "d/file"),
                ("d/pipe", tarfile.FIFOTYPE, ""),
                (
                    "d/.wh.soft" if step else "d/soft",
                    tarfile.REGTYPE if step else tarfile.SYMTYPE,
                    "" if step else "/d/file",
                ),
            ):
                info = tarfile.TarInfo(path)
                info.type, info.linkname, info.mode, info.uid = kind, target, 0o4755, 1000
                content = uuid.uuid4().bytes * 1000 if path == "d/file" else b""
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        buffer.seek(0)
        layers.append(images.add_layer(buffer).diff_id)
    config: dict[str, Any] = {
        "architecture": host_architecture(),
        "os": "linux",
        "created": "2026-01-02T03:04:05.123456789Z",
        "config": {"Cmd": ["sh"], "Labels": {"a": "<b>&"}, "Env": ["PATH=/bin"]},
        "history": [{"created": "2026-01-02T03:04:05Z", "created_by": f"COPY {one}"} for one in "ab"],
        "rootfs": {"type": "layers", "diff_ids": layers},
    }
    record = images.add_image(config)
    images.tag(record.id, tag)
    return images.get(record.id)


def test_docker_save_is_loaded_with_the_same_ids(engine: Engine, base_image: Image, images: Images, name: str) -> None:
    dockerfile = f'FROM {base_image.id}\nRUN echo {name} > /own && chmod 4700 /own && rm /etc/group\nCMD ["own"]\n'
    for tag in ("1", "2"):
        text = dockerfile + (f"ENV TWO={name}\n" if tag == "2" else "")
        engine.client.images.build(fileobj=io.BytesIO(text.encode()), tag=f"{name}:{tag}", rm=True)
    archive = b"".join(engine.client.api.get_image(name))
    assert sorted(images.load(io.BytesIO(archive))) == [f"{name}:1", f"{name}:2"]
    for tag in ("1", "2"):
        theirs, ours = engine.client.api.inspect_image(f"{name}:{tag}"), images.get(f"{name}:{tag}")
        assert ours.id == theirs["Id"]
        assert list(ours.diff_ids) == theirs["RootFS"]["Layers"]
        rows = engine.client.api.history(f"{name}:{tag}")
        assert ours.size_bytes == theirs["Size"]
        shown = ("Created", "CreatedBy", "Size", "Comment")
        assert [[row[key] for key in shown] for row in images.history(ours)] == [
            [row[key] for key in shown] for row in rows
        ]
    tree = images.tree(images.get(f"{name}:1"))
    assert tree.read("/own").decode().strip() == name
    found = tree.lookup("/own")
    assert found is not None
    assert found.mode == 0o4700
    assert tree.lookup("/etc/group") is None
    assert tree.lookup("/bin/sh") is not None


def test_what_we_save_docker_loads_with_the_same_ids(engine: Engine, images: Images, name: str, tmp_path: Path) -> None:
    record = make(images, f"{name}:1")
    with (tmp_path / "archive.tar").open("wb") as file:
        images.save([f"{name}:1"], file)
    with (tmp_path / "archive.tar").open("rb") as file:
        engine.client.images.load(file)
    theirs = engine.client.api.inspect_image(f"{name}:1")
    assert theirs["Id"] == record.id
    assert theirs["RootFS"]["Layers"] == list(record.diff_ids)
    assert theirs["Size"] == record.size_bytes
    rows = [[row[key] for key in ("Created", "CreatedBy", "Size")] for row in images.history(record)]
    assert rows == [
        [row[key] for key in ("Created", "CreatedBy", "Size")] for row in engine.client.api.history(record.id)
    ]
    back = Images(tmp_path / "back")
    back.load(io.BytesIO(b"".join(engine.client.api.get_image(f"{name}:1"))))
    assert back.get(f"{name}:1").id == record.id


def test_docker_pushes_to_our_registry_and_pulls_from_it(
    engine: Engine, images: Images, name: str, registry: str, tmp_path: Path
) -> None:
    api = engine.client.api
    record = make(images, f"{registry}/{name}:1")
    with (tmp_path / "archive.tar").open("wb") as file:
        images.save([f"{registry}/{name}:1"], file)
    with (tmp_path / "archive.tar").open("rb") as file:
        engine.client.images.load(file)
    api.tag(record.id, f"{registry}/other/{name}", "1")  # Docker asks for the blobs by a mount
    digests = set()
    for repository in (f"{registry}/{name}", f"{registry}/other/{name}"):
        told = list(api.push(repository, "1", stream=True, decode=True))
        assert not [one for one in told if "error" in one], told
        digests.add(next(one["aux"]["Digest"] for one in told if "aux" in one))
    assert len(digests) == 1
    assert "Mounted from" in str(told)
    for one in (f"{registry}/{name}:1", f"{registry}/other/{name}:1"):
        api.remove_image(one)
    digest = digests.pop()
    for reference in (f"{registry}/{name}:1", f"{registry}/{name}@{digest}"):
        assert engine.client.images.pull(reference).id == record.id


def test_what_we_push_docker_pulls(engine: Engine, images: Images, name: str, registry: str, tmp_path: Path) -> None:
    import asyncio

    from dockerlab.engine.images import parse
    from dockerlab.engine.images.transfer import pull, push

    record = make(images, f"{registry}/{name}:1")
    digest = asyncio.run(push(images, parse(f"{registry}/{name}:1"), progress=lambda message: None))
    theirs = engine.client.images.pull(f"{registry}/{name}", "1")
    assert theirs.id == record.id
    assert theirs.attrs["RepoDigests"] == [f"{registry}/{name}@{digest}"]
    told = list(engine.client.api.push(f"{registry}/{name}", "1", stream=True, decode=True))
    assert next(one["aux"]["Digest"] for one in told if "aux" in one) == digest
    other = Images(tmp_path / "other")
    assert asyncio.run(pull(other, parse(f"{registry}/{name}:1"), progress=lambda message: None)).id == record.id

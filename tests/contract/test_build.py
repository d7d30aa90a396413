"""Building images on a real engine."""

from __future__ import annotations

import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from support import processes_with

from dockerlab.connect import Engine
from dockerlab.errors import BadInputError, BuildError, DockerfileError, EngineError, ImageError, ImageNotFoundError
from dockerlab.images import Image, base, build, find
from dockerlab.images.layers import format_size


@pytest.fixture
def tag(engine: Engine) -> Iterator[str]:
    """A tag of one's own; its images are gone afterwards."""
    name = f"dockerlab-test/{uuid.uuid4().hex[:8]}"
    yield f"{name}:1"
    for image in engine.client.images.list(name):
        engine.client.images.remove(image.id, force=True)


def write(folder: Path, dockerfile: str, **files: str) -> Path:
    (folder / "Dockerfile").write_text(dockerfile)
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)
    return folder


def run(engine: Engine, image: Image, command: list[str]) -> str:
    return engine.client.containers.run(image.id, command, remove=True).decode()


def test_steps_progress_and_cache(engine: Engine, base_image: Image, tag: str, tmp_path: Path) -> None:
    once = uuid.uuid4().hex
    folder = write(
        tmp_path,
        f"FROM dockerlab/base:1\n# a comment\nRUN sleep 0.3 && \\\n    echo hello {once}\n"
        "COPY a.txt /a.txt\nARG WHO=nobody\nENV WHO=$WHO\n",
        a_txt="content",
    )
    lines: list[str] = []
    first = build(engine.client, folder, tag=tag, args={"WHO": "me"}, progress=lines.append)
    steps = {step.instruction.split()[0]: step for step in first.steps}
    assert [step.number for step in first.steps] == list(range(1, first.steps[0].total + 1))
    assert steps["RUN"].output == f"hello {once}\n"
    assert 0.3 <= steps["RUN"].seconds < 10
    assert not steps["RUN"].cached
    assert [str(step) for step in first.steps] == [line for line in lines if line.startswith("[")]
    assert f"      hello {once}" in lines
    assert first.tags == (tag,)
    assert ("dockerlab.image", "true") in first.labels
    assert first.size_bytes == find(engine.client, "dockerlab/base:1").size_bytes + len("content")
    # Docker Engine 20.10 loses a last line without an end, now and then on a busy machine.
    assert run(engine, first, ["sh", "-c", "echo $WHO; cat /a.txt; echo"]) == "me\ncontent\n"

    again = build(engine.client, folder, tag=tag, args={"WHO": "me"})
    assert again.id == first.id
    assert all(step.cached for step in again.steps[1:])

    fresh = build(engine.client, folder, tag=tag, args={"WHO": "me"}, no_cache=True)
    assert not any(step.cached for step in fresh.steps)
    assert fresh.id != first.id
    # The image that had the tag before is still there, under its id.
    assert find(engine.client, first.id).tags == ()
    engine.client.images.remove(first.id)


def test_the_layers_of_a_built_image(engine: Engine, base_image: Image, tag: str, tmp_path: Path) -> None:
    folder = write(tmp_path, 'FROM dockerlab/base:1\nRUN head -c 100000 /dev/zero > /zeros\nCMD ["sh"]\n')
    image = build(engine.client, folder, tag=tag)
    ours = image.layers[len(base_image.layers) :]
    assert ours[0].instruction == "RUN head -c 100000 /dev/zero > /zeros"
    assert ours[0].size_bytes == 100_000
    assert not ours[0].empty
    assert [layer.empty for layer in ours[1:]] == [True] * (len(ours) - 1)
    assert sum(layer.size_bytes for layer in image.layers) == image.size_bytes
    assert format_size(100_000) in image._repr_html_()


def test_dockerignore_and_another_dockerfile(engine: Engine, base_image: Image, tag: str, tmp_path: Path) -> None:
    folder = write(tmp_path, "FROM nothing", secret_txt="s", a_txt="a")
    (folder / ".dockerignore").write_text("*.txt\n!a.txt\n")
    (folder / "Other").write_text("FROM dockerlab/base:1\nCOPY . /all/\n")
    image = build(engine.client, folder, tag=tag, dockerfile="Other")
    assert "secret" not in run(engine, image, ["ls", "/all"])
    assert "a.txt" in run(engine, image, ["ls", "/all"])


def test_a_failing_step(engine: Engine, base_image: Image, tag: str, tmp_path: Path) -> None:
    before = {entry["Id"] for entry in engine.client.api.containers(all=True)}
    folder = write(tmp_path, "FROM dockerlab/base:1\nRUN echo about to fail; exit 7\nRUN echo never\n")
    with pytest.raises(BuildError) as caught:
        build(engine.client, folder, tag=tag)
    assert (caught.value.step, caught.value.instruction) == (2, "RUN echo about to fail; exit 7")
    assert caught.value.output == "about to fail\n"
    assert "7" in str(caught.value)
    left = [entry for entry in engine.client.api.containers(all=True) if entry["Id"] not in before]
    assert not [entry for entry in left if "about to fail" in entry["Command"]]


def test_a_file_that_is_not_there(engine: Engine, base_image: Image, tag: str, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"nosuch\.txt") as caught:
        build(engine.client, write(tmp_path, "FROM dockerlab/base:1\nCOPY nosuch.txt /\n"), tag=tag)
    assert caught.value.instruction == "COPY nosuch.txt /"


@pytest.mark.parametrize(
    "case",
    [
        ("FROM dockerlab/base:1\n\nRUNN true\n", "line 3: RUNN true"),
        ("", "does not parse"),
        ("# only a comment\n", "does not parse"),
        ("FROM dockerlab/base:1\nCOPY a\n", "line 2: COPY a"),
        ("RUN true\n", "first instruction must be FROM"),
    ],
)
def test_dockerfiles_that_do_not_parse(
    engine: Engine, base_image: Image, tag: str, tmp_path: Path, case: tuple[str, str]
) -> None:
    dockerfile, shown = case
    with pytest.raises(DockerfileError) as caught:
        build(engine.client, write(tmp_path, dockerfile), tag=tag)
    assert shown in str(caught.value)


def test_missing_things(engine: Engine, tag: str, tmp_path: Path) -> None:
    with pytest.raises(DockerfileError, match="no folder"):
        build(engine.client, tmp_path / "nosuch", tag=tag)
    with pytest.raises(DockerfileError, match=r"no 'Dockerfile'"):
        build(engine.client, tmp_path, tag=tag)
    for wrong in ("Web 1", "web:1:2", ""):
        with pytest.raises(BadInputError, match="cannot name an image"):
            build(engine.client, write(tmp_path, "FROM scratch"), tag=wrong)
    with pytest.raises(ImageNotFoundError) as caught:
        find(engine.client, "dockerlab-test/nosuch:1")
    assert caught.value.image == "dockerlab-test/nosuch:1"


def test_from_an_image_that_is_not_there(engine: Engine, tag: str, tmp_path: Path) -> None:
    # Port 9 of this machine is no registry: the same answer with and without a network.
    folder = write(tmp_path, "FROM localhost:9/dockerlab-test/nosuch:1\n")
    with pytest.raises(ImageError, match="localhost:9/dockerlab-test/nosuch:1"):
        build(engine.client, folder, tag=tag)


def test_the_base_is_made_when_the_dockerfile_needs_it(
    engine: Engine, tag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    ensure = base.ensure

    def watched(client: docker.DockerClient) -> Image:
        asked.append("base")
        return ensure(client)

    monkeypatch.setattr(base, "ensure", watched)
    build(engine.client, write(tmp_path, "ARG ON=dockerlab/base:1\nFROM $ON\n"), tag=tag)
    assert asked == ["base"]
    build(engine.client, write(tmp_path, f'FROM {tag}\nCMD ["dockerlab/base"]\n'), tag=tag)
    assert asked == ["base"]


def test_an_interrupt_cancels_the_build_on_the_engine(
    engine: Engine, base_image: Image, tag: str, tmp_path: Path
) -> None:
    mark = f"sleep 3{uuid.uuid4().int % 10**6:06d}"
    main = threading.main_thread().ident or 0

    def here() -> list[int]:
        return processes_with(mark)

    def interrupt() -> None:
        ends = time.monotonic() + 10
        while not here() and time.monotonic() < ends:
            time.sleep(0.05)
        signal.pthread_kill(main, signal.SIGINT)

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    hooks = list(engine.client.api.hooks["response"])
    before = signal.signal(signal.SIGINT, stop)
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            build(engine.client, write(tmp_path, f"FROM dockerlab/base:1\nRUN echo started; {mark}\n"), tag=tag)
    finally:
        thread.join()
        signal.signal(signal.SIGINT, before)
    ends = time.monotonic() + 10
    while here() and time.monotonic() < ends:
        time.sleep(0.05)
    assert here() == []
    assert engine.client.api.hooks["response"] == hooks


def test_an_engine_that_goes_away(tmp_path: Path) -> None:
    """A listener that takes the call and hangs up, as an engine does that dies in the middle."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            connection, _ = server.accept()
            connection.recv(1024)
            connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        client = docker.DockerClient(f"tcp://127.0.0.1:{server.getsockname()[1]}", version="1.41", timeout=5)
        try:
            with pytest.raises(EngineError):
                build(client, write(tmp_path, "FROM scratch\n"), tag="dockerlab-test/gone:1")
        finally:
            client.close()
            thread.join()

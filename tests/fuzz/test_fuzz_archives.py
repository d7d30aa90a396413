"""Archives from strangers: images to load, build contexts, files for a container. Nothing outside, nothing left."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Iterator
from typing import Any

import pytest
from fuzz_archives import (
    archive,
    bombs,
    broken_header,
    configuration,
    damaged,
    entry,
    gzip_of,
    saved,
    size_field,
    tars,
    zeros_gzip,
)
from fuzz_rig import Rig, amounts, fuzz, wait_for
from hypothesis import strategies as st
from test_fuzz_api import json_values

TAR = {"Content-Type": "application/x-tar"}
BOMBS = dict([*bombs(), ("zeros", zeros_gzip(100 << 20))])
MIB = 1 << 20


@pytest.fixture
def container(rig: Rig) -> Iterator[str]:
    """Give a container that was only made."""
    name = rig.ask("POST", "/containers/create", {"Image": "fuzz/base:1", "Cmd": ["true"]}).messages[0]["Id"]
    yield name
    assert rig.ask("DELETE", f"/containers/{name}").status == 204


def forget_images(rig: Rig) -> None:
    """Remove every image but the one that containers are made of."""
    for row in rig.ask("GET", "/images/json?all=1").messages[0]:
        if "fuzz/base:1" not in (row["RepoTags"] or ()):
            answer = rig.ask("DELETE", f"/images/{row['Id']}?force=1")
            assert answer.status in (200, 404, 409), answer
    assert rig.ask("POST", "/images/prune").status == 200


def loads(outside: str) -> st.SearchStrategy[bytes]:
    """Draw what could be an archive of images: hostile layers, hostile JSON, damaged bytes."""
    layers = st.lists(tars(outside), max_size=3)
    tags = st.lists(
        st.one_of(st.sampled_from(["x:1", "a/b:2", "x", "X:1", "x@sha256:0", ""]), st.text(max_size=4)), max_size=2
    )
    hostile = st.tuples(layers, tags).map(lambda drawn: saved(*drawn))
    keys = st.sampled_from(
        ["architecture", "os", "config", "rootfs", "history", "created", "author", "variant", "container_config", "id"]
    )
    config = st.tuples(layers, st.dictionaries(keys, json_values(), max_size=3)).map(
        lambda drawn: saved(drawn[0], ["x:1"], config=configuration(drawn[0], **drawn[1]))
    )
    inner = st.dictionaries(
        st.sampled_from(
            [
                "Env",
                "Cmd",
                "Entrypoint",
                "Labels",
                "User",
                "ExposedPorts",
                "Volumes",
                "Healthcheck",
                "WorkingDir",
                "OnBuild",
                "Shell",
            ]
        ),
        json_values(),
        max_size=3,
    )
    runnable = inner.map(lambda drawn: saved([], ["fuzz/odd:1"], config=configuration([], config=drawn)))
    told = st.sampled_from(["Config", "RepoTags", "Layers", "Parent", "LayerSources"])
    row = st.dictionaries(told, st.one_of(json_values(), st.sampled_from(["config.json", ["0/layer.tar"]])), max_size=4)
    manifest = st.one_of(json_values(), st.lists(row, max_size=2)).map(lambda drawn: saved([], [], manifest=drawn))
    index = st.one_of(json_values(), st.dictionaries(st.sampled_from(["manifests", "schemaVersion"]), json_values()))
    layout = index.map(lambda drawn: archive({"index.json": json.dumps(drawn).encode(), "oci-layout": b"{}"}))
    return st.one_of(hostile, config, runnable, manifest, layout, damaged(hostile), tars(outside))


@amounts(80, slow_factor=2)
def test_images_to_load(rig: Rig, amount: int) -> None:
    taken = []

    def check(content: bytes) -> None:
        before = rig.used()
        answer = rig.ask("POST", "/images/load", content, TAR)
        rig.check_answer(answer)
        taken.append(answer.status == 200)
        if answer.status == 200:
            rig.check_answer(rig.ask("GET", "/images/json"))
            for row in rig.ask("GET", "/images/json?all=1").messages[0]:
                rig.check_answer(rig.ask("GET", f"/images/{row['Id']}/json"))
                rig.check_answer(rig.ask("GET", f"/images/{row['Id']}/history"))
            run(rig, "fuzz/odd:1")
            forget_images(rig)
        rig.check_clean()
        assert rig.used() <= before + MIB // 4

    fuzz(amount, loads(str(rig.canary / "x")), check)
    print(f"{sum(taken)} of {len(taken)} were taken")
    forget_images(rig)


def run(rig: Rig, image: str) -> None:
    """Make a container of an image whose configuration is odd."""
    answer = rig.ask("POST", "/containers/create", {"Image": image})
    rig.check_answer(answer)
    if answer.status == 201:
        name = answer.messages[0]["Id"]
        rig.check_answer(rig.ask("POST", f"/containers/{name}/start"))
        rig.check_answer(rig.ask("DELETE", f"/containers/{name}?force=1&v=1"))


@amounts(60, slow_factor=4)
def test_root_file_systems_to_import(rig: Rig, amount: int) -> None:
    changes = st.sampled_from(
        ["", "CMD x", "ENV A", "CMD [", "EXPOSE x", "RUN x", "\0", "LABEL a=b", "USER", "HEALTHCHECK x"]
    )

    def check(drawn: tuple[bytes, str]) -> None:
        query = urllib.parse.urlencode({"fromSrc": "-", "changes": drawn[1]})
        rig.check_answer(rig.ask("POST", f"/images/create?{query}", drawn[0], TAR))
        rig.check_clean()

    fuzz(amount, st.tuples(tars(str(rig.canary / "x")), changes), check)
    forget_images(rig)


@amounts(50, slow_factor=4)
def test_files_for_a_container(rig: Rig, container: str, amount: int) -> None:
    paths = st.sampled_from(
        ["/", "/bin", "/a", "bin/..", "/../../..", "/proc", "/bin/busybox", "/nosuch", "/loop", "%00"]
    )

    def check(drawn: tuple[bytes, str]) -> None:
        content, path = drawn
        place = f"/containers/{container}/archive?path={path}"
        rig.check_answer(rig.ask("PUT", place, content, TAR))
        rig.check_answer(rig.ask("HEAD", place))
        rig.check_answer(rig.ask("GET", place))
        rig.check_answer(rig.ask("GET", f"/containers/{container}/changes"))
        rig.check_clean()

    fuzz(amount, st.tuples(tars(str(rig.canary / "x")), paths), check)


def layer_archives(outside: str) -> list[tuple[str, bytes]]:
    """Give archives that use a link of one entry for the next one."""
    return [
        ("a link, then a file through it", entry("l", kind=b"2", target=outside) + entry("l/x", b"bad")),
        ("a link up, then a file through it", entry("l", kind=b"2", target="../" * 40)
         + entry(f"l{outside}/x", b"bad")),
        ("a link, then a file in its place", entry("l", kind=b"2", target=f"{outside}/secret") + entry("l", b"bad")),
        ("a hard link to outside", entry("l", kind=b"1", target=f"{outside}/secret") + entry("l", b"bad")),
        ("a hard link up", entry("l", kind=b"1", target=f"{'../' * 40}{outside[1:]}/secret") + entry("l", b"bad")),
        ("a hard link through a link", entry("l", kind=b"2", target=outside) + entry("h", kind=b"1", target="l/secret")
         + entry("h", b"bad")),
        ("a hard link to a link", entry("l", kind=b"2", target=f"{outside}/secret") + entry("h", kind=b"1", target="l")
         + entry("h", b"bad")),
        ("a folder that becomes a link", entry("d/", kind=b"5") + entry("d", kind=b"2", target=outside)
         + entry("d/x", b"bad")),
        ("a link that becomes a folder", entry("d", kind=b"2", target=outside) + entry("d/", kind=b"5", mode=0)
         + entry("d/x", b"bad")),
        ("up", entry("../../../../x", b"bad")),
        ("absolute", entry(f"{outside}/x", b"bad")),
        ("a whiteout of outside", entry("l", kind=b"2", target=outside) + entry("l/.wh.secret")),
        ("an opaque mark outside", entry("l", kind=b"2", target=outside) + entry("l/.wh..wh..opq")),
        ("a device", entry("sda", kind=b"4")),
        ("links in a ring", entry("a", kind=b"2", target="b") + entry("b", kind=b"2", target="a")
         + entry("a/x", b"bad")),
        ("a file below a file", entry("f", b"x") + entry("f/x", b"bad")),
    ]  # fmt: skip


def ways(rig: Rig, container: str) -> dict[str, Any]:
    """Give every way in for an archive."""
    dockerfile = entry("Dockerfile", b"FROM fuzz/base:1\nCOPY . /x/\n")
    adding = b"FROM fuzz/base:1\nADD x.tar /x/\n"
    return {
        "load": lambda content: rig.ask("POST", "/images/load", content, TAR),
        "layer": lambda content: rig.ask("POST", "/images/load", saved([content], ["fuzz/layer:1"]), TAR),
        "import": lambda content: rig.ask("POST", "/images/create?fromSrc=-&repo=fuzz/import", content, TAR),
        "archive": lambda content: rig.ask("PUT", f"/containers/{container}/archive?path=/", content, TAR),
        "context": lambda content: rig.ask(
            "POST", "/build?nocache=1", content if content[:2] == b"\x1f\x8b" else dockerfile + content, TAR
        ),
        "add": lambda content: rig.ask(
            "POST", "/build?nocache=1", archive({"Dockerfile": adding, "x.tar": content}), TAR
        ),
    }  # fmt: skip


@pytest.mark.parametrize("way", ["load", "layer", "import", "archive", "context", "add"])
def test_nothing_is_written_outside(rig: Rig, container: str, way: str) -> None:
    for what, content in layer_archives(str(rig.canary)):
        answer = ways(rig, container)[way](content + bytes(1024))
        print(what, answer.status, answer.body[-200:])
        rig.check_answer(answer)
        assert (rig.canary / "secret").read_text() == "untouched", what
        assert (rig.canary / "secret").stat().st_nlink == 1, what
        rig.check_clean()
    # What is inside now must not lead out on the way back either
    for path in ("/l", "/l/", "/l/secret", "/h", "/d/secret", "/x/l/secret", "/x/h"):
        for verb in ("HEAD", "GET"):
            answer = rig.ask(verb, f"/containers/{container}/archive?path={path}")
            rig.check_answer(answer)
            assert b"untouched" not in answer.body
    forget_images(rig)


@pytest.mark.parametrize("way", ["load", "layer", "import", "archive", "context", "add"])
@pytest.mark.parametrize("what", BOMBS)
def test_a_bomb_hits_a_limit(rig: Rig, container: str, way: str, what: str) -> None:
    bomb = BOMBS[what]
    before, memory = rig.used(), rig.process.memory_info().rss
    answer = ways(rig, container)[way](bomb)
    print(answer.status, answer.body[-300:])
    rig.check_answer(answer)
    assert rig.process.memory_info().rss < memory + 100 * MIB
    # Nothing with a long end, and headers that the next one replaces, may be taken: they are read and forgotten
    if what not in ("zeros", "extended headers one after another", "pax headers one after another"):
        assert answer.status >= 400 or "error" in answer.messages[-1], answer
    forget_images(rig)
    rig.check_clean()
    wait_for(lambda: rig.used() <= before + MIB, 5, "the disk is not free again")


@pytest.mark.nightly
@pytest.mark.parametrize("way", ["layer", "import", "archive", "context", "add"])
def test_a_million_entries(rig: Rig, container: str, way: str) -> None:
    def many() -> Iterator[bytes]:
        yield entry("Dockerfile", b"FROM fuzz/base:1\nCOPY . /x/\n")
        for start in range(0, 1_100_000, 1000):
            yield b"".join(broken_header(b"f%d" % number) for number in range(start, start + 1000))
        yield bytes(1024)

    before = rig.used()
    answer = ways(rig, container)[way](gzip_of(many()))
    print(answer.status, answer.body[-300:])
    rig.check_answer(answer)
    assert answer.status >= 400 or "error" in answer.messages[-1], answer
    rig.check_clean()
    wait_for(lambda: rig.used() <= before + MIB, 10, "the disk is not free again")


@pytest.mark.parametrize("way", ["layer", "import", "archive", "context", "add"])
def test_folders_in_folders(way: str, request: pytest.FixtureRequest) -> None:
    """On an engine of its own: what cannot be removed would be in the way of all other tests."""
    from fuzz_rig import load_base
    from fuzz_rig import rig as own

    request.getfixturevalue("_rig")  # skips where no engine starts
    with own() as rig:
        load_base(rig)
        name = rig.ask("POST", "/containers/create", {"Image": "fuzz/base:1"}).messages[0]["Id"]
        before = rig.used()
        for depth in (900, 3000):
            answer = ways(rig, name)[way](archive({"d/" * depth + "x": b""}))
            print(answer.status, answer.body[-300:])
            rig.check_answer(answer)
            rig.check_answer(rig.ask("GET", f"/containers/{name}/archive?path=/"))
            rig.check_answer(rig.ask("GET", f"/containers/{name}/changes"))
        assert rig.ask("DELETE", f"/containers/{name}").status == 204
        rig.check_log()
        forget_images(rig)
        rig.check_clean()
        wait_for(lambda: rig.used() <= before + MIB // 4, 5, "the disk is not free again")


def test_a_size_that_lies(rig: Rig, container: str) -> None:
    for size in (size_field(2**63), size_field(2**64 - 1), b"\xff" * 12, b"7" * 12):
        for way, send in ways(rig, container).items():
            answer = send(broken_header(b"big", size) + b"x" * 512 + bytes(1024))
            print(way, answer.status, answer.body[-200:])
            rig.check_answer(answer)
            rig.check_clean()
    forget_images(rig)

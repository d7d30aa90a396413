"""The store of images: names, ids, removal by Docker's rules, crashes, and the view of an image's files."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import io
import json
import random
import shutil
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from dockerlab.engine.images import ImageRecord, Images, Limits, parse
from dockerlab.engine.refusals import RefusalError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the embedded engine runs on Linux only")


def pack(files: dict[str, bytes | None]) -> bytes:
    """Make a layer: None is a folder, a name that ends in @ a link."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name.removesuffix("@"))
            info.mode = 0o755 if content is None else 0o644
            if content is None:
                info.type = tarfile.DIRTYPE
            elif name.endswith("@"):
                info.type, info.linkname = tarfile.SYMTYPE, content.decode()
            else:
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content or b""))
    return buffer.getvalue()


def config(*layers: str, **more: Any) -> dict[str, Any]:
    history = [{"created": "2026-01-02T03:04:05.123456789Z", "created_by": f"RUN {one[7:10]}"} for one in layers]
    return {
        "architecture": "amd64",
        "os": "linux",
        "created": "2026-01-02T03:04:05.123456789Z",
        "config": {"Cmd": ["sh"]},
        "history": history,
        "rootfs": {"type": "layers", "diff_ids": list(layers)},
        **more,
    }


@pytest.fixture
def images(tmp_path: Path) -> Images:
    return Images(tmp_path / "store")


def make(
    images: Images, *contents: dict[str, bytes | None], tag: str = "", parent: str = "", **more: Any
) -> ImageRecord:
    layers = [images.add_layer(io.BytesIO(pack(one))).diff_id for one in contents]
    record = images.add_image(config(*layers, **more), parent=parent)
    if tag:
        images.tag(record.id, tag)
    return images.get(record.id)


def refused(status: int, call: Any, *arguments: Any, **more: Any) -> str:
    with pytest.raises(RefusalError) as caught:
        call(*arguments, **more)
    assert caught.value.status == status, caught.value
    return caught.value.message


@pytest.mark.parametrize(
    ("text", "name", "familiar"),
    [
        ("web", "docker.io/library/web", "web"),
        ("web:1", "docker.io/library/web:1", "web:1"),
        ("team/web:1", "docker.io/team/web:1", "team/web:1"),
        ("docker.io/web:1", "docker.io/library/web:1", "web:1"),
        ("index.docker.io/library/web", "docker.io/library/web", "web"),
        ("127.0.0.1:5000/a/b:c", "127.0.0.1:5000/a/b:c", "127.0.0.1:5000/a/b:c"),
        ("localhost/web", "localhost/web", "localhost/web"),
        ("[::1]:5000/web:1", "[::1]:5000/web:1", "[::1]:5000/web:1"),
        ("web@sha256:" + "a" * 64, "docker.io/library/web@sha256:" + "a" * 64, "web@sha256:" + "a" * 64),
        ("a__b/c.d/e---f", "docker.io/a__b/c.d/e---f", "a__b/c.d/e---f"),
    ],
)
def test_names_are_read_as_docker_does(text: str, name: str, familiar: str) -> None:
    assert (parse(text).name, parse(text).familiar) == (name, familiar)
    assert parse(parse(text).name) == parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "web:",
        "web:a b",
        "we b",
        "a/../b",
        "/web",
        "web/",
        "-a",
        "web@sha256:1",
        "web@",
        "a:b:c",
        "a" * 64,
        "web\n",
        "web:1\n",
        "Web",
        "x/Web",
        "w" * 300,
        "a//b",
        "web:" + "t" * 129,
        "a___b",
        "..",
        "é",
    ],
)
def test_what_is_no_name_is_refused(text: str) -> None:
    assert refused(400, parse, text)


def test_a_layer_is_named_by_its_uncompressed_archive(images: Images) -> None:
    raw = pack({"a": b"x" * 5000})
    layer = images.add_layer(io.BytesIO(raw))
    assert layer.diff_id == f"sha256:{hashlib.sha256(raw).hexdigest()}"
    assert layer.size_bytes == 5000
    assert images.layer_tar(layer.diff_id).read_bytes() == raw
    assert images.add_layer(io.BytesIO(gzip.compress(raw[:100]) + gzip.compress(raw[100:]))) == layer
    assert images.add_layer(images.layer_tar(layer.diff_id), on_top_of=[layer.diff_id]) == layer
    assert "expected" in refused(400, images.add_layer, io.BytesIO(raw), expected="sha256:" + "0" * 64)
    assert list(images.temporary.iterdir()) == []


def test_compressed_layers_that_are_damaged_or_bombs_are_refused(tmp_path: Path) -> None:
    images = Images(tmp_path / "s", Limits(layer_bytes=1 << 20))
    whole = gzip.compress(pack({"a": bytes(5000)}))
    assert "EOF" in refused(400, images.add_layer, io.BytesIO(whole[:-20]))
    assert "damaged" in refused(400, images.add_layer, io.BytesIO(whole[:40] + b"!!!!" + whole[44:]))
    assert "too large" in refused(400, images.add_layer, io.BytesIO(gzip.compress(bytes(64 << 20))))
    assert list(images.temporary.iterdir()) == []
    assert list(images.shelf) == []


def test_zstd_layers_are_read_or_refused_in_a_sentence(images: Images, tmp_path: Path) -> None:
    program = shutil.which("zstd")
    if program is None:
        pytest.skip("zstd: the program is not installed")
    raw = pack({"a": b"x" * 5000})
    packed = subprocess.run([program, "-q", "-c"], input=raw, stdout=subprocess.PIPE, check=True).stdout
    if importlib.util.find_spec("compression") or importlib.util.find_spec("zstandard"):
        assert images.add_layer(io.BytesIO(packed)).diff_id == f"sha256:{hashlib.sha256(raw).hexdigest()}"
    else:
        assert "zstandard" in refused(501, images.add_layer, io.BytesIO(packed))


def test_an_image_is_found_by_id_and_by_name(images: Images) -> None:
    web = make(images, {"a": b"1"}, tag="web:1")
    for name in (web.id, web.id[7:], web.id[7:19], web.id[:20], web.id[7:8], "web:1", "docker.io/library/web:1"):
        assert images.get(name) == web
    assert web.tags == ("web:1",)
    assert (web.size_bytes, int(web.created_s)) == (1, 1767323045)
    assert refused(404, images.get, "nosuch") == "No such image: nosuch:latest"
    assert refused(404, images.get, "web") == "No such image: web:latest"
    assert refused(404, images.get, "0" * 64) == f"No such image: sha256:{'0' * 64}"


def test_an_images_id_is_the_digest_of_its_configuration(images: Images) -> None:
    layer = images.add_layer(io.BytesIO(pack({})))
    raw = json.dumps(config(layer.diff_id), indent=2).encode()
    record = images.add_config(raw)
    assert record.id == f"sha256:{hashlib.sha256(raw).hexdigest()}"
    assert images.config_bytes(record) == raw
    assert (
        images.add_image({**config(layer.diff_id), "b": "<&>"}).id
        == images.add_image(dict(reversed({**config(layer.diff_id), "b": "<&>"}.items()))).id
    )
    assert "is not here" in refused(400, images.add_image, config("sha256:" + "1" * 64))
    for bad in ({"rootfs": {"diff_ids": "x"}}, {"history": 3}, {"config": {"Env": "x"}}, {"config": []}):
        assert "invalid image configuration" in refused(400, images.add_image, bad)


def test_a_tag_moves(images: Images) -> None:
    one, two = make(images, {"a": b"1"}, tag="web:1"), make(images, {"a": b"2"})
    images.tag(two.id, "web:1")
    assert images.get(one.id).tags == ()
    assert images.get("web:1").id == two.id
    assert "digest" in refused(400, images.tag, two.id, "web@sha256:" + "a" * 64)


def test_everything_is_there_after_a_restart_and_half_a_write_is_not(images: Images, tmp_path: Path) -> None:
    base = make(images, {"a": b"1"}, tag="base:1")
    web = make(images, {"a": b"1"}, {"b": b"2"}, tag="web:1", parent=base.id)
    images.note_digest(web, parse("web:1"), "sha256:" + "d" * 64)
    (tmp_path / "store" / "tmp" / "left").mkdir()
    (tmp_path / "store" / "images" / f"{'e' * 64}.json").write_text("{")
    (tmp_path / "store" / "layers" / ("f" * 64)).mkdir()
    again = Images(tmp_path / "store")
    assert [one.id for one in again.list()] == [one.id for one in images.list()]
    assert again.get("web:1") == images.get("web:1")
    assert again.get("web:1").digests == (f"web@sha256:{'d' * 64}",)
    assert again.get(f"web@sha256:{'d' * 64}").parent == base.id
    assert list(again.temporary.iterdir()) == []
    shutil.rmtree(tmp_path / "store" / "layers" / web.diff_ids[1].removeprefix("sha256:"))
    assert [one.tags for one in Images(tmp_path / "store").list()] == [("base:1",)]


def test_history_names_the_images_that_are_here(images: Images) -> None:
    base = make(images, {"a": b"1"}, tag="base:1")
    web = make(images, {"a": b"1"}, {"b": b"22"}, tag="web:1", parent=base.id)
    rows = images.history(web)
    assert [(row["Id"], row["Tags"], row["Size"]) for row in rows] == [
        (web.id, ["web:1"], 2),
        (base.id, ["base:1"], 1),
    ]


def test_removing_a_name_keeps_the_image_until_the_last(images: Images) -> None:
    web = make(images, {"a": b"1"}, tag="web:1")
    images.tag(web.id, "web:2")
    assert images.remove("web:1") == [{"Untagged": "web:1"}]
    assert images.remove("web:2") == [{"Untagged": "web:2"}, {"Deleted": web.id}, {"Deleted": web.diff_ids[0]}]
    assert images.list() == []
    assert list(images.shelf) == []


def test_a_digest_goes_with_the_last_tag_of_its_repository(images: Images) -> None:
    web = make(images, {"a": b"1"}, tag="web:1")
    images.note_digest(web, parse("web"), "sha256:" + "d" * 64)
    assert [row for row in images.remove("web:1") if "Untagged" in row] == [
        {"Untagged": "web:1"},
        {"Untagged": f"web@sha256:{'d' * 64}"},
    ]
    assert images.list() == []


def test_what_is_in_the_way_is_said_in_dockers_words(images: Images) -> None:
    base = make(images, {"a": b"1"}, tag="base:1")
    web = make(images, {"a": b"1"}, {"b": b"2"}, tag="web:1", parent=base.id)
    short = web.id[7:19]
    by = {web.id: ["c" * 64]}

    def users(image_id: str) -> list[str]:
        return by.get(image_id, [])

    said = refused(409, images.remove, "web:1", in_use=users)
    assert said == (
        'conflict: unable to remove repository reference "web:1" (must force) - container '
        f"{'c' * 12} is using its referenced image {short}"
    )
    said = refused(409, images.remove, web.id, in_use=users)
    assert said == (
        f"conflict: unable to delete {short} (must be forced) - image is being used by stopped container {'c' * 12}"
    )
    said = refused(409, images.remove, web.id, True, users, running=users)
    assert said == (
        f"conflict: unable to delete {short} (cannot be forced) - image is being used by running container {'c' * 12}"
    )
    assert images.get("web:1").id == web.id
    images.tag(web.id, "other:1")
    said = refused(409, images.remove, web.id)
    assert said == f"conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories"
    said = refused(409, images.remove, base.id, True)
    assert said.endswith("(cannot be forced) - image has dependent child images")
    # By force, while a stopped container has it: its layers stay for the container
    assert {"Deleted": web.id} in images.remove(web.id, True, users)
    assert all(one in images.shelf for one in web.diff_ids)
    assert images.sweep(lambda: web.diff_ids) == 0
    assert images.sweep() == 1
    assert [one for one in web.diff_ids if one in images.shelf] == [base.diff_ids[0]]


def test_nameless_parents_go_with_the_image(images: Images) -> None:
    first = make(images, {"a": b"1"})
    second = make(images, {"a": b"1"}, {"b": b"2"}, parent=first.id)
    named = make(images, {"c": b"1"}, tag="base:1")
    make(images, {"a": b"1"}, {"b": b"2"}, {"c": b"3"}, tag="web:1", parent=second.id)
    images.remove("web:1")
    assert [one.id for one in images.list()] == [named.id]


def test_pruning_takes_what_is_dangling_and_unused(images: Images) -> None:
    used, old = make(images, {"a": b"1"}), make(images, {"b": b"22"})
    make(images, {"c": b"3"}, tag="web:1")
    rows, reclaimed = images.prune(lambda one: ["c"] if one == used.id else [])
    assert {"Deleted": old.id} in rows
    assert reclaimed == 2
    assert {one.id for one in images.list()} == {used.id, images.get("web:1").id}
    images.prune(dangling=False)
    assert images.list() == []


def test_the_tree_applies_whiteouts_and_follows_links_inside(images: Images) -> None:
    image = make(
        images,
        {"etc/passwd": b"root", "etc/old": b"", "d/low": b"", "was/file": b"", "bin@": b"usr/bin", "usr/bin/sh": b"#!"},
        {"etc/.wh.old": b"", "d/.wh..wh..opq": b"", "d/high": b"", "was": b"now a file", "up@": b"../../../etc"},
        {"was2@": b"/etc/passwd", "loop@": b"loop", "again/.wh.x": b"", "again/x/new": b""},
    )
    tree = images.tree(image)
    assert tree.names("/") == ["again", "bin", "d", "etc", "loop", "up", "usr", "was", "was2"]
    assert tree.names("etc") == ["passwd"]
    assert tree.names("d") == ["high"]
    assert tree.names("/again/x") == ["new"]
    assert tree.read("was2") == tree.read("/up/passwd") == tree.read("up/../etc/./passwd") == b"root"
    assert tree.read("/bin/sh") == b"#!"
    found = tree.lookup("/bin/sh")
    assert found is not None
    assert (found.path, found.kind, found.mode, found.size) == ("/usr/bin/sh", "file", 0o644, 2)
    link = tree.lookup("/was2", follow=False)
    assert link is not None
    assert (link.kind, link.target) == ("link", "/etc/passwd")
    for nothing in ("/loop", "/etc/old", "/d/low", "/was/file", "/etc/.wh.old", "/etc/passwd/x", "a\0b"):
        assert tree.lookup(nothing) is None
    assert [one.path for one in tree.walk("/again")] == ["/again", "/again/x", "/again/x/new"]
    assert refused(400, tree.read, "/etc") == "/etc is not a file"
    assert "longer" in refused(400, tree.read, "/was", 3)


def test_many_threads_may_add_and_remove(images: Images) -> None:
    problems: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for step in range(8):
                make(images, {"shared": b"s"}, {"own": f"{number}.{step}".encode()}, tag=f"web:{number}")
        except BaseException as error:  # noqa: BLE001
            problems.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert len(images.list()) == 32
    images.prune()
    assert sorted(tag for one in images.list() for tag in one.tags) == [f"web:{number}" for number in range(4)]


def archived(images: Images, *names: str) -> bytes:
    buffer = io.BytesIO()
    images.save(names, buffer)
    return buffer.getvalue()


def test_what_is_saved_is_the_same_when_it_is_loaded(images: Images, tmp_path: Path) -> None:
    base = make(images, {"a": b"1"}, tag="base:1")
    web = make(images, {"a": b"1"}, {"b": b"2"}, tag="web:1", parent=base.id)
    images.tag(web.id, "web:2")
    raw = archived(images, "base:1", "web:1", base.id)
    assert raw == archived(images, "base:1", "web:1", base.id)
    other = Images(tmp_path / "other")
    assert other.load(io.BytesIO(gzip.compress(raw))) == ["base:1", "web:1"]
    assert (other.get("web:1").id, other.get("web:1").parent) == (web.id, base.id)
    third = Images(tmp_path / "third")
    assert third.load(io.BytesIO(archived(images, "web"))) == ["web:1", "web:2"]
    nameless = Images(tmp_path / "nameless")
    assert nameless.load(io.BytesIO(archived(images, web.id))) == [web.id]
    assert refused(404, images.save, ["nosuch"], io.BytesIO()) == "No such image: nosuch:latest"


def repack(raw: bytes, change: Any) -> bytes:
    """Give an archive whose files `change` has changed: a dict from names to bytes."""
    files: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        for member in archive:
            reader = archive.extractfile(member)
            if reader is not None:
                files[member.name] = reader.read()
    change(files)
    return pack(dict(files))


def test_an_oci_layout_is_loaded(images: Images, tmp_path: Path) -> None:
    web = make(images, {"a": b"1"}, {"b": b"2"}, tag="web:1")
    raw = repack(archived(images, "web:1"), lambda files: files.pop("manifest.json"))
    other = Images(tmp_path / "other")
    assert other.load(io.BytesIO(raw)) == ["web:1"]
    assert other.get("web:1").id == web.id


def test_bad_archives_are_refused_and_leave_no_image(images: Images, tmp_path: Path) -> None:
    web = make(images, {"a": b"1"}, tag="web:1")
    raw = archived(images, "web:1")
    layer, own = f"blobs/sha256/{web.diff_ids[0][7:]}", f"blobs/sha256/{web.id[7:]}"

    def put(name: str, content: bytes) -> Any:
        return lambda files: files.__setitem__(name, content)

    def listed(**fields: Any) -> bytes:
        return json.dumps([{"Config": own, "RepoTags": ["web:1"], "Layers": [layer], **fields}]).encode()

    broken = {
        "not JSON": put("manifest.json", b"{"),
        "not a list": put("manifest.json", b'{"a": 1}'),
        "not objects": put("manifest.json", b"[1]"),
        "no layer": lambda files: files.pop(layer),
        "another layer": put(layer, pack({"evil": b""})),
        "layer outside": put("manifest.json", listed(Layers=["../../../etc/passwd"])),
        "too few layers": put("manifest.json", listed(Layers=[])),
        "layers no list": put("manifest.json", listed(Layers="x")),
        "no config": put("manifest.json", listed(Config=None)),
        "bad tag": put("manifest.json", listed(RepoTags=["Bad Tag"])),
        "bad config": put(own, b"[]"),
        "both gone": lambda files: (files.pop("manifest.json"), files.pop("index.json")),
        "deep": put("manifest.json", b"[" * 100_000),
    }
    for number, (what, change) in enumerate(broken.items()):
        other = Images(tmp_path / str(number))
        assert refused(400, other.load, io.BytesIO(repack(raw, change))), what
        assert other.list() == []
        assert list(other.temporary.iterdir()) == []
    assert refused(400, images.load, io.BytesIO(b""))
    assert refused(400, images.load, io.BytesIO(b"hello"))
    assert "too large" in refused(400, Images(tmp_path / "small", Limits(archive_bytes=100)).load, io.BytesIO(raw))


def test_a_root_file_system_is_imported(images: Images) -> None:
    raw = pack({"bin/sh": b"#!"})
    record = images.import_(io.BytesIO(gzip.compress(raw)), "rootfs:1", {"Cmd": ["sh"]}, "from elsewhere")
    assert record.tags == ("rootfs:1",)
    assert record.config["config"]["Cmd"] == ["sh"]
    assert images.history(record)[0]["Comment"] == "from elsewhere"
    assert record.diff_ids == (f"sha256:{hashlib.sha256(raw).hexdigest()}",)


def test_layers_that_wait_for_their_image_outlive_the_others(images: Images) -> None:
    """Somebody builds on an image, or loads its layers, while somebody else removes it."""
    base = make(images, {"a": b"1"}, tag="base:1")
    layer = images.add_layer(io.BytesIO(pack({"b": b"2"})), on_top_of=base.diff_ids)
    images.remove("base:1")
    assert images.sweep() == 0
    web = images.add_image(config(*base.diff_ids, layer.diff_id))
    images.remove(web.id)
    assert list(images.shelf) == []


_WRITER = """
import io, sys, tarfile
from pathlib import Path
from dockerlab.engine.images import Images
images, number = Images(Path(sys.argv[1])), 0
print("ready", flush=True)
while True:
    number += 1
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("f")
        info.size = 300_000
        archive.addfile(info, io.BytesIO(str(number).encode().ljust(info.size)))
    buffer.seek(0)
    layer = images.add_layer(buffer).diff_id
    record = images.add_image({"os": "linux", "rootfs": {"type": "layers", "diff_ids": [layer]}})
    images.tag(record.id, "web:1")
    images.tag(record.id, f"web:{number}")
    if number % 2:
        images.remove(f"web:{number}")
    images.prune()
"""


def test_a_store_whose_process_was_killed_is_whole(tmp_path: Path) -> None:
    rng = random.Random(3)
    seen = 0
    for _ in range(3):
        command = [sys.executable, "-c", _WRITER, str(tmp_path / "store")]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            time.sleep(rng.uniform(0.02, 0.3))
            process.kill()
        images = Images(tmp_path / "store")
        images.sweep()
        for record in images.list():
            seen += 1
            assert images.get(record.id) == record
            assert hashlib.sha256(images.config_bytes(record)).hexdigest() == record.id[7:]
            raw = images.layer_tar(record.diff_ids[0]).read_bytes()
            assert f"sha256:{hashlib.sha256(raw).hexdigest()}" == record.diff_ids[0]
            assert len(images.tree(record).read("f")) == 300_000
        assert list(images.temporary.iterdir()) == []
        assert set(images.shelf) == {one for record in images.list() for one in record.diff_ids}
    assert seen

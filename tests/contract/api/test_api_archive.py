"""Files in and out of a container, and what it changed."""

from __future__ import annotations

import base64
import io
import json
import tarfile
import uuid
from pathlib import Path
from typing import Any

import docker.errors
import pytest
from bench import Bench, Raw, archive, content_of, link, refusal_of, unpacked
from support import until

from dockerlab.connect import Engine


def taken(container: Any, path: str) -> tuple[bytes, dict[str, Any]]:
    stream, told = container.get_archive(path)
    return b"".join(stream), told


@pytest.fixture(scope="module")
def running(shared: Bench) -> Any:
    script = "mkdir -p /d/e && echo one > /d/f && ln -s f /d/rel && ln -s /d/f /abs && ln -s /d /dir && exec sleep 300"
    made = shared.start(["sh", "-c", script + ""], init=True)
    until(lambda: made.exec_run("ls /dir")[0] == 0)
    return made


def test_out_of_one_that_runs(running: Any) -> None:
    data, told = taken(running, "/d/f")
    assert content_of(data, "f") == b"one\n"
    assert (told["name"], told["size"], told["linkTarget"]) == ("f", 4, "")
    assert told["mode"] & 0o777 == 0o644
    assert told["mtime"][:2] == "20"


def test_many_at_once_and_readers_that_are_slow(bench: Bench) -> None:
    # More than the engine has threads: each archive is larger than what pipes and sockets hold.
    made = [bench.create(["sleep", "300"]) for _ in range(12)]
    for one in made:
        assert one.put_archive("/", archive({"big": b"x" * 3_000_000}))
    waiting = [one.get_archive("/big")[0] for one in made[1:]]
    assert len(content_of(taken(made[0], "/big")[0], "big")) == 3_000_000
    assert {len(content_of(b"".join(stream), "big")) for stream in waiting} == {3_000_000}


def test_a_folder(running: Any) -> None:
    data, told = taken(running, "/d")
    entries = unpacked(data)
    assert {name.rstrip("/") for name in entries} == {"d", "d/e", "d/f", "d/rel"}
    assert (entries["d/rel"].issym(), entries["d/rel"].linkname) == (True, "f")
    assert (entries["d/f"].uid, entries["d/f"].gid, entries["d/f"].mode & 0o777) == (0, 0, 0o644)
    assert told["mode"] & (1 << 31)  # Go's bit for a folder
    inner = {name.rstrip("/") for name in unpacked(taken(running, "/d/.")[0])}
    assert {"./f", "f", "d/f"} & inner or {"/f"} & inner


def test_a_link_is_given_as_a_link(running: Any) -> None:
    data, told = taken(running, "/d/rel")
    assert unpacked(data)["rel"].issym()
    assert told["linkTarget"] == "/d/f"
    data, told = taken(running, "/abs")
    assert (unpacked(data)["abs"].linkname, told["linkTarget"]) == ("/d/f", "/d/f")
    # A link on the way is followed.
    assert content_of(taken(running, "/dir/f")[0], "f") == b"one\n"


def test_what_is_not_there(running: Any) -> None:
    for path in ("/nosuch", "/d/nosuch", "/nosuch/x"):
        with pytest.raises(docker.errors.NotFound) as caught:
            running.get_archive(path)
        assert "Could not find the file" in str(caught.value.explanation)


def test_head_tells_about_the_file(running: Any, raw: Raw) -> None:
    answer = raw("HEAD", f"/containers/{running.id}/archive?path=/d/f")
    assert (answer.status, answer.body) == (200, b"")
    told = json.loads(base64.b64decode(answer.headers["x-docker-container-path-stat"]))
    assert (told["name"], told["size"]) == ("f", 4)


def test_in(engine: Engine, running: Any) -> None:
    def told(command: str) -> bytes:
        # Docker Engine 20.10 loses what a short program prints, now and then on a busy machine.
        def output() -> bytes:
            return bytes(running.exec_run(command).output)

        return until(output) if engine.kind == "docker" else output()

    assert running.put_archive(
        "/", archive({"in1": "text", "sub/": "", "sub/file": b"\0\xff", "sub/l": link("sub/l", "file")})
    )
    assert told("cat /in1") == b"text"
    assert told("readlink /sub/l") == b"file\n"
    assert told("stat -c %a:%u:%s /sub/file") == b"644:0:2\n"
    assert running.put_archive("/dir", archive({"through": "link"}))
    assert told("cat /d/through") == b"link"
    # What is there is replaced.
    assert running.put_archive("/", archive({"in1": "other"}))
    assert told("cat /in1") == b"other"


def test_owners_and_modes(bench: Bench, running: Any) -> None:
    entry = tarfile.TarInfo("owned")
    entry.uid, entry.gid, entry.mode, entry.mtime = 1234, 2345, 0o751, 1_600_000_000
    assert running.put_archive("/", archive({"owned": entry}))
    told = running.exec_run("stat -c '%u:%g %a %Y' /owned").output.decode()
    assert bench.owned(told) == bench.owned("1234:2345 751 1600000000\n")
    if bench.engine.has_wall("users"):
        assert unpacked(taken(running, "/owned")[0])["owned"].uid == 1234


def test_in_and_out_of_one_that_never_ran(bench: Bench) -> None:
    made = bench.create(["cat", "/etc/new"])
    assert made.put_archive("/etc", archive({"new": "fresh\n"}))
    assert content_of(taken(made, "/etc/new")[0], "new") == b"fresh\n"
    assert b"nobody" in content_of(taken(made, "/etc/passwd")[0], "passwd")
    made.start()
    made.wait()
    assert made.logs() == b"fresh\n"
    # And of one that has ended.
    assert made.put_archive("/", archive({"after": "x"}))
    assert content_of(taken(made, "/after")[0], "after") == b"x"


def test_volumes_are_seen(bench: Bench) -> None:
    volume = bench.volume()
    made = bench.create(["true"], volumes={volume.name: {"bind": "/data"}})
    assert made.put_archive("/data", archive({"x": "in the volume"}))
    assert bench.output("cat /data/x", volumes={volume.name: {"bind": "/data"}}) == "in the volume"
    assert content_of(taken(made, "/data/x")[0], "x") == b"in the volume"


def test_refusals_of_in(running: Any, bench: Bench) -> None:
    with pytest.raises(docker.errors.NotFound, match="Could not find the file"):
        running.put_archive("/nosuch", archive({"x": ""}))
    with pytest.raises(docker.errors.APIError, match="not a directory"):
        running.put_archive("/d/f", archive({"x": ""}))
    with pytest.raises(docker.errors.APIError, match=r"(?i)read-only|mounted volume is marked read-only"):
        bench.start(read_only=True).put_archive("/", archive({"x": ""}))


ESCAPES = {
    "dots": lambda mark: {f"../../../../../tmp/{mark}": "x"},
    "absolute": lambda mark: {f"/tmp/{mark}": "x"},
    "absolute link": lambda mark: {"l": link("l", "/tmp"), f"l/{mark}": "x"},
    "dots link": lambda mark: {"l": link("l", "../../../../../../tmp"), f"l/{mark}": "x"},
    "link of a link": lambda mark: {"a": link("a", "/"), "a/b": link("a/b", "tmp"), f"a/b/{mark}": "x"},
    "link to a file": lambda mark: {"l": link("l", f"/tmp/{mark}"), "l ": link("x", "l"), "x": "x"},
    "hard link": lambda mark: {"h": link("h", "../../../../../etc/hostname", hard=True)},
    "folder": lambda mark: {f"../../../../tmp/{mark}/": ""},
}


@pytest.mark.parametrize("way", ESCAPES)
@pytest.mark.parametrize("runs", [False, True])
def test_nothing_is_written_outside(shared: Bench, running: Any, engine: Engine, way: str, *, runs: bool) -> None:
    if engine.desktop:
        pytest.skip("the engine's machine cannot be looked at")
    mark = f"test-api-{uuid.uuid4().hex}"
    made = running if runs else shared.create(["true"])
    status, _ = refusal_of(made.put_archive, "/tmp", archive(ESCAPES[way](mark)))
    assert status < 500 or engine.kind == "docker"
    outside = Path("/tmp") / mark
    there = outside.exists() or outside.is_symlink()
    if there:
        outside.unlink()
    assert not there


def test_links_lead_nowhere_outside(shared: Bench, engine: Engine) -> None:
    if engine.desktop:
        pytest.skip("the engine's machine cannot be looked at")
    mark = f"test-api-{uuid.uuid4().hex}"
    outside = Path("/tmp") / mark
    outside.mkdir()
    (outside / "secret").write_text("secret")
    try:
        made = shared.create(["true"])
        links = {"out": link("out", f"/tmp/{mark}"), "up": link("up", f"../../../../../../../tmp/{mark}")}
        made.put_archive("/", archive({**links, "name": link("name", "/etc/passwd")}))
        for path in ("/out/secret", "/up/secret", f"/../../../tmp/{mark}/secret", f"/proc/1/root/tmp/{mark}/secret"):
            with pytest.raises(docker.errors.NotFound):
                made.get_archive(path)
        for path in ("/out", "/up"):
            with pytest.raises(docker.errors.APIError):
                made.put_archive(path, archive({"new": "x"}))
        assert [entry.name for entry in outside.iterdir()] == ["secret"]
    finally:
        (outside / "secret").unlink()
        for entry in outside.iterdir():
            entry.unlink()
        outside.rmdir()


def test_a_big_file_there_and_back(running: Any) -> None:
    content = bytes(range(256)) * 20_000
    assert running.put_archive("/", archive({"big": content}))
    assert content_of(taken(running, "/big")[0], "big") == content


def test_a_compressed_archive(running: Any) -> None:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as tar:
        entry = tarfile.TarInfo("zipped")
        entry.size = 4
        tar.addfile(entry, io.BytesIO(b"data"))
    assert running.put_archive("/", target.getvalue())
    assert running.exec_run("cat /zipped").output == b"data"


def test_diff(bench: Bench) -> None:
    image = bench.image("FROM BASE\nRUN mkdir -p /a/b && echo x > /a/b/old && echo y > /a/gone && echo z > /a/same\n")
    made = bench.create(
        ["sh", "-c", "echo new > /a/b/new; echo more >> /a/b/old; rm /a/gone; cat /a/same"], image=image
    )
    assert made.diff() in (None, [])
    made.start()
    made.wait()
    changes = {(change["Kind"], change["Path"]) for change in made.diff()}
    assert changes == {(0, "/a"), (0, "/a/b"), (0, "/a/b/old"), (1, "/a/b/new"), (2, "/a/gone")}


def test_diff_of_whole_folders_and_of_files_put_in(bench: Bench) -> None:
    made = bench.start(["sh", "-c", "rm -r /var/www; mkdir -p /n/m; touch /n/m/f; sleep 300"])
    until(lambda: made.exec_run("ls /n/m/f")[0] == 0)
    made.put_archive("/root", archive({"put": "x"}))
    changes = {(change["Kind"], change["Path"]) for change in made.diff()}
    expected = {(0, "/var"), (2, "/var/www"), (1, "/n"), (1, "/n/m"), (1, "/n/m/f"), (0, "/root"), (1, "/root/put")}
    assert expected <= changes
    assert not {path for _, path in changes - expected if path.startswith(("/var/", "/n/", "/proc", "/etc/host"))}


def test_export(bench: Bench) -> None:
    made = bench.create(["true"])
    made.put_archive("/", archive({"mine": "content"}))
    data = b"".join(made.export())
    names = unpacked(data)
    assert content_of(data, "mine") == b"content"
    assert "bin/busybox" in names
    assert "etc/passwd" in names
    assert names["tmp"].mode & 0o1777 == 0o1777 if "tmp" in names else names["tmp/"].mode

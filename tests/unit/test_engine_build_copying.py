"""COPY and ADD: what ends up where, with which owner and mode (as Docker Engine 20.10 does it)."""

from __future__ import annotations

import asyncio
import http.server
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from build_bench import Bench, Content, archive

from dockerlab.engine.build.download import fetch
from dockerlab.engine.build.sources import _fits, _pieces
from dockerlab.engine.refusals import RefusalError

FILES: dict[str, Content] = {
    "w": "1",
    "d": None,
    "d/s": "x",
    "d/l": "->s",
    "ln": "->d/s",
    "ld": "->d",
    "out": "->/etc/passwd",
    "up": "->../../w",
}


def entry(kind: bytes, mode: int, *, target: str = "", uid: int = 0, size: int = 0) -> tarfile.TarInfo:
    made = tarfile.TarInfo()
    made.type, made.mode, made.linkname, made.uid, made.size = kind, mode, target, uid, size
    return made


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    rootfs = archive(
        {
            "tmp": entry(tarfile.DIRTYPE, 0o1777),
            "root": entry(tarfile.DIRTYPE, 0o700, uid=3),
            "real": entry(tarfile.DIRTYPE, 0o755),
            "lib": "->real",
            "nowhere": "->/missing",
            "real/old": "old",
            "real/sub": entry(tarfile.DIRTYPE, 0o700),
            "etc": entry(tarfile.DIRTYPE, 0o755),
            "etc/passwd": "web:x:7:8::/:\nlone:x:5:5::/:\n",
            "etc/group": "web:x:9:\n",
        }
    )
    made.build("FROM scratch\nADD rootfs.tar /\n", {"rootfs.tar": rootfs}, t="base:1")
    return made


def after(
    bench: Bench, *lines: str, files: dict[str, Content] | None = None
) -> dict[str, tuple[str, int, int, int, str]]:
    before = bench.files("base:1")
    bench.build("\n".join(("FROM base:1", *lines)), files or FILES)
    assert bench.image_id, bench.error
    return {path: what for path, what in bench.files().items() if before.get(path) != what}


def paths(bench: Bench, *lines: str, files: dict[str, Content] | None = None) -> set[str]:
    return set(after(bench, *lines, files=files))


def test_a_folder_gives_its_content_and_a_new_one_is_755(bench: Bench) -> None:
    assert after(bench, "COPY d /new") == {
        "/new": ("folder", 0o755, 0, 0, ""),
        "/new/s": ("file", 0o644, 0, 0, "x"),
        "/new/l": ("link", 0o777, 0, 0, "s"),
    }


def test_folders_that_are_there_keep_mode_and_owner(bench: Bench) -> None:
    assert paths(bench, "COPY d/s /tmp/a/", "COPY d/s /root/b") == {"/tmp/a", "/tmp/a/s", "/root/b"}


def test_a_link_that_is_named_is_followed_one_in_a_folder_is_not(bench: Bench) -> None:
    assert after(bench, "COPY ln /x/")["/x/ln"] == ("file", 0o644, 0, 0, "x")
    assert paths(bench, "COPY ld /y") == {"/y", "/y/s", "/y/l"}
    assert paths(bench, "COPY ld/s /z") == {"/z"}


@pytest.mark.parametrize("name", ["out", "up"])
def test_a_link_never_leads_out_of_the_context(bench: Bench, name: str) -> None:
    if name == "up":  # in the context's root, one cannot go further up
        assert after(bench, "COPY up /x")["/x"][4] == "1"
        return
    bench.build(f"FROM base:1\nCOPY {name} /x\n", FILES)
    assert bench.error.endswith("stat out: file does not exist")


def test_links_of_the_image_are_followed_inside_it(bench: Bench) -> None:
    assert paths(bench, "COPY w /lib/") == {"/real/w"}
    assert paths(bench, "COPY w /lib") == {"/real/w"}
    assert paths(bench, "COPY w /nowhere") == {"/missing"}
    assert paths(bench, "COPY d /lib/x/../y") == {"/real/y", "/real/y/s", "/real/y/l"}


def test_the_destination_counts_from_the_workdir(bench: Bench) -> None:
    assert paths(bench, "WORKDIR /wd", "COPY w .", "COPY w x", "COPY d ./in/") == {
        "/wd", "/wd/w", "/wd/x", "/wd/in", "/wd/in/s", "/wd/in/l"
    }  # fmt: skip


def test_wildcards(bench: Bench) -> None:
    assert paths(bench, "COPY ?n /q/") == {"/q", "/q/ln"}
    assert paths(bench, "COPY d/[r-s] /q/") == {"/q", "/q/s"}
    assert paths(bench, "COPY d/[^l]* w /q/") == {"/q", "/q/s", "/q/w"}
    assert paths(bench, "COPY [w] /c") == {"/c"}
    bench.build("FROM base:1\nCOPY d/* /q\n", FILES)
    assert bench.error == (
        "When using COPY with more than one source file, the destination must be a directory and end with a /"
    )
    bench.build("FROM base:1\nCOPY [z-a] /q\n", FILES)
    assert bench.error.endswith("syntax error in pattern")


def test_a_pattern_is_never_slow() -> None:
    pieces = _pieces("*a" * 60 + "b")
    assert not _fits("a" * 250, pieces)
    assert _fits("a" * 250 + "b", pieces)
    for pattern, name, fits in (
        ("*", "", True),
        ("a*a", "a", False),
        ("a*a", "aa", True),
        ("*.t?t", "x.txt.tot", True),
        ("a**b", "ab", True),
        ("\\*", "*", True),
        ("[^a]", "a", False),
        ("[a\\]b]", "]", True),
    ):
        assert _fits(name, _pieces(pattern)) is fits, pattern


def test_chown_and_chmod(bench: Bench) -> None:
    found = after(bench, "COPY --chown=5:6 d /p/q/", "COPY --chown=web w /r/w", "COPY --chmod=4711 w /m")
    assert {path: what[1:4] for path, what in found.items()} == {
        "/p": (0o755, 0, 0),
        "/p/q": (0o755, 5, 6),
        "/p/q/s": (0o644, 5, 6),
        "/p/q/l": (0o777, 5, 6),
        "/r": (0o755, 7, 9),
        "/r/w": (0o644, 7, 9),
        "/m": (0o4711, 0, 0),
    }
    prefix = "unable to convert uid/gid chown string to host mapping: "
    for owner, reason in (
        ("none", "can't find uid for user none: no such user: none"),
        ("lone", "can't find gid for group lone: no such group: lone"),
    ):
        bench.build(f"FROM base:1\nCOPY --chown={owner} w /\n", FILES)
        assert bench.error == prefix + reason


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("COPY w /etc/passwd/", "failed to create new directory: mkdir /etc/passwd: not a directory"),
        ("COPY w /etc/passwd/x", "failed to create new directory: mkdir /etc/passwd: not a directory"),
        ("COPY d /etc/passwd", "failed to copy directory: mkdir /etc/passwd: not a directory"),
        ("COPY sub /", 'cannot overwrite directory "/tmp" with non-directory'),
    ],
)
def test_what_is_in_the_way(bench: Bench, line: str, message: str) -> None:
    bench.build(f"FROM base:1\n{line}\n", {**FILES, "sub": None, "sub/tmp": "file"})
    assert bench.error == f"failed to copy files: {message}"


def test_several_sources_see_each_other(bench: Bench) -> None:
    files: dict[str, Content] = {"one/f": "1", "two/f": "2", "two/g/h": "3"}
    assert after(bench, "COPY one two /all/", files=files)["/all/f"][4] == "2"


def test_add_unpacks_archives_with_their_owners_copy_does_not(bench: Bench) -> None:
    content = {
        "in/f": entry(tarfile.REGTYPE, 0o640, uid=7, size=2),
        "in/hard": entry(tarfile.LNKTYPE, 0o640, target="in/f", uid=7),
        "lib/x": "y",
    }
    for mode in ("w", "w:gz", "w:bz2", "w:xz"):
        files: dict[str, Content] = {"a": archive(content, mode=mode)}
        found = after(bench, "ADD a /t", files=files)
        assert found["/t/in/f"] == ("file", 0o640, 7, 0, "xx")
        assert found["/t/in/hard"] == ("file", 0o640, 7, 0, "xx")
        assert found["/t/lib/x"][4] == "y"
    bench.build("FROM base:1\nCOPY a /t\n", {"a": archive(content)})
    assert bench.image.size_bytes > 10_000
    # A link of the image's is followed
    assert "/real/x" in paths(bench, "ADD a /", files={"a": archive(content)})


def test_add_takes_what_is_no_archive_as_it_is(bench: Bench) -> None:
    files: dict[str, Content] = {"a.gz": b"\x1f\x8bnonsense", "plain": "x" * 600, "zeros": b"\0" * 1024, "e": ""}
    found = paths(bench, "ADD a.gz plain zeros e /t/", files=files)
    assert found == {"/t", "/t/a.gz", "/t/plain", "/t/zeros", "/t/e"}


@pytest.mark.parametrize("name", ["../x", "a/../../x"])
def test_an_archive_that_wants_out(bench: Bench, name: str) -> None:
    bench.build("FROM base:1\nADD a /t\n", {"a": archive({name: "x"})})
    assert "leads out of the archive" in bench.error


def test_the_layer_has_modes_times_and_no_whiteouts(bench: Bench) -> None:
    bench.build("FROM base:1\nCOPY . /c/\n", {"x": "1", ".wh.real": "1"})
    with tarfile.open(bench.images.layer_tar(bench.image.diff_ids[-1])) as layer:
        names = layer.getnames()
        assert names == ["c", "c/Dockerfile", "c/x"]
        assert layer.getmember("c/x").mtime == 1_700_000_000


def test_workdir_makes_a_folder_once(bench: Bench) -> None:
    bench.build("FROM base:1\nWORKDIR /lib/x\nWORKDIR /lib/x\n")
    assert len(bench.image.diff_ids) == 2
    assert "/real/x" in bench.files()


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path.startswith("/missing"):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Last-Modified", "Tue, 14 Nov 2023 22:13:20 GMT")
        self.end_headers()
        self.wfile.write(b"content")

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def address() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_add_downloads(bench: Bench, address: str) -> None:
    assert after(bench, f"ADD {address}/some/file.txt?x=1 /down/") == {
        "/down": ("folder", 0o755, 0, 0, ""),
        "/down/file.txt": ("file", 0o600, 0, 0, "content"),
    }
    assert "Using cache" in bench.build(f"FROM base:1\nADD {address}/some/file.txt?x=1 /down/\n")
    bench.build(f"FROM base:1\nADD {address}/missing /x\n")
    assert bench.error == f"ADD failed: failed to GET {address}/missing with status 404 Not Found"
    bench.build(f"FROM base:1\nADD {address}/ /x/\n")
    assert bench.error == f"ADD failed: cannot determine filename from url: {address}/"


def test_a_download_is_bounded(tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dockerlab.engine.build.download.LIMIT_BYTES", 3)
    with pytest.raises(RefusalError, match="too large"):
        asyncio.run(fetch(f"{address}/x", tmp_path, to_folder=False))


def test_a_port_where_nobody_is(tmp_path: Path) -> None:
    with pytest.raises(RefusalError) as caught:
        asyncio.run(fetch("http://127.0.0.1:1/x", tmp_path, to_folder=False))
    assert caught.value.message == ('ADD failed: Get "http://127.0.0.1:1/x": dial tcp 127.0.0.1:1: connection refused')

"""Unpacking layers: what hostile archives try, and what ordinary ones must keep."""

from __future__ import annotations

import io
import os
import random
import stat
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from dockerlab.engine.images import Limits, Tree
from dockerlab.engine.images.layers import unpack
from dockerlab.engine.images.tarball import headers
from dockerlab.engine.refusals import RefusalError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the embedded engine runs on Linux only")

Row = tuple[str, bytes, str, bytes]  # name, type, link target, content
FILE, LINK, SYMLINK, FOLDER = tarfile.REGTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE


def pack(*rows: Row, form: int = tarfile.PAX_FORMAT, change: Callable[[tarfile.TarInfo], None] | None = None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for name, kind, target, content in rows:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, target, len(content)
            info.mode = 0o755 if kind == FOLDER else 0o644
            if change:
                change(info)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def spread(folder: Path, raw: bytes, limits: Limits | None = None) -> Path:
    """Unpack `raw` in a room with a file beside it that must not change."""
    home = folder / "layer"
    (home / "tree").mkdir(parents=True)
    (folder / "outside").write_text("mine")
    (home / "layer.tar").write_bytes(raw)
    try:
        unpack(home / "layer.tar", home / "tree", limits)
    finally:
        assert (folder / "outside").read_text() == "mine"
        assert sorted(path.name for path in folder.iterdir()) == ["layer", "outside"]
        assert {path.name for path in home.iterdir()} <= {"layer.tar", "tree", "owners.json"}
    return home / "tree"


def refused(folder: Path, raw: bytes, limits: Limits | None = None) -> str:
    with pytest.raises(RefusalError) as caught:
        spread(folder, raw, limits)
    assert caught.value.status in (400, 501)
    return caught.value.message


@pytest.mark.parametrize(
    "name", ["../outside", "a/../../outside", "..", "a/..", "/etc/passwd", "//x", "./../outside", "../../../../tmp/x"]
)
@pytest.mark.parametrize("kind", [FILE, FOLDER, SYMLINK, tarfile.FIFOTYPE])
def test_paths_that_lead_out_are_refused(tmp_path: Path, name: str, kind: bytes) -> None:
    content = b"x" if kind == FILE else b""
    assert "absolute" in (said := refused(tmp_path, pack((name, kind, "t", content)))) or "leads out" in said


@pytest.mark.parametrize(
    "target", ["../outside", "/etc/passwd", "../../outside", "nosuch", "", ".", "d/../../outside", "d"]
)
def test_hard_links_reach_only_files_of_the_layer(tmp_path: Path, target: str) -> None:
    refused(tmp_path, pack(("d", FOLDER, "", b""), ("d/h", LINK, target, b"")))


@pytest.mark.parametrize("target", ["..", "../..", "/", "../../outside", "/tmp", "../../../../../../.."])
def test_a_symbolic_link_leads_nowhere_but_into_the_layer(tmp_path: Path, target: str) -> None:
    """Files, folders and hard links through it: all end up inside, as they would in a container."""
    tree = spread(
        tmp_path,
        pack(
            ("a", FOLDER, "", b""),
            ("a/link", SYMLINK, target, b""),
            ("a/link/new", FILE, "", b"x"),
            ("a/link/sub/deep", FILE, "", b"y"),
            ("hard", LINK, "a/link/new", b""),
        ),
    )
    assert (tree / "a" / "link").is_symlink()
    assert (tree / "a" / "link").readlink() == Path(target)
    assert (tree / "hard").read_bytes() == b"x"
    assert Tree([tree]).read("/a/link/sub/deep") == b"y"


def test_a_file_replaces_a_link_and_does_not_go_through_it(tmp_path: Path) -> None:
    tree = spread(tmp_path, pack(("x", SYMLINK, "../../outside", b""), ("x", FILE, "", b"new")))
    assert not (tree / "x").is_symlink()
    assert (tree / "x").read_bytes() == b"new"


def test_a_hard_link_to_a_link_is_the_link_itself(tmp_path: Path) -> None:
    tree = spread(tmp_path, pack(("l", SYMLINK, "../../outside", b""), ("h", LINK, "l", b""), ("h", FILE, "", b"new")))
    assert (tree / "l").is_symlink()
    assert (tree / "h").read_bytes() == b"new"


def test_later_entries_replace_earlier_ones_of_any_kind(tmp_path: Path) -> None:
    rows: list[Row] = [
        ("p/q/r", FILE, "", b"1"),
        ("p", FILE, "", b"2"),
        ("p", FOLDER, "", b""),
        ("p/s", FILE, "", b"3"),
    ]
    tree = spread(tmp_path, pack(*rows))
    assert [path.name for path in (tree / "p").iterdir()] == ["s"]


def test_links_in_a_circle_and_through_files_are_refused(tmp_path: Path) -> None:
    circle = pack(("a", SYMLINK, "b", b""), ("b", SYMLINK, "a", b""), ("a/x", FILE, "", b""))
    assert "too many symbolic links" in refused(tmp_path / "1", circle)
    assert "through a file" in refused(tmp_path / "2", pack(("f", FILE, "", b""), ("f/x", FILE, "", b"")))


def test_devices_are_left_out_fifos_made_and_setuid_dropped(tmp_path: Path) -> None:
    def change(info: tarfile.TarInfo) -> None:
        info.mode = {"su": 0o4711, "secret": 0, "link": 0o777}.get(info.name, info.mode)
        info.uid = 1000 if info.name in ("su", "link") else 0

    raw = pack(
        ("null", tarfile.CHRTYPE, "", b""),
        ("disk", tarfile.BLKTYPE, "", b""),
        ("pipe", tarfile.FIFOTYPE, "", b""),
        ("su", FILE, "", b"#!"),
        ("secret", FILE, "", b"s"),
        ("link", SYMLINK, "su", b""),
        ("plain", FILE, "", b""),
        change=change,
    )
    tree = spread(tmp_path, raw)
    assert sorted(path.name for path in tree.iterdir()) == ["link", "pipe", "plain", "secret", "su"]
    assert stat.S_ISFIFO((tree / "pipe").lstat().st_mode)
    assert stat.S_IMODE((tree / "su").stat().st_mode) == 0o711
    assert stat.S_IMODE((tree / "secret").stat().st_mode) == 0o600
    view = Tree([tree])
    found = {name: view.lookup(name, follow=False) for name in ("su", "secret", "link", "plain")}
    assert {name: (one.mode, one.uid) for name, one in found.items() if one} == {
        "su": (0o4711, 1000),
        "secret": (0, 0),
        "link": (0o777, 1000),
        "plain": (0o644, 0),
    }


@pytest.mark.parametrize("name", [".wh.", ".wh..", "a/.wh...", ".wh.a/b", "a/.wh.b/c"])
def test_whiteouts_of_nothing_are_refused(tmp_path: Path, name: str) -> None:
    refused(tmp_path, pack((name, FILE, "", b"")))


def test_whiteouts_stay_files_whatever_they_claim_to_be(tmp_path: Path) -> None:
    raw = pack(
        ("d/.wh..wh..opq", FILE, "", b""),
        ("d/.wh.gone", SYMLINK, "/etc", b""),
        (".wh..wh.plnk", FOLDER, "", b""),
        ("to", SYMLINK, ".wh.trick", b""),
    )
    tree = spread(tmp_path, raw)
    assert sorted(path.name for path in (tree / "d").iterdir()) == [".wh..wh..opq", ".wh.gone"]
    assert all(stat.S_ISREG(path.lstat().st_mode) for path in (tree / "d").iterdir())
    assert [path.name for path in tree.iterdir() if path.name.startswith(".wh")] == []


def test_no_folder_can_be_made_to_look_like_a_whiteout(tmp_path: Path) -> None:
    refused(tmp_path, pack(("to", SYMLINK, ".wh.trick", b""), ("to/x", FILE, "", b"")))


def test_everything_is_bounded(tmp_path: Path) -> None:
    many = pack(*[(str(number), FILE, "", b"") for number in range(11)])
    assert "too many entries" in refused(tmp_path / "1", many, Limits(entries=10))
    assert "too large" in refused(tmp_path / "2", pack(("a", FILE, "", b"12345")), Limits(layer_bytes=4))
    assert "too long" in refused(tmp_path / "3", pack(("a/" * 300 + "b", FILE, "", b"")))
    assert "too long" in refused(tmp_path / "4", pack(("n" * 256, FILE, "", b"")))


def test_folders_that_are_only_implied_are_bounded_too(tmp_path: Path) -> None:
    raw = pack(*[("/".join([str(number), *"abcdefgh"]), FILE, "", b"") for number in range(10)])
    assert "too many entries" in refused(tmp_path, raw, Limits(entries=10))


def test_sparse_files_are_refused_and_never_made(tmp_path: Path) -> None:
    """A header of 512 bytes that claims a file of 8 GB."""
    info = tarfile.TarInfo("big")
    info.type, info.size = b"S", 0
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[483:495] = b"77777777777\0"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    assert "sparse" in refused(tmp_path, bytes(block) + bytes(1024))


def test_a_pax_header_cannot_claim_what_is_not_there(tmp_path: Path) -> None:
    for number, fields in enumerate(
        ({"size": "99999999999"}, {"size": "-1"}, {"GNU.sparse.realsize": "9999999999"}, {"path": "../outside"})
    ):
        (tmp_path / str(number)).mkdir()
        refused(
            tmp_path / str(number),
            pack(("a", FILE, "", b"x"), change=lambda info, f=fields: info.pax_headers.update(f)),
        )


def test_a_damaged_or_cut_archive_is_refused(tmp_path: Path) -> None:
    raw = pack(("a", FILE, "", b"x" * 3000))
    for number, broken in enumerate((raw[:700], raw[:100], b"x" * 512, raw[:200] + b"!" + raw[201:], b"garbage")):
        (tmp_path / str(number)).mkdir()
        refused(tmp_path / str(number), broken)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_headers_read_as_the_standard_library_does(form: int) -> None:
    long = () if form == tarfile.USTAR_FORMAT else (("l" * 200 + "/é", FILE, "", b"z"), ("s", SYMLINK, "t" * 300, b""))
    rows: list[Row] = [("d", FOLDER, "", b""), ("d/" + "n" * 99, FILE, "", b"abc"), ("h", LINK, "d/x", b""), *long]

    def change(info: tarfile.TarInfo) -> None:
        info.uid, info.gid, info.mode, info.mtime = (
            1234,
            99,
            0o1755,
            1_700_000_000.5 if form == tarfile.PAX_FORMAT else 1,
        )

    raw = pack(*rows, form=form, change=change)
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        theirs = [
            (one.name, one.linkname, one.size if one.isreg() else 0, one.mode, one.uid, one.gid, one.mtime, one.type)
            for one in archive
        ]
    ours = [
        (
            one.name.rstrip("/"),
            one.target,
            one.size,
            one.mode,
            one.uid,
            one.gid,
            one.mtime_ns / 1e9,
            one.kind.encode(),
        )
        for one in headers(memoryview(raw))
    ]
    assert ours == theirs


def test_a_thousand_damaged_archives_raise_nothing_but_refusals(tmp_path: Path) -> None:
    rng = random.Random(7)
    sound = pack(
        ("d", FOLDER, "", b""), ("d/f", FILE, "", b"x" * 600), ("é" * 60, FILE, "", b""), ("l", SYMLINK, "d", b"")
    )
    refusals = 0
    for _ in range(1000):
        raw = bytearray(sound)
        for _ in range(rng.randint(1, 6)):
            raw[rng.randrange(len(raw) // 2)] = rng.randrange(256)
        for offset in range(0, len(raw), 512):  # sums that fit, so that the damage is looked at
            if raw[offset + 257 : offset + 262] == b"ustar":
                raw[offset + 148 : offset + 156] = b" " * 8
                raw[offset + 148 : offset + 156] = b"%06o\0 " % sum(raw[offset : offset + 512])
        try:
            list(headers(memoryview(bytes(raw))))
        except RefusalError:
            refusals += 1
    assert 100 < refusals < 1000


def test_modes_do_not_depend_on_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        tree = spread(tmp_path, pack(("a/b/f", FILE, "", b"")))
    finally:
        os.umask(before)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (tree, tree / "a", tree / "a/b", tree / "a/b/f")] == [
        0o755,
        0o755,
        0o755,
        0o644,
    ]

"""Nothing leads out of a container's root: neither a path, nor an archive, nor what a container puts in the way."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dockerlab.engine.isolate import inside
from dockerlab.engine.refusals import RefusalError

SECRET = "not for containers"


@pytest.fixture
def place(tmp_path):
    """A root inside of a folder that must stay as it is."""
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc" / "name").write_text("inside")
    (tmp_path / "secret").write_text(SECRET)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "name").write_text(SECRET)
    (root / "out").symlink_to("../../secret")
    (root / "absolute").symlink_to(str(tmp_path / "secret"))
    (root / "folder").symlink_to("../..")
    (root / "loop").symlink_to("loop")
    (root / "name").symlink_to("/etc/name")
    return root


@pytest.fixture
def root(place):
    descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


def outside(place):
    """Give everything beside the root, with contents."""
    found = {}
    for parent, folders, names in os.walk(place.parent):
        if Path(parent) == place.parent:
            folders.remove(place.name)
        for name in (*folders, *names):
            path = Path(parent, name)
            found[path] = path.read_bytes() if path.is_file() else None
    return found


def archive(*members):
    """Make an archive of (name, type, link or content)."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as made:
        for name, kind, value in members:
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = kind, 0o755
            if kind == tarfile.REGTYPE:
                entry.size = len(value)
                made.addfile(entry, io.BytesIO(value))
            else:
                entry.linkname = value
                made.addfile(entry)
    target.seek(0)
    return target


def test_links_are_followed_inside(root):
    assert inside.read_bytes(root, "/name") == b"inside"
    assert inside.read_bytes(root, "etc/../../../etc/name") == b"inside"
    assert inside.read_bytes(root, "/folder/etc/name") == b"inside"


@pytest.mark.parametrize("path", ["/out", "/absolute", "/folder/secret", "../secret", "/loop", "/etc/name/x"])
def test_no_path_leads_out(root, path):
    with pytest.raises(OSError, match=r".") as raised:
        inside.read_bytes(root, path)
    assert SECRET not in str(raised.value)


def test_folders_are_made_inside(place, root):
    before = outside(place)
    inside.mkdirs(root, "/folder/../a/b/c")
    inside.mkdirs(root, "/folder/x")
    assert (place / "a/b/c").is_dir()
    assert (place / "x").is_dir()
    assert outside(place) == before


def test_writing_through_a_link_stays_inside(place, root):
    before = outside(place)
    with os.fdopen(inside.open_file(root, "/out", os.O_WRONLY | os.O_CREAT), "w") as file:
        file.write("x")
    assert (place / "secret").read_text() == "x"
    assert outside(place) == before


@pytest.mark.parametrize(
    "members",
    [
        [("../evil", tarfile.REGTYPE, b"x")],
        [("a/../../evil", tarfile.REGTYPE, b"x")],
        [("device", tarfile.CHRTYPE, "")],
        [("hard", tarfile.LNKTYPE, "../secret")],
    ],
)
def test_archives_that_want_out_are_refused(place, root, members):
    before = outside(place)
    with pytest.raises(RefusalError) as raised:
        inside.unpack(root, "/", archive(*members))
    assert raised.value.status == 400
    assert outside(place) == before


@pytest.mark.parametrize(
    "members",
    [
        [("/evil", tarfile.REGTYPE, b"x")],
        [("out", tarfile.REGTYPE, b"x")],
        [("link", tarfile.SYMTYPE, "/"), ("link/evil", tarfile.REGTYPE, b"x")],
        [("link", tarfile.SYMTYPE, "../.."), ("link/evil", tarfile.REGTYPE, b"x")],
        [("folder/evil", tarfile.REGTYPE, b"x")],
        [("deep", tarfile.SYMTYPE, "../../.."), ("deep", tarfile.DIRTYPE, ""), ("deep/evil", tarfile.REGTYPE, b"x")],
    ],
)
def test_archives_that_go_through_links_stay_inside(place, root, members):
    before = outside(place)
    inside.unpack(root, "/", archive(*members))
    assert outside(place) == before


def test_garbage_is_refused(root):
    with pytest.raises(RefusalError) as raised:
        inside.unpack(root, "/", io.BytesIO(b"no archive at all" * 100))
    assert raised.value.status == 400


def test_what_is_packed_comes_out_the_same(place, root, tmp_path):
    (place / "etc" / "hard").hardlink_to(place / "etc" / "name")
    (place / "etc" / "script").write_bytes(os.urandom(70_000))
    (place / "etc" / "script").chmod(0o750)
    target = io.BytesIO()
    inside.pack(root, "/etc", target)
    inside.mkdirs(root, "/copy")
    target.seek(0)
    inside.unpack(root, "/copy", target)
    assert (place / "copy/etc/script").read_bytes() == (place / "etc/script").read_bytes()
    assert (place / "copy/etc/script").stat().st_mode & 0o777 == 0o750
    assert (place / "copy/etc/hard").samefile(place / "copy/etc/name")


NAMES = st.sampled_from(["a", "b", "..", ".", "", "/", "out", "folder", "loop", "etc", "absolute", "\udcff", "x" * 300])
KINDS = st.sampled_from([tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE])
MEMBERS = st.tuples(st.lists(NAMES, min_size=1, max_size=5), KINDS, st.lists(NAMES, max_size=4))


@settings(
    max_examples=200, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(MEMBERS, max_size=6))
def test_no_archive_writes_outside(place, root, members):
    before = outside(place)
    made = archive(
        *(("/".join(name), kind, b"x" if kind == tarfile.REGTYPE else "/".join(link)) for name, kind, link in members)
    )
    try:
        inside.unpack(root, "/", made)
    except RefusalError as refused:
        assert refused.status < 500  # noqa: PT017 - either outcome is fine, a failure of ours is not
    assert outside(place) == before

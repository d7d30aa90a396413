"""Where the embedded engine keeps its things, and that nobody else can reach them."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from dockerlab.engine.places import SOCKET_LIMIT_BYTES, Places, find_places, make_private
from dockerlab.errors import EngineError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the embedded engine runs on Linux only")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def runtime() -> Iterator[Path]:
    """Give a folder for a socket; the names of pytest's own folders can be too long for one."""
    with tempfile.TemporaryDirectory(prefix="dl-") as folder:
        yield Path(folder)


def test_the_data_folder_follows_xdg_and_the_socket_the_session(tmp_path: Path, runtime: Path) -> None:
    places = find_places({"XDG_DATA_HOME": str(tmp_path / "d"), "XDG_RUNTIME_DIR": str(runtime)})
    assert places.data == tmp_path / "d" / "dockerlab" / "engine"
    assert places.socket.is_relative_to(runtime / "dockerlab")
    assert places.address == f"unix://{places.socket}"
    assert not places.data.exists()


def test_each_data_folder_has_a_socket_of_its_own_and_a_link_is_no_other_folder(tmp_path: Path, runtime: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "d")
    session = {"XDG_RUNTIME_DIR": str(runtime)}
    first, other, same = (
        find_places({"XDG_DATA_HOME": str(tmp_path / name), **session}).socket for name in ("d", "e", "link")
    )
    assert first == same != other


@pytest.mark.parametrize("session", ["", "relative", "/nowhere/at/all"])
def test_without_a_session_the_socket_is_below_the_folder_for_temporary_files(tmp_path: Path, session: str) -> None:
    places = find_places({"XDG_DATA_HOME": str(tmp_path), "XDG_RUNTIME_DIR": session, "TMPDIR": str(tmp_path)})
    assert places.runtime.parent == tmp_path / f"dockerlab-{os.getuid()}"


def test_a_session_that_would_make_the_path_too_long_is_not_taken(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * SOCKET_LIMIT_BYTES)
    deep.mkdir(mode=0o700)
    places = find_places({"XDG_DATA_HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(deep), "TMPDIR": "/tmp"})
    assert len(os.fsencode(places.socket)) < SOCKET_LIMIT_BYTES


def test_a_path_that_is_too_long_all_the_same_is_refused_with_advice(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="too long") as caught:
        Places(tmp_path / "d", tmp_path / ("x" * SOCKET_LIMIT_BYTES)).make()
    assert "XDG_RUNTIME_DIR" in caught.value.advice


def test_every_folder_is_for_its_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        Places(tmp_path / "a" / "d", tmp_path / "b" / "r").make()
    finally:
        os.umask(before)
    assert {mode(tmp_path / part) for part in ("a", "a/d", "b", "b/r")} == {0o700}


def test_a_folder_that_others_may_enter_is_closed(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    folder.mkdir(mode=0o755)
    folder.chmod(0o777)
    make_private(folder)
    assert mode(folder) == 0o700


def test_a_link_is_refused_where_others_could_have_made_it(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    (tmp_path / "file").write_text("")
    make_private(tmp_path / "link", may_be_link=True)
    for name in ("link", "file"):
        with pytest.raises(EngineError, match="not a folder") as caught:
            make_private(tmp_path / name)
        assert caught.value.advice


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    os.chown(folder, 12345, 12345)
    with pytest.raises(EngineError, match="another user"):
        make_private(folder)

"""Files of the engine are removed whatever a container did to them."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("the embedded engine needs Linux", allow_module_level=True)

from dockerlab.engine import files

NOBODY = 65534


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give a folder of somebody who is not root, and be that person."""
    made = Path(tempfile.mkdtemp())
    root = os.geteuid() == 0
    if root:
        os.chown(made, NOBODY, NOBODY)
        os.seteuid(NOBODY)
    yield made
    if root:
        os.seteuid(0)
    assert not made.exists()


def closed_folders(folder: Path) -> None:
    (folder / "a" / "b" / "c").mkdir(parents=True)
    (folder / "a" / "b" / "c" / "file").touch(mode=0)
    for closed in ("a/b/c", "a/b", "a"):
        (folder / closed).chmod(0)


def empty_closed_folder(folder: Path) -> None:
    """Make what the kernel leaves of an overlay."""
    (folder / "work").mkdir(mode=0)


def folder_without_write(folder: Path) -> None:
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "file").touch()
    (folder / "a").chmod(0o500)


def deep_folders(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", mode=0o700, dir_fd=opened)
        below = os.open("d", os.O_RDONLY, dir_fd=opened)
        os.close(opened)
        opened = below
    os.mkdir("closed", mode=0, dir_fd=opened)
    os.close(opened)


@pytest.mark.parametrize("make", [closed_folders, empty_closed_folder, folder_without_write, deep_folders])
def test_everything_goes(folder: Path, make: Callable[[Path], None]) -> None:
    make(folder)
    files.remove(folder)


def test_what_is_not_there_is_no_error(tmp_path: Path) -> None:
    files.remove(tmp_path / "none")
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    files.remove(link)
    assert tmp_path.is_dir()
    assert not link.is_symlink()

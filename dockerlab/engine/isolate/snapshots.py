"""The writable root of a container on top of the layers of its image.

Two ways: an overlay, mounted by the container's own first process in its namespaces, where the kernel lets us; else
a copy. Both keep a folder a container, and both see one more layer on top of those of the image: the empty files and
folders over which ``/proc``, ``/etc/hosts`` and the like are laid, as Docker does, so that they never show as changes.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from dockerlab.engine import files
from dockerlab.engine.isolate import changes, trees
from dockerlab.engine.isolate.spec import Change
from dockerlab.engine.isolate.stack import OPAQUE, OPAQUE_ATTRIBUTE, WHITEOUT
from dockerlab.engine.refusals import RefusalError, bad, missing

MOST_LAYERS = 24
"""More are made into one first: the kernel takes their names as one page of text."""

_BASE_FOLDERS = ("dev", "etc", "proc", "sys")
_BASE_FILES = (".dockerenv", "etc/hostname", "etc/hosts", "etc/resolv.conf")
_BASE_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
}


@dataclass(frozen=True)
class Rootfs:
    """The folders of one container's root.

    Attributes
    ----------
    folder : Path
        Where the container's own files are.
    layers : tuple of Path
        What is below, lowest first.
    overlay : bool
        Whether ``upper`` is to be laid over the layers; else ``root`` is a copy.
    """

    folder: Path
    layers: tuple[Path, ...]
    overlay: bool

    @property
    def upper(self) -> Path:
        """What the container wrote."""
        return self.folder / "upper"

    @property
    def work(self) -> Path:
        """The kernel's own folder for an overlay."""
        return self.folder / "work"

    @property
    def root(self) -> Path:
        """The copy."""
        return self.folder / "root"

    @property
    def top_down(self) -> tuple[Path, ...]:
        """Where to look a path up without mounting anything, topmost first."""
        return (self.upper, *self.layers[::-1]) if self.overlay else (self.root,)


class Snapshots:
    """The roots of all containers below one folder. All methods block."""

    def __init__(self, folder: Path, *, overlay: bool) -> None:
        self._folder = folder
        self._overlay = overlay
        for name in ("roots", "flat", "layers"):
            (folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        self._base = _make_base(folder / "base")

    def prepare(self, container: str, layers: Sequence[Path]) -> Rootfs:
        """Make the root of a container.

        Raises
        ------
        RefusalError
            There is no room (500).
        """
        folder = self._folder / "roots" / container
        try:
            folder.mkdir(mode=0o700)
            whole = (*self._usable(layers), self._base)
            made = Rootfs(folder, whole, self._overlay)
            if self._overlay:
                made.upper.mkdir(mode=0o755)
                made.work.mkdir(mode=0o700)
            else:
                trees.copy(self._flat(whole), made.root)
            files.replace(
                folder / "root.json",
                json.dumps({"layers": [str(layer) for layer in whole], "overlay": self._overlay}).encode(),
            )
        except BaseException as error:
            files.remove(folder)
            if isinstance(error, OSError):
                raise _no_room(error) from error
            raise
        return made

    def get(self, container: str) -> Rootfs:
        """Give the root of a container that was made before, in an earlier life of the engine too.

        Raises
        ------
        RefusalError
            There is none (404).
        """
        folder = self._folder / "roots" / container
        try:
            kept = json.loads((folder / "root.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise missing("container", container) from error
        return Rootfs(folder, tuple(map(Path, kept["layers"])), bool(kept["overlay"]))

    def remove(self, container: str) -> None:
        """Delete the root of a container; nothing happens when there is none."""
        folder = self._folder / "roots" / container
        # Away under its name first: what is half deleted must not look like a root
        gone = self._folder / "roots" / f".{container}"
        try:
            os.replace(folder, gone)
        except FileNotFoundError:
            return
        except OSError:
            gone = folder
        files.remove(gone)

    def tidy(self, containers: Sequence[str]) -> None:
        """Delete every root but those of these containers, and the copies of images that are gone."""
        for folder in (self._folder / "roots").iterdir():
            if folder.name not in containers:
                files.remove(folder)
        for converted in (self._folder / "layers").glob("*.source"):
            if not Path(converted.read_text(encoding="utf-8")).exists():
                files.remove(converted.with_suffix(""))
                converted.unlink()
        for flat in (self._folder / "flat").iterdir():
            try:
                layers = json.loads((flat / "layers.json").read_text(encoding="utf-8"))
            except (OSError, ValueError):
                layers = [""]
            if not all(Path(layer).exists() for layer in layers):
                files.remove(flat)

    def differences(self, container: str) -> list[Change]:
        """Tell what a container wrote, sorted by path."""
        _, entries = self._changes(container)
        with _readable(container):
            return [Change(entry.kind, f"/{entry.path}") for entry in sorted(entries, key=lambda one: one.path)]

    def write_layer(self, container: str, target: BinaryIO) -> None:
        """Write what a container wrote as the tar archive of a layer, always in the same order."""
        top, entries = self._changes(container)
        with _readable(container):
            changes.write_layer(top, entries, target)

    def _changes(self, container: str) -> tuple[Path, Iterator[changes.Entry]]:
        found = self.get(container)
        if found.overlay:
            return found.upper, changes.of_overlay(found.upper, found.layers[::-1])
        return found.root, changes.of_copy(found.root, self._flat(found.layers))

    def _usable(self, layers: Sequence[Path]) -> tuple[Path, ...]:
        """Give layers whose deletions the kernel understands, and not too many."""
        if not self._overlay:
            return tuple(layers)
        usable = tuple(self._converted(layer) for layer in layers)
        return usable if len(usable) <= MOST_LAYERS else (self._flat(tuple(layers)),)

    def _converted(self, layer: Path) -> Path:
        """Give a layer with the whiteouts of an overlay in the place of those of an archive."""
        made = self._folder / "layers" / hashlib.sha256(str(layer).encode()).hexdigest()[:16]
        plain = made.with_suffix(".plain")
        if plain.exists():
            return layer
        if made.is_dir():
            return made
        if not any(name.startswith(WHITEOUT) for _, _, names in os.walk(layer) for name in names):
            plain.touch()
            return layer
        made.with_suffix(".source").write_text(str(layer), encoding="utf-8")
        being_made = Path(tempfile.mkdtemp(dir=self._folder / "flat"))  # where tidy() looks for what was left half done
        subprocess.run(["cp", "-alT", str(layer), str(being_made)], check=True, capture_output=True)
        for parent, _, names in os.walk(being_made):
            for name in names:
                if name == OPAQUE:
                    os.unlink(f"{parent}/{name}")
                    os.setxattr(parent, OPAQUE_ATTRIBUTE, b"y")
                elif name.startswith(WHITEOUT):
                    os.unlink(f"{parent}/{name}")
                    os.mknod(f"{parent}/{name[len(WHITEOUT) :]}", stat.S_IFCHR, 0)
        return _settle(being_made, made)

    def _flat(self, layers: tuple[Path, ...]) -> Path:
        """Give one folder with what all these layers amount to."""
        key = hashlib.sha256("\n".join(map(str, layers)).encode()).hexdigest()[:24]
        made = self._folder / "flat" / key
        if (made / "root").is_dir():
            return made / "root"
        # Several containers may be the first of an image at the same moment: each makes its own, the fastest one stays
        being_made = Path(tempfile.mkdtemp(dir=made.parent, prefix=f"{key}."))
        root = being_made / "root"
        root.mkdir(mode=0o755)
        for layer in layers:
            trees.apply(layer, root)
        files.replace(being_made / "layers.json", json.dumps([str(layer) for layer in layers]).encode())
        return _settle(being_made, made) / "root"


@contextmanager
def _readable(container: str) -> Iterator[None]:
    """Say what is wrong when the files of a container cannot be walked through."""
    try:
        yield
    except (OSError, RecursionError) as error:
        if isinstance(error, OSError) and error.errno != errno.ENAMETOOLONG:
            raise _no_room(error) from error
        raise bad(f"the folders of container {container[:12]} are nested too deeply") from error


def _settle(being_made: Path, made: Path) -> Path:
    """Give a folder its name; where another thread was faster, that one's stays."""
    try:
        os.replace(being_made, made)
    except OSError:
        files.remove(being_made)
    return made


def _make_base(folder: Path) -> Path:
    """Make the layer over which a container's own files are laid."""
    for name in _BASE_FOLDERS:
        (folder / name).mkdir(mode=0o755, parents=True, exist_ok=True)
    for name in _BASE_FILES:
        (folder / name).touch(mode=0o644)
    for name, target in _BASE_LINKS.items():
        if not os.path.lexists(folder / "dev" / name):
            os.symlink(target, folder / "dev" / name)
    # The same time for all, so that a copy of it is known as one
    for name in (*_BASE_FILES, *_BASE_FOLDERS, "."):
        os.utime(folder / name, (0, 0))
    return folder


def _no_room(error: OSError) -> RefusalError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return RefusalError(500, "the root of the container: no space left on device")
    return RefusalError(500, f"the root of the container cannot be made or read: {error}")

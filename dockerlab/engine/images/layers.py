"""Unpacking a layer into a folder, whatever its tar archive tries."""

from __future__ import annotations

import json
import os
from pathlib import Path

from dockerlab.engine.images.disk import mapped, remove_tree
from dockerlab.engine.images.paths import WHITEOUT, Node, Paths, refuse
from dockerlab.engine.images.record import Limits
from dockerlab.engine.images.tarball import CHARACTER, DEVICE, FIFO, FILE, FOLDER, LINK, SYMLINK, Header, headers
from dockerlab.engine.refusals import bad, failed

__all__ = ["OPAQUE", "OWNERS", "WHITEOUT", "mapped", "unpack"]

OPAQUE = ".wh..wh..opq"
OWNERS = "owners.json"  # beside the folder: mode, uid and gid of what the folder cannot show
_AUFS = ".wh..wh."  # notes of an old storage driver, which mean nothing outside it
_WRITE_AT_ONCE = 8 << 20
_OPEN_FOLDERS = 32
_TIME_LIMIT_NS = (1 << 62) - 1
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def unpack(archive: Path, folder: Path, limits: Limits | None = None) -> int:
    """Unpack the tar archive of a layer into a folder that is empty and that nobody else writes to. Blocks.

    Nothing is written outside `folder`: the paths that the archive has made so far are kept in memory, symbolic links
    among them are resolved there and inside the layer only, and the kernel is asked not to follow any. Whiteouts stay
    files (``.wh.NAME``, ``.wh..wh..opq``). Device nodes are left out, setuid bits dropped, and the owner may always
    read and write; where that differs from what the archive says, a file ``owners.json`` beside the folder has the
    truth.

    Parameters
    ----------
    archive : Path
        Uncompressed.
    folder : Path
        Empty.
    limits : Limits, optional

    Returns
    -------
    int
        Bytes of the files in it.

    Raises
    ------
    RefusalError
        400: the archive is damaged, too large, or wants out of the folder.
    """
    with mapped(archive) as data, _Unpacker(data, folder, limits or Limits()) as unpacker:
        try:
            unpacker.run()
        except OSError as error:
            text = error.strerror or str(error)
            raise failed(f"Error processing tar file: {text.lower()}") from error
        owners = unpacker.owners
        size_bytes = unpacker.size_bytes
    if owners:
        (folder.parent / OWNERS).write_text(json.dumps(owners), encoding="ascii")
    return size_bytes


class _Unpacker:
    """One run over one archive."""

    def __init__(self, data: memoryview, folder: Path, limits: Limits) -> None:
        self._data = data
        self._limits = limits
        self._paths = Paths(limits)
        self._nodes = self._paths.nodes
        self._times: dict[str, int] = {}
        self._root = os.open(folder, _FOLDER_FLAGS)
        self._open: dict[str, int] = {"": self._root}
        self.owners: dict[str, tuple[int, int, int]] = {}
        self.size_bytes = 0

    def __enter__(self) -> _Unpacker:
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in self._open.values():
            os.close(descriptor)

    def run(self) -> None:
        """Unpack everything."""
        os.fchmod(self._root, 0o755)
        for count, header in enumerate(headers(self._data)):
            if count >= self._limits.entries:
                raise bad(f"the layer has too many entries: at most {self._limits.entries} are taken")
            self.size_bytes += header.size
            if self.size_bytes > self._limits.layer_bytes:
                raise bad(f"the layer is too large: at most {self._limits.layer_bytes} bytes are taken")
            self._one(header)
        for path, nanoseconds in self._times.items():  # last, as each entry in a folder changes its time
            if path in self._nodes:
                os.utime(self._folder(path), ns=(nanoseconds, nanoseconds))

    def _one(self, header: Header) -> None:
        """Unpack one entry."""
        parts = self._paths.parts(header.name, header.name)
        if not parts:
            if header.kind != FOLDER:
                refuse(header.name, "it takes the place of the root")
            self._attributes("", header, self._root)
            return
        name = parts.pop()
        if name.startswith(WHITEOUT):
            if name.startswith(_AUFS) and name != OPAQUE:
                return
            if name.removeprefix(WHITEOUT) in ("", ".", ".."):
                refuse(header.name, "it is not a whiteout of anything")
        parent = self._paths.folder(parts, header.name, self._implied)
        path = f"{parent}/{name}" if parent else name
        self._paths.bound(path, header.name)
        self._make(header, parent, name, path)

    def _make(self, header: Header, parent: str, name: str, path: str) -> None:
        """Make `path`, which is `name` in the folder `parent` of the layer."""
        there = self._nodes.get(path)
        if name.startswith(WHITEOUT):
            if there is None:
                os.close(os.open(name, _NEW_FILE_FLAGS, 0o600, dir_fd=self._folder(parent)))
                self._nodes[path] = Node(FILE)
            return
        target = self._paths.linked(header.target, path, header.name) if header.kind == LINK else ""
        if target == path:
            return
        if there is not None and not (there.kind == header.kind == FOLDER):
            self._remove(path, there, parent, name)
            there = None
        self.owners.pop(path, None)
        if header.kind == FOLDER:
            if there is None:
                os.mkdir(name, 0o700, dir_fd=self._folder(parent))
                self._nodes[path] = Node(FOLDER)
            self._attributes(path, header, self._folder(path))
        elif header.kind == FILE:
            self._write(header, name, path, self._folder(parent))
        elif header.kind == SYMLINK:
            self._symlink(header, name, path, self._folder(parent))
        elif header.kind == LINK:
            self._hard_link(target, name, path, parent)
        elif header.kind == FIFO:
            self._fifo(header, name, path, self._folder(parent))
        elif header.kind not in (CHARACTER, DEVICE):
            refuse(header.name, "its kind is not known")

    def _implied(self, parent: str, name: str) -> None:
        """Make a folder that the archive has no entry for."""
        folder = self._folder(parent)
        os.mkdir(name, 0o755, dir_fd=folder)
        os.chmod(name, 0o755, dir_fd=folder)  # noqa: S103 - whatever the umask is

    def _symlink(self, header: Header, name: str, path: str, folder: int) -> None:
        """Make a symbolic link, wherever it points: nothing of ours follows it."""
        if not header.target or len(header.target) > self._limits.path_bytes:
            refuse(header.name, "it is a symbolic link to nowhere")
        os.symlink(header.target, name, dir_fd=folder)
        self.size_bytes += len(os.fsencode(header.target))  # Docker counts what stat says
        self._nodes[path] = Node(SYMLINK, header.target)
        self._note(path, header, 0o777, 0o777)
        nanoseconds = _time(header)
        os.utime(name, ns=(nanoseconds, nanoseconds), dir_fd=folder, follow_symlinks=False)

    def _hard_link(self, target: str, name: str, path: str, parent: str) -> None:
        """Make a hard link to a file of the layer."""
        target_parent, _, target_name = target.rpartition("/")
        source = os.dup(self._folder(target_parent))  # opening the other folder may close this one
        try:
            os.link(target_name, name, src_dir_fd=source, dst_dir_fd=self._folder(parent), follow_symlinks=False)
        finally:
            os.close(source)
        self._nodes[path] = self._nodes[target]
        if target in self.owners:
            self.owners[path] = self.owners[target]

    def _fifo(self, header: Header, name: str, path: str, folder: int) -> None:
        """Make a FIFO; nobody else writes here, so it still is one when it gets its mode."""
        os.mkfifo(name, 0o600, dir_fd=folder)
        shown = header.mode & 0o777 | 0o600
        os.chmod(name, shown, dir_fd=folder)
        self._nodes[path] = Node(FIFO)
        self._note(path, header, header.mode, shown)
        nanoseconds = _time(header)
        os.utime(name, ns=(nanoseconds, nanoseconds), dir_fd=folder, follow_symlinks=False)

    def _write(self, header: Header, name: str, path: str, folder: int) -> None:
        """Make a file with its content."""
        descriptor = os.open(name, _NEW_FILE_FLAGS, 0o600, dir_fd=folder)
        try:
            self._nodes[path] = Node(FILE)
            position, end = header.offset, header.offset + header.size
            while position < end:
                position += os.write(descriptor, self._data[position : min(end, position + _WRITE_AT_ONCE)])
            shown = header.mode & 0o1777 | 0o600
            os.fchmod(descriptor, shown)
            self._note(path, header, header.mode, shown)
            nanoseconds = _time(header)
            os.utime(descriptor, ns=(nanoseconds, nanoseconds))
        finally:
            os.close(descriptor)

    def _attributes(self, path: str, header: Header, descriptor: int) -> None:
        """Give a folder its mode, and note its time for later."""
        shown = header.mode & 0o1777 | 0o700
        os.fchmod(descriptor, shown)
        self._note(path, header, header.mode, shown)
        self._times[path] = _time(header)

    def _note(self, path: str, header: Header, mode: int, shown: int) -> None:
        """Keep what the folder cannot show."""
        self.owners.pop(path, None)
        if mode != shown or header.uid or header.gid:
            self.owners[path] = (mode, header.uid, header.gid)

    def _remove(self, path: str, node: Node, parent: str, name: str) -> None:
        """Remove what a later entry of the same path replaces."""
        folder = self._folder(parent)
        if node.kind != FOLDER:
            os.unlink(name, dir_fd=folder)
        else:
            inside = [path, *(one for one in self._nodes if one.startswith(f"{path}/"))]
            for one in inside:
                if one in self._open:
                    os.close(self._open.pop(one))
                self._times.pop(one, None)
                self.owners.pop(one, None)
                self._nodes.pop(one)
            remove_tree(name, folder)
        self._nodes.pop(path, None)
        self.owners.pop(path, None)

    def _folder(self, path: str) -> int:
        """Open a real folder of the layer, from the root down and without following links."""
        found = self._open.get(path)
        if found is not None:
            return found
        parent, _, name = path.rpartition("/")
        above = self._open.get(parent)
        if above is None:
            above = self._folder(parent)
        descriptor = os.open(name, _FOLDER_FLAGS, dir_fd=above)
        if len(self._open) >= _OPEN_FOLDERS:
            oldest = next(one for one in self._open if one)
            os.close(self._open.pop(oldest))
        self._open[path] = descriptor
        return descriptor


def _time(header: Header) -> int:
    """Give an entry's time within what the kernel takes."""
    return max(-_TIME_LIMIT_NS, min(_TIME_LIMIT_NS, header.mtime_ns))

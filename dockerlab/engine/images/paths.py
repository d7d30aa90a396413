"""What the paths of a layer lead to while it is unpacked; nothing here looks at the disk."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from dockerlab.engine.images.record import Limits
from dockerlab.engine.images.tarball import FOLDER, SYMLINK
from dockerlab.engine.refusals import bad

WHITEOUT = ".wh."
DEPTH_LIMIT = 256
_HOPS_LIMIT = 40
_NAME_LIMIT_BYTES = 255


@dataclass
class Node:
    """What the layer has at a path: FILE, SYMLINK, FOLDER or FIFO, and where a symbolic link points."""

    kind: str
    target: str = ""


class Paths:
    """The real paths that a layer has so far. What a path of its archive means is found here, inside the layer only.

    All methods raise 400 for a path that a layer cannot have; `shown` is its name in the sentence.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.nodes: dict[str, Node] = {"": Node(FOLDER)}

    def parts(self, text: str, shown: str) -> list[str]:
        """Split a path of the archive."""
        if text.startswith("/"):
            refuse(shown, "its path is absolute")
        if len(text) > self._limits.path_bytes:
            refuse(shown[:100], "its path is too long")
        parts = [part for part in text.split("/") if part not in ("", ".")]
        for part in parts:
            if part == "..":
                refuse(shown, "its path leads out of the layer")
            if len(part) > _NAME_LIMIT_BYTES // 4 and len(os.fsencode(part)) > _NAME_LIMIT_BYTES:
                refuse(shown[:100], "a name in its path is too long")
        if any(part.startswith(WHITEOUT) for part in parts[:-1]):
            refuse(shown, "a whiteout is not a folder")
        return parts

    def folder(self, parts: list[str], shown: str, make: Callable[[str, str], None] | None = None) -> str:
        """Give the real folder that `parts` lead to, through the layer's own links.

        Parameters
        ----------
        parts : list of str
        shown : str
        make : callable, optional
            Given the folder and the name of each that is missing, to make it; without it, what is missing is taken as
            a folder.
        """
        plain = "/".join(parts)
        node = self.nodes.get(plain)
        if node is not None and node.kind == FOLDER:  # then each part of it is one: only real paths are kept
            return plain
        path, waiting, hops = "", parts[::-1], 0
        while waiting:
            part = waiting.pop()
            if part == "..":
                path = path.rpartition("/")[0]
                continue
            step = f"{path}/{part}" if path else part
            node = self.nodes.get(step)
            if node is None and make is not None:
                self.bound(step, shown)
                if part.startswith(WHITEOUT):
                    refuse(shown, "a whiteout is not a folder")
                if len(self.nodes) > 2 * self._limits.entries:  # one only implied costs the disk as much as an entry
                    raise bad(f"the layer has too many entries: at most {self._limits.entries} are taken")
                make(path, part)
                self.nodes[step] = Node(FOLDER)
            if node is None or node.kind == FOLDER:
                path = step
            elif node.kind == SYMLINK:
                hops += 1
                if hops > _HOPS_LIMIT:
                    refuse(shown, "it leads through too many symbolic links")
                if node.target.startswith("/"):
                    path = ""
                waiting.extend(one for one in reversed(node.target.split("/")) if one not in ("", "."))
            else:
                refuse(shown, "it leads through a file")
        return path

    def bound(self, path: str, shown: str) -> None:
        """Refuse a path that is too long or too deep."""
        if len(path) > self._limits.path_bytes or path.count("/") >= DEPTH_LIMIT:
            refuse(shown[:100], "its path is too long")

    def linked(self, target: str, path: str, shown: str) -> str:
        """Give the file of the layer that a hard link at `path` names."""
        parts = self.parts(target, shown)
        if not parts:
            refuse(shown, "it is a hard link to the root")
        name = parts.pop()
        plain = "/".join((*parts, name))
        if plain not in self.nodes:
            parent = self.folder(parts, shown)
            plain = f"{parent}/{name}" if parent else name
        node = self.nodes.get(plain)
        if node is None or node.kind == FOLDER or name.startswith(WHITEOUT):
            refuse(shown, f"it is a hard link to {target!r}, which is not a file of this layer")
        if plain.startswith(f"{path}/"):
            refuse(shown, "it is a hard link to something in itself")
        return plain


def refuse(name: str, reason: str) -> NoReturn:
    """Refuse an entry of a layer."""
    raise bad(f"invalid layer: {name!r} cannot be unpacked: {reason}")

"""What a path means in a stack of layers, found without mounting them. All functions block, for microseconds."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

WHITEOUT, OPAQUE = ".wh.", ".wh..wh..opq"
OPAQUE_ATTRIBUTE = "user.overlay.opaque"
_MAX_LINKS = 40


@dataclass(frozen=True)
class Found:
    """Where a path leads: the path without links, and the file of this machine that holds it (None: not there)."""

    path: str
    file: Path | None
    mode: int = 0


def is_whiteout(found: os.stat_result) -> bool:
    """Tell whether a file of an overlay's layer says that something was deleted."""
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


def is_opaque(folder: Path) -> bool:
    """Tell whether a folder of a layer hides what lower layers have at its place."""
    try:
        return os.getxattr(folder, OPAQUE_ATTRIBUTE) == b"y"
    except OSError:
        return False


def find(layers: Sequence[Path], path: str) -> Found:
    """Follow a path through layers, topmost first.

    Raises
    ------
    OSError
        ELOOP or ENOTDIR, as the kernel would.
    """
    waiting = [part for part in path.split("/") if part not in ("", ".")][::-1]
    trail: list[str] = []
    links = 0
    while waiting:
        part = waiting.pop()
        if part == "..":
            trail = trail[:-1]
            continue
        file, mode = _top(layers, [*trail, part])
        if file is None:
            rest = [piece for piece in waiting[::-1] if piece != ".."]
            return Found("/" + "/".join([*trail, part, *rest]), None)
        if stat.S_ISLNK(mode):
            links += 1
            if links > _MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            target = os.readlink(file)
            if target.startswith("/"):
                trail = []
            waiting += [piece for piece in target.split("/") if piece not in ("", ".")][::-1]
            continue
        if waiting and not stat.S_ISDIR(mode):
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        trail.append(part)
    file, mode = _top(layers, trail)
    return Found("/" + "/".join(trail), file, mode)


def find_program(layers: Sequence[Path], name: str, search: str, workdir: str) -> Found:
    """Find a program as ``execvp`` would.

    Raises
    ------
    FileNotFoundError, PermissionError
        It is not there, or not a program.
    """
    if "/" in name:
        places = [name if name.startswith("/") else f"{workdir}/{name}"]
    else:
        places = [f"{folder or workdir}/{name}" for folder in search.split(":")]
    refused = False
    for place in places:
        try:
            found = find(layers, place)
        except OSError:
            continue
        if found.file is None:
            continue
        if stat.S_ISREG(found.mode) and found.mode & 0o111:
            return found
        refused = True
    if refused:
        raise PermissionError(errno.EACCES, "permission denied", name)
    if "/" in name:
        raise FileNotFoundError(errno.ENOENT, "no such file or directory", name)
    raise FileNotFoundError(errno.ENOENT, "executable file not found in $PATH", name)


def _top(layers: Sequence[Path], trail: list[str]) -> tuple[Path | None, int]:
    """Find the topmost layer's file for a path without links in it."""
    relative = "/".join(trail)
    for layer in layers:
        file = layer / relative
        try:
            found = os.lstat(file)
        except (FileNotFoundError, NotADirectoryError):
            if _hides(layer, trail):
                return None, 0
            continue
        if is_whiteout(found):
            return None, 0
        return file, found.st_mode
    return None, 0


def _hides(layer: Path, trail: list[str]) -> bool:
    """Tell whether a layer that does not have a path hides it from the layers below."""
    folder = layer
    for part in trail:
        if os.path.lexists(folder / (WHITEOUT + part)) or os.path.lexists(folder / OPAQUE) or is_opaque(folder):
            return True
        folder /= part
        try:
            found = os.lstat(folder)
        except (FileNotFoundError, NotADirectoryError):
            return False
        if not stat.S_ISDIR(found.st_mode):
            return True
    return False

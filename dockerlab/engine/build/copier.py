"""The instructions COPY and ADD, and the folder that WORKDIR makes: from words to a layer in the store."""

from __future__ import annotations

import posixpath
import re
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from dockerlab.engine.build.blocking import blocking
from dockerlab.engine.build.context import uncompressed
from dockerlab.engine.build.copying import Copy, is_archive
from dockerlab.engine.build.download import fetch, is_address
from dockerlab.engine.build.sources import Source, find_sources
from dockerlab.engine.build.users import find_owner
from dockerlab.engine.images.store import Images
from dockerlab.engine.images.tree import Tree
from dockerlab.engine.refusals import RefusalError, bad


async def gather(
    keyword: str, paths: Sequence[str], destination: str, tree: Tree, folder: Path, *, is_context: bool
) -> list[Source]:
    """Find, or download, what is to be copied.

    Parameters
    ----------
    keyword : str
        COPY or ADD.
    paths : sequence of str
        As they stand there, expanded.
    destination : str
        As it stands there, expanded.
    tree : Tree
        Where they are.
    folder : Path
        For downloads.
    is_context : bool
        Whether `tree` is the context.

    Returns
    -------
    list of Source

    Raises
    ------
    RefusalError
        400, in Docker's words.
    """
    local = [path for path in paths if not is_address(path)]
    if len(local) < len(paths) and keyword == "COPY":
        raise bad("COPY failed: source can't be a URL for COPY")
    to_folder = destination.endswith("/")
    found = [await fetch(path, folder, to_folder=to_folder) for path in paths if is_address(path)]
    if local:
        found += await blocking(find_sources, tree, local, keyword=keyword, is_context=is_context)
    if len(found) > 1 and not destination.endswith("/"):
        raise bad(
            f"When using {keyword} with more than one source file, the destination must be a directory and end with a /"
        )
    return found


def read_mode(text: str) -> int | None:
    """Read ``--chmod``; None where there is none."""
    if not text:
        return None
    if not re.fullmatch(r"[0-7]{1,5}", text) or int(text, 8) > 0o7777:
        raise bad(f"invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777")
    return int(text, 8)


def copy_layer(
    images: Images,
    folder: Path,
    base: Tree,
    sources: Sequence[Source],
    destination: str,
    *,
    workdir: str,
    owner: str = "",
    mode: int | None = None,
    unpack: bool = False,
) -> str:
    """Make the layer of a COPY or ADD; blocks.

    Parameters
    ----------
    images : Images
        Gets the layer.
    folder : Path
        For files that are only needed now.
    base : Tree
        The image so far.
    sources : sequence of Source
    destination : str
        Counts from `workdir` unless it is absolute.
    workdir : str
    owner : str
        ``--chown``.
    mode : int or None
        ``--chmod``.
    unpack : bool
        Whether archives are unpacked.

    Returns
    -------
    str
        The diff id; empty when nothing changes.

    Raises
    ------
    RefusalError
        400, in Docker's words: the destination is in the way.
    """
    ids = find_owner(base, owner) if owner else None
    place = posixpath.join("/", workdir, destination)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        archives: dict[str, Path] = {}
        if unpack:
            for number, source in enumerate(sources):
                plain = _archive(source, Path(name, f"{number}.tar"), images.limits.layer_bytes)
                if plain is not None:
                    archives[source.entry.path] = plain
        copy = Copy(base, owner=ids, mode=mode, now_s=time.time(), limits=images.limits)
        copy.add(sources, place, archives=archives)
        return _store(images, Path(name, "layer.tar"), copy)


def folder_layer(images: Images, folder: Path, base: Tree, path: str) -> str:
    """Make the layer with a folder that WORKDIR names; blocks. Gives its diff id, empty when the folder is there."""
    entry = base.lookup(path)
    if path == "/" or (entry is not None and entry.kind == "folder"):
        return ""
    copy = Copy(base, owner=None, mode=None, now_s=time.time(), limits=images.limits)
    copy.make_folder(path)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        return _store(images, Path(name, "layer.tar"), copy)


def _store(images: Images, path: Path, copy: Copy) -> str:
    if copy.empty:
        return ""
    with path.open("wb") as file:
        copy.write(file)
    return images.add_layer(path).diff_id


def _archive(source: Source, target: Path, limit_bytes: int) -> Path | None:
    """Give the plain tar where a source is an archive, compressed or not; downloads are not looked at, as in Docker."""
    if source.entry.kind != "file" or source.downloaded:
        return None
    try:
        plain = uncompressed(source.entry.source, target, limit_bytes)
    except RefusalError:
        return None
    return plain if is_archive(plain) else None

"""The build context: what the client sent, unpacked into a folder of its own. All functions block."""

from __future__ import annotations

from pathlib import Path

from dockerlab.engine.build.options import context_path
from dockerlab.engine.images.compression import chunks
from dockerlab.engine.images.layers import unpack
from dockerlab.engine.images.record import Limits
from dockerlab.engine.images.tree import Tree
from dockerlab.engine.refusals import RefusalError, bad, failed

DOCKERFILE_LIMIT = 1 << 20
_PLAIN_TAR_MAGIC, _MAGIC_AT = b"ustar", 257


def unpack_context(archive: Path, folder: Path, limits: Limits) -> Tree:
    """Unpack a context.

    Nothing is written outside `folder`, and a symbolic link in it never leads out of the returned view.

    Parameters
    ----------
    archive : Path
        A tar archive, compressed or not.
    folder : Path
        Empty.
    limits : Limits

    Returns
    -------
    Tree

    Raises
    ------
    RefusalError
        400: it is damaged, too large, or wants out of its folder. 500: the disk is full.
    """
    root = folder / "root"
    root.mkdir()
    try:
        plain = uncompressed(archive, folder / "context.tar", limits.archive_bytes)
        unpack(plain, root, limits)
    except OSError as error:
        raise failed(f"Error processing tar file: {(error.strerror or str(error)).lower()}") from error
    except RefusalError as error:
        raise RefusalError(error.status, f"the build context cannot be used: {error.message}") from error
    if plain != archive:
        plain.unlink()
    return Tree([root])


def uncompressed(archive: Path, target: Path, limit_bytes: int) -> Path:
    """Give `archive` where it is a plain tar, else uncompress it into `target`.

    Raises
    ------
    RefusalError
        400: the compressed data is damaged, or longer than `limit_bytes`.
    """
    with archive.open("rb") as source:
        head = source.read(_MAGIC_AT + len(_PLAIN_TAR_MAGIC))
        if head[_MAGIC_AT:] == _PLAIN_TAR_MAGIC or not head:
            return archive
        source.seek(0)
        with target.open("wb") as file:
            size = 0
            for chunk in chunks(source):
                size += len(chunk)
                if size > limit_bytes:
                    raise bad(f"it is too large: at most {limit_bytes} bytes are taken")
                file.write(chunk)
    return target


def read_dockerfile(context: Tree, name: str) -> bytes:
    """Read the Dockerfile of a context.

    Parameters
    ----------
    context : Tree
    name : str
        Its path.

    Returns
    -------
    bytes

    Raises
    ------
    RefusalError
        400: there is none, or it is too long.
    """
    path = context_path(name)
    entry = context.lookup(path)
    if entry is None and path == "Dockerfile":
        path = "dockerfile"
        entry = context.lookup(path)
    if entry is None:
        raise bad(f"Cannot locate specified Dockerfile: {name}")
    if entry.kind == "folder":
        raise bad(f"unexpected error reading Dockerfile: {name} is a directory")
    return context.read(path, DOCKERFILE_LIMIT)

"""What COPY and ADD copy: files and folders that are found in a context or an image, with their content's hash.

All functions block.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dockerlab.engine.build.options import context_path
from dockerlab.engine.images.tree import Entry, Tree
from dockerlab.engine.refusals import RefusalError, bad

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Source:
    """One thing to copy.

    Attributes
    ----------
    name : str
        What it is called where it goes into a folder.
    entry : Entry
        Itself, links followed.
    tree : Tree
        Where it is.
    digest : str
        ``file:...`` or ``dir:...``: equal for equal content, whatever its times and owners.
    downloaded : bool
        Whether it came from an address.
    """

    name: str
    entry: Entry
    tree: Tree
    digest: str
    downloaded: bool = False


def find_sources(tree: Tree, paths: Sequence[str], *, keyword: str, is_context: bool) -> list[Source]:
    """Find what is to be copied.

    Parameters
    ----------
    tree : Tree
        The context, or an image.
    paths : sequence of str
        May have ``*``, ``?`` and ``[...]``.
    keyword : str
        COPY or ADD, for the sentences.
    is_context : bool
        Whether `tree` is the context.

    Returns
    -------
    list of Source

    Raises
    ------
    RefusalError
        400, in Docker's words: one is not there.
    """
    found = []
    for path in paths:
        try:
            clean = context_path(path) if is_context else posixpath.normpath("/" + path).lstrip("/") or "."
        except RefusalError as error:
            raise bad(f"{keyword} failed: {error}") from error
        if _has_wildcards(clean):
            found += [_source(tree, one) for one in _matches(tree, clean)]
            continue
        if tree.lookup(clean) is None:
            where = "file not found in build context or excluded by .dockerignore: " if is_context else ""
            raise bad(f"{keyword} failed: {where}stat {clean}: file does not exist")
        found.append(_source(tree, clean))
    if not found:
        raise bad(f"{keyword} failed: no source files were specified")
    return found


def digest_of(sources: Sequence[Source]) -> str:
    """Give the digest of all together, as Docker's history shows it."""
    if len(sources) == 1:
        return sources[0].digest
    together = hashlib.sha256(
        ",".join(f"{one.name}={one.digest}" for one in sources).encode("utf-8", "surrogateescape")
    )
    return f"multi:{together.hexdigest()}"


def file_digest(entry: Entry) -> str:
    """Hash the content of a file."""
    content = hashlib.sha256()
    with entry.source.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            content.update(chunk)
    return content.hexdigest()


def _source(tree: Tree, path: str) -> Source:
    entry = tree.lookup(path)
    if entry is None:  # a link to nowhere that a wildcard found
        raise bad(f"COPY failed: stat {path}: file does not exist")
    name = posixpath.basename(path)
    if entry.kind == "folder":
        content = hashlib.sha256()
        for one in tree.walk(entry.path):
            if one.path != entry.path:
                relative = one.path[len(entry.path.rstrip("/")) + 1 :]
                content.update(_fingerprint(relative, one))
        return Source(name, entry, tree, f"dir:{content.hexdigest()}")
    if entry.kind != "file":
        raise bad(f"{path} is neither a file nor a folder and cannot be copied")
    return Source(name, entry, tree, f"file:{hashlib.sha256(_fingerprint(name, entry)).hexdigest()}")


def _fingerprint(name: str, entry: Entry) -> bytes:
    content = file_digest(entry) if entry.kind == "file" else ""
    text = f"{name}\0{entry.kind}\0{entry.mode & 0o1777:o}\0{entry.target}\0{content}\n"
    return text.encode("utf-8", "surrogateescape")


def _has_wildcards(path: str) -> bool:
    return any(letter in path for letter in "*?[")


def _matches(tree: Tree, pattern: str) -> Iterator[str]:
    """Give the paths that a pattern matches, in order."""
    parts = pattern.split("/")
    fixed = 0
    while not _has_wildcards(parts[fixed]):
        fixed += 1
    start = "/".join(parts[:fixed])
    yield from _below(tree, start, parts[fixed:])


def _below(tree: Tree, folder: str, parts: Sequence[str]) -> Iterator[str]:
    entry = tree.lookup(folder or "/")
    if entry is None or entry.kind != "folder":
        return
    pieces = _pieces(parts[0])
    for name in tree.names(entry.path):
        if not _fits(name, pieces):
            continue
        path = f"{folder}/{name}" if folder else name
        if len(parts) == 1:
            yield path
        else:
            yield from _below(tree, path, parts[1:])


def _pieces(pattern: str) -> list[re.Pattern[str]]:
    """Divide a pattern for one name at its stars, as Go's filepath.Match reads it; the pieces have a fixed length."""
    pieces, index = [""], 0
    while index < len(pattern):
        letter = pattern[index]
        index += 1
        if letter == "*":
            pieces.append("")
        elif letter == "?":
            pieces[-1] += "."
        elif letter == "[":
            text, index = _letters(pattern, index)
            pieces[-1] += text
        elif letter == "\\" and index < len(pattern):
            pieces[-1] += re.escape(pattern[index])
            index += 1
        else:
            pieces[-1] += re.escape(letter)
    return [re.compile(piece, re.DOTALL) for piece in pieces]


def _fits(name: str, pieces: Sequence[re.Pattern[str]]) -> bool:
    """Tell whether a name fits: each piece as early as it can be, the last at the end. Never slow, unlike one regex."""
    if len(pieces) == 1:
        return pieces[0].fullmatch(name) is not None
    found = pieces[0].match(name)
    for piece in pieces[1:-1]:
        found = piece.search(name, found.end()) if found else None
    if found is None:
        return False
    return any(pieces[-1].fullmatch(name, start) for start in range(found.end(), len(name) + 1))


def _letters(pattern: str, index: int) -> tuple[str, int]:
    """Translate ``[a-z]`` or ``[^a-z]``."""
    negated = pattern[index : index + 1] == "^"
    index += negated
    inner = ""
    while index < len(pattern) and (pattern[index] != "]" or not inner):
        letter = pattern[index]
        if letter == "\\" and index + 1 < len(pattern):
            index += 1
            letter = pattern[index]
            inner += re.escape(letter)
        else:
            inner += letter if letter == "-" else re.escape(letter)
        index += 1
    try:
        if index >= len(pattern):
            raise ValueError
        re.compile(f"[{inner}]")
    except (ValueError, re.error):
        raise bad("syntax error in pattern") from None
    return f"[{'^' if negated else ''}{inner}]", index + 1

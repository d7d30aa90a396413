"""From the text of a Dockerfile to its logical lines: directives, comments, continuations."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass

from dockerfile_parse import DockerfileParser  # type: ignore[import-untyped]

from dockerlab.engine.refusals import bad

LINE_LIMIT = 65535
ROW_LIMIT = 10_000  # the parser's work grows with the square of the lines of one instruction
INSTRUCTION_LIMIT = 128 << 10  # with its continuations; the kernel takes no longer argument
_DIRECTIVE = re.compile(r"#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*")


@dataclass(frozen=True)
class Line:
    """One instruction as it stands in the file, its continuations joined."""

    number: int
    text: str


@dataclass(frozen=True)
class Lines:
    """What is in the file.

    Attributes
    ----------
    lines : tuple of Line
    escape : str
        A backslash or a backtick.
    warnings : tuple of str
        What Docker says about odd ones.
    """

    lines: tuple[Line, ...]
    escape: str
    warnings: tuple[str, ...]


def split(text: str) -> Lines:
    """Split a Dockerfile.

    Parameters
    ----------
    text : str

    Returns
    -------
    Lines

    Raises
    ------
    RefusalError
        400, in Docker's words.
    """
    rows = [row.removesuffix("\r") for row in text.removeprefix("\ufeff").split("\n")]
    if len(rows) > ROW_LIMIT:
        raise bad(f"dockerfile parse error line {ROW_LIMIT}: at most {ROW_LIMIT} lines are taken")
    if any(len(row.encode("utf-8", "surrogateescape")) > LINE_LIMIT for row in rows):
        raise _unread(f"dockerfile line greater than max allowed size of {LINE_LIMIT}")
    escape = _escape(rows)
    # For the parser an empty line ends a continuation, and one that the end of the file cuts off is lost. To Docker an
    # empty line is as good as a comment, so it gets one; and a last line with nothing on it ends what is still open.
    given = "\n".join([*(row if row.strip() else "#" for row in rows), " "])
    continued = re.compile(re.escape(escape) + r"[^\S\n]*\n")
    found: list[Line] = []
    warnings: list[str] = []
    for part in DockerfileParser(fileobj=io.BytesIO(given.encode())).structure:
        # The parser's value has lost blanks that Docker keeps, its content has them and no comments
        joined = continued.sub("", part["content"]).strip()
        if not joined or joined.startswith("#"):
            continue
        start, end = part["startline"], part["endline"]
        if len(joined) > INSTRUCTION_LIMIT:
            raise bad(
                f"dockerfile parse error line {start + 1}: an instruction has at most {INSTRUCTION_LIMIT} characters"
            )
        if not all(row.strip() for row in rows[start : min(end, len(rows) - 1)]):
            warnings.append(f"[WARNING]: Empty continuation line found in:\n    {joined}")
        found.append(Line(start + 1, joined))
    if not found:
        raise _unread("file with no instructions")
    return Lines(tuple(found), escape, tuple(warnings))


def _escape(rows: list[str]) -> str:
    """Find the directive that sets the escape character; directives stand before everything else."""
    escape, seen = "\\", set()
    for row in rows:
        match = _DIRECTIVE.fullmatch(row.lstrip())
        name = match[1].lower() if match else ""
        if not match or name not in ("escape", "syntax"):
            break
        if name in seen:
            raise _unread(f"only one {name} parser directive can be used")
        seen.add(name)
        if name == "escape":
            escape = match[2]
            if escape not in ("\\", "`"):
                raise _unread(f"invalid escape token '{escape}' does not match ` or \\")
    return escape


def _unread(reason: str) -> Exception:
    return bad(f"failed to parse Dockerfile: {reason}")

"""Headers of tar archives, read strictly and fast: ustar, pax, and GNU's long names.

The standard library's module takes 25 microseconds an entry and ends in silence at a header that it does not
understand; what it would not show, another program would unpack.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from dockerlab.engine.refusals import RefusalError, bad, unsupported

BLOCK = 512
_ZERO = bytes(BLOCK)
_REGULAR = (b"0", b"\0", b"7")
FILE, LINK, SYMLINK, CHARACTER, DEVICE, FOLDER, FIFO = "0123456"


@dataclass
class Header:
    """One entry.

    Attributes
    ----------
    name, target : str
        As they are in the archive; bytes that are not UTF-8 are kept as os.fsdecode does.
    kind : str
        One of FILE, LINK, SYMLINK, CHARACTER, DEVICE, FOLDER, FIFO.
    mode, uid, gid : int
        Permissions and owner.
    mtime_ns : int
        Time of the last change.
    offset, size : int
        Where its content is in the archive.
    """

    name: str
    target: str
    kind: str
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    offset: int
    size: int


def headers(data: memoryview, *, extended_limit: int = 1 << 20) -> Iterator[Header]:
    """Read the entries of an uncompressed archive.

    Parameters
    ----------
    data : memoryview
        The archive.
    extended_limit : int
        Most bytes of one extended header.

    Yields
    ------
    Header

    Raises
    ------
    RefusalError
        400: it is damaged or cut short. 501: it has sparse files.
    """
    offset, end = 0, len(data)
    extended: dict[str, str] = {}
    everywhere: dict[str, str] = {}
    while offset + BLOCK <= end:
        block = bytes(data[offset : offset + BLOCK])
        if block == _ZERO:
            return
        if sum(block) - sum(block[148:156]) + 256 != _number(block[148:156]):
            raise bad(f"invalid tar header at byte {offset}: the checksum is wrong")
        kind, size = block[156:157], _number(block[124:136])
        offset += BLOCK
        if kind in (b"x", b"g", b"L", b"K"):
            if size > extended_limit or offset + size > end:
                raise bad("invalid tar header: an extended header is too long or cut short")
            content = bytes(data[offset : offset + size])
            offset += -(-size // BLOCK) * BLOCK
            if kind == b"x":
                extended.update(_pax(content))
            elif kind == b"g":
                everywhere.update(_pax(content))
            else:
                extended["path" if kind == b"L" else "linkpath"] = os.fsdecode(content.rstrip(b"\0"))
            continue
        header = _entry(block, kind, size, offset, {**everywhere, **extended} if everywhere else extended)
        extended = {}
        if header.kind != FILE:
            # Others have no content, whatever their size says; a hard link of old archives may carry its file's size
            header.size = 0
        if offset + header.size > end:
            raise bad("unexpected EOF: the tar archive is cut short")
        yield header
        offset += -(-header.size // BLOCK) * BLOCK
    if offset < end and any(data[offset:end]):
        raise bad("unexpected EOF: the tar archive is cut short")
    if extended:
        raise bad("unexpected EOF: the tar archive ends after an extended header")


def _entry(block: bytes, kind: bytes, size: int, offset: int, extended: dict[str, str]) -> Header:
    """Make the entry of a header and what extended headers say about it."""
    name, target = os.fsdecode(block[:100].split(b"\0", 1)[0]), os.fsdecode(block[157:257].split(b"\0", 1)[0])
    if block[257:263] == b"ustar\0" and block[345]:
        name = os.fsdecode(block[345:500].split(b"\0", 1)[0]) + "/" + name
    uid, gid, mtime_ns = _number(block[108:116]), _number(block[116:124]), _number(block[136:148]) * 1_000_000_000
    if extended:
        if any(key.startswith("GNU.sparse.") for key in extended):
            raise unsupported("sparse files in a tar archive are not supported by this engine: pack them without -S")
        name, target = extended.get("path", name), extended.get("linkpath", target)
        if "\0" in name or "\0" in target:
            raise bad("invalid tar header: a name has a zero byte")
        try:
            size, uid, gid = (int(extended.get(key, old)) for key, old in (("size", size), ("uid", uid), ("gid", gid)))
            if "mtime" in extended:
                mtime_ns = _nanoseconds(extended["mtime"])
        except ValueError:
            raise bad("invalid tar header: an extended header has a bad number") from None
        if size < 0:
            raise bad("invalid tar header: a size is negative")
    if kind in _REGULAR:
        text = FOLDER if name.endswith("/") else FILE  # so did the oldest archives write a folder
    elif kind in (b"1", b"2", b"3", b"4", b"5", b"6"):
        text = kind.decode()
    elif kind == b"S":
        raise unsupported("sparse files in a tar archive are not supported by this engine: pack them without -S")
    else:
        raise bad(f"invalid tar header: the kind {kind!r} of {name!r} is not known")
    return Header(name, target, text, _number(block[100:108]) & 0o7777, uid, gid, mtime_ns, offset, size)


@lru_cache(maxsize=4096)  # most entries have the mode, owner and time of others
def _number(field: bytes) -> int:
    """Read a number: octal digits, or GNU's binary form."""
    if field[0] & 0x80:
        if field[0] == 0xFF:  # negative: only ever a time before 1970
            return int.from_bytes(field, "big", signed=True)
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    text = field.split(b"\0", 1)[0].strip()
    try:
        value = int(text, 8) if text else 0
    except ValueError:
        value = -1
    if value < 0 or b"_" in text:
        raise bad("invalid tar header: a number cannot be read")
    return value


def _nanoseconds(text: str) -> int:
    """Read a time of a pax header: seconds with a fraction of any length."""
    whole, _, fraction = text.partition(".")
    nanoseconds = int((fraction + "0" * 9)[:9])
    return int(whole) * 1_000_000_000 + (-nanoseconds if whole.startswith("-") else nanoseconds)


def _pax(content: bytes) -> dict[str, str]:
    """Read the records of a pax header, each a line ``LENGTH KEY=VALUE``."""
    found: dict[str, str] = {}
    position = 0
    while position < len(content):
        space = content.find(b" ", position, position + 12)
        try:
            length = int(content[position:space]) if space > 0 else 0
        except ValueError:
            length = 0
        record = content[space + 1 : position + length]
        key, equals, value = record[:-1].partition(b"=")
        if length <= 0 or position + length > len(content) or not equals or record[-1:] != b"\n":
            raise _damaged()
        if value:  # an empty one takes back what a global header said; none are written by the programs in use
            found[os.fsdecode(key)] = os.fsdecode(value)
        position += length
    return found


def _damaged() -> RefusalError:
    return bad("invalid tar header: an extended header is damaged")

"""Reading what may be compressed: gzip, bzip2, xz, zstd or plain."""

from __future__ import annotations

import bz2
import importlib
import lzma
import zlib
from collections.abc import Iterator
from typing import Any, Protocol

from dockerlab.engine.refusals import RefusalError, bad, unsupported

CHUNK = 1 << 20
_MAGIC = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
)


class Source(Protocol):
    """Something to read bytes from."""

    def read(self, size: int, /) -> bytes:
        """Give at most `size` bytes, none at the end."""
        ...


def chunks(source: Source) -> Iterator[bytes]:
    """Read a source to its end, uncompressed; blocks.

    Parameters
    ----------
    source : object with a read method

    Yields
    ------
    bytes
        Bounded pieces; whoever reads must bound their sum.

    Raises
    ------
    RefusalError
        400: the compressed data is damaged or cut short. 501: it is zstd, and this Python cannot read that.
    """
    first = source.read(CHUNK)
    while first and len(first) < 6:
        more = source.read(CHUNK)
        if not more:
            break
        first += more
    kind = next((name for magic, name in _MAGIC if first.startswith(magic)), "plain")
    if kind == "plain":
        yield from _plain(source, first)
        return
    try:
        yield from _uncompressed(source, first, kind)
    except RefusalError:
        raise
    except Exception as error:  # each decompressor has an error class of its own
        raise bad(f"the {kind} data is damaged: {error}") from error


def _plain(source: Source, chunk: bytes) -> Iterator[bytes]:
    while chunk:
        yield chunk
        chunk = source.read(CHUNK)


def _uncompressed(source: Source, chunk: bytes, kind: str) -> Iterator[bytes]:
    """Uncompress a stream, which may be several one after another."""
    engine = _engine(kind)
    while True:
        if engine.eof:
            rest = engine.unused_data or chunk
            rest = rest.lstrip(b"\0") if kind == "gzip" else rest  # gzip may be padded
            chunk = rest or source.read(CHUNK)
            if not chunk:
                return
            if kind == "gzip" and not chunk.strip(b"\0"):
                chunk = b""
                continue
            engine = _engine(kind)
        piece = engine.decompress(chunk, CHUNK)
        chunk = b""
        if piece:
            yield piece
        if not engine.eof and engine.needs_input:
            chunk = source.read(CHUNK)
            if not chunk:
                raise EOFError("unexpected EOF")


class _Gzip:
    """zlib's decompressor with the interface of the others."""

    def __init__(self) -> None:
        self._engine = zlib.decompressobj(wbits=31)
        self._more = False

    @property
    def eof(self) -> bool:
        return self._engine.eof

    @property
    def unused_data(self) -> bytes:
        return self._engine.unused_data

    @property
    def needs_input(self) -> bool:
        return not self._more

    def decompress(self, data: bytes, limit: int) -> bytes:
        piece = self._engine.decompress(self._engine.unconsumed_tail + data, limit)
        # A full piece may mean that more of it waits inside, with no input left over
        self._more = bool(self._engine.unconsumed_tail) or len(piece) >= limit
        return piece


class _Zstandard:
    """The package zstandard, whose decompressor has no bound on its output: fed in pieces that make 16 MiB at most."""

    _STEP = 512  # four bytes can stand for 128 KiB

    def __init__(self, module: Any) -> None:
        self._engine = module.ZstdDecompressor().decompressobj()
        self._waiting = memoryview(b"")
        self.eof = False
        self.unused_data = b""

    @property
    def needs_input(self) -> bool:
        return not self._waiting

    def decompress(self, data: bytes, _limit: int) -> bytes:
        if data:  # given only when nothing waits
            self._waiting = memoryview(data)
        step, self._waiting = self._waiting[: self._STEP], self._waiting[self._STEP :]
        piece = bytes(self._engine.decompress(step))
        if self._engine.eof:
            self.eof = True
            self.unused_data = bytes(self._engine.unused_data) + bytes(self._waiting)
        return piece


def _engine(kind: str) -> Any:
    """Make a decompressor."""
    if kind == "gzip":
        return _Gzip()
    if kind == "bzip2":
        return bz2.BZ2Decompressor()
    if kind == "xz":
        return lzma.LZMADecompressor()
    try:
        return importlib.import_module("compression.zstd").ZstdDecompressor()  # Python 3.14
    except ImportError:
        pass
    try:
        return _Zstandard(importlib.import_module("zstandard"))
    except ImportError:
        raise unsupported(
            "zstd-compressed layers cannot be read here: that needs Python 3.14 or the package zstandard"
            " (`pip install zstandard`)"
        ) from None

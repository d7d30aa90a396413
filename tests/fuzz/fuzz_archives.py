"""Archives for the fuzz tests: good ones to begin with, hostile ones, and bombs that are small on the way."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from dockerlab.engine.images.record import host_architecture

_PLACES = ("/bin/busybox", "/usr/bin/busybox", "/sbin/busybox", "/usr/lib/initramfs-tools/bin/busybox")
_TOOLS = ("sh", "echo", "true", "false", "cat", "ls", "sleep", "stat", "id", "mkdir", "rm", "dd", "yes", "chmod")
_KINDS = (tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE)
_KINDS += (tarfile.FIFOTYPE, tarfile.GNUTYPE_SPARSE, b"Z", b"x", b"g", b"L", b"K", b"7", b"\0")


def entry(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, target: str = "", mode: int = 0o755) -> bytes:
    """Make the bytes of one entry."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode, info.size = kind, target, mode, len(content)
    return info.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512)


def archive(files: Mapping[str, bytes]) -> bytes:
    """Make a tar archive of files."""
    return b"".join(entry(name, content) for name, content in files.items()) + bytes(1024)


def broken_header(name: bytes, size: bytes = b"00000000000\0", kind: bytes = b"0", mode: bytes = b"0000755\0") -> bytes:
    """Make a header with fields as they are given, and the right checksum."""
    block = bytearray(512)
    block[: len(name[:100])] = name[:100]
    block[100:108], block[124:136], block[156:157] = mode, size, kind
    block[108:124] = b"0000000\0" * 2
    block[136:148] = b"00000000000\0"
    block[257:265] = b"ustar\x0000"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def size_field(size: int) -> bytes:
    """Give a size in GNU's binary form."""
    return b"\x80" + size.to_bytes(11, "big")


@lru_cache
def busybox_layer() -> bytes:
    """Give a root file system with busybox."""
    program = next((Path(place) for place in _PLACES if Path(place).exists()), None)
    if program is None or shutil.which("busybox") is None:
        pytest.skip("there is no busybox on this machine")
    content = entry("bin/", kind=tarfile.DIRTYPE) + entry("bin/busybox", program.read_bytes())
    for tool in _TOOLS:
        content += entry(f"bin/{tool}", kind=tarfile.SYMTYPE, target="busybox")
    content += entry("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n", mode=0o644)
    return content + bytes(1024)


def inflated(layer: bytes) -> str:
    """Give the digest of a layer as it is when nothing is compressed."""
    digest, engine = hashlib.sha256(), zlib.decompressobj(wbits=31)
    rest = layer if layer.startswith(b"\x1f\x8b") else b""
    try:
        while rest:
            digest.update(engine.decompress(rest, 1 << 20))
            rest = engine.unconsumed_tail
        digest.update(engine.flush())
    except zlib.error:
        return hashlib.sha256(layer).hexdigest()
    return digest.hexdigest() if engine.eof else hashlib.sha256(layer).hexdigest()


def configuration(layers: Iterable[bytes], **more: Any) -> dict[str, Any]:
    """Make the configuration of an image."""
    digests = [f"sha256:{inflated(layer)}" for layer in layers]
    return {
        "architecture": host_architecture(),
        "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": digests},
        **more,
    }


def saved(layers: Iterable[bytes], tags: Iterable[str], config: Any = None, manifest: Any = None) -> bytes:
    """Make what `docker save` writes."""
    layers = list(layers)
    files = {f"{number}/layer.tar": layer for number, layer in enumerate(layers)}
    files["config.json"] = json.dumps(configuration(layers) if config is None else config).encode()
    told = [{"Config": "config.json", "RepoTags": list(tags), "Layers": list(files)[: len(layers)]}]
    files["manifest.json"] = json.dumps(told if manifest is None else manifest).encode()
    return archive(files)


@lru_cache
def busybox_image() -> bytes:
    """Give the archive of the image fuzz/base:1."""
    return saved([busybox_layer()], ["fuzz/base:1"])


def zeros_gzip(size: int) -> bytes:
    """Compress zeros without ever having them."""
    engine, block = zlib.compressobj(9, wbits=31), bytes(1 << 20)
    return b"".join(engine.compress(block) for _ in range(size >> 20)) + engine.flush()


def gzip_of(pieces: Iterator[bytes]) -> bytes:
    """Compress pieces one after another."""
    target = io.BytesIO()
    with gzip.GzipFile(fileobj=target, mode="wb", compresslevel=1) as file:
        for piece in pieces:
            file.write(piece)
    return target.getvalue()


def names(outside: str) -> st.SearchStrategy[str]:
    """Give names for entries: ordinary, hostile, and whatever."""
    hostile = st.sampled_from(
        [
            "a", "b", "a/b", "a/b/c", "./a", "a/", "/", ".", "..", "", "../x", "a/../../x", "/etc/passwd", outside,
            outside.lstrip("/"), "../" * 30 + outside.lstrip("/"), "a/.wh.b", ".wh..wh..opq", ".wh.", ".wh...", ".wh..",
            "x" * 256, "d/" * 300 + "e", "x" * 5000, "a\\b", "a\nb", "\udcff", "é", "Dockerfile", ".dockerignore",
            "manifest.json", "config.json", "index.json", "blobs/sha256/x", "repositories", "proc/self/root/x",
            "bin/busybox/x", "a/b/../../..", "dev/null",
        ]
    )  # fmt: skip
    return st.one_of(hostile, hostile, st.text(max_size=20).map(lambda text: text.replace("\0", "")))


@st.composite
def entries(draw: st.DrawFn, outside: str) -> bytes:
    """Draw one entry, whole or with a header that lies."""
    name, kind = draw(names(outside)), draw(st.sampled_from(_KINDS))
    content = draw(st.binary(max_size=64)) if kind in (b"0", b"x", b"g", b"L", b"K", b"7") else b""
    if draw(st.integers(0, 9)) == 0:
        size = draw(
            st.one_of(
                st.sampled_from([b"77777777777\0", size_field(10**12), size_field((1 << 88) - 1), b"\xff" * 12]),
                st.binary(min_size=12, max_size=12),
            )
        )
        mode = draw(st.sampled_from([b"0000755\0", b"\xff" * 8, b"-000755\0", b"abcdefg\0"]))
        return broken_header(name.encode("utf-8", "surrogateescape")[:100], size, kind, mode) + content
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, len(content), draw(names(outside))
    info.mode = draw(st.sampled_from([0o644, 0o755, 0, 0o4755, 0o7777]))
    info.mtime = draw(st.sampled_from([0, 1, -1, 2**31, 2**40, 2**62, 1.5]))
    info.uid = draw(st.sampled_from([0, 1000, 2**31, 2**40]))
    style = draw(st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
    if style == tarfile.PAX_FORMAT:
        keys = st.sampled_from(
            ["path", "linkpath", "size", "uid", "mtime", "comment", "GNU.sparse.map", "SCHILY.xattr.x"]
        )
        info.pax_headers = draw(
            st.dictionaries(keys, st.one_of(names(outside), st.sampled_from(["-1", "1e9", "9" * 30])))
        )
    try:
        return info.tobuf(style, "utf-8", "surrogateescape") + content + bytes(-len(content) % 512)
    except (ValueError, UnicodeError):
        return broken_header(b"x", kind=kind)


def tars(outside: str) -> st.SearchStrategy[bytes]:
    """Draw archives, perhaps cut, scribbled on, or compressed."""
    whole = st.lists(entries(outside), max_size=8).map(lambda parts: b"".join(parts) + bytes(1024))
    return st.one_of(whole, whole, damaged(whole), whole.map(gzip.compress), damaged(whole.map(gzip.compress)))


@st.composite
def damaged(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """Cut bytes, or change some."""
    content = bytearray(draw(whole))
    if content and draw(st.booleans()):
        del content[draw(st.integers(0, len(content))) :]
    for _ in range(draw(st.integers(0, 4))):
        if content:
            content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
    return bytes(content)


def bombs() -> Iterator[tuple[str, bytes]]:
    """Give small archives that want a lot."""
    yield "a file of 10**12 bytes", broken_header(b"big", size_field(10**12)) + bytes(1024)
    yield "a pax header of 10**12 bytes", broken_header(b"p", size_field(10**12), b"x") + bytes(1024)
    yield (
        "a long name of 256 MiB",
        gzip_of(iter([broken_header(b"n", size_field(256 << 20), b"L"), *([b"n" * (1 << 20)] * 256), bytes(1024)])),
    )
    yield "extended headers one after another", b"".join(entry("l", b"n\0", b"L") for _ in range(4000)) + bytes(1024)
    yield "pax headers one after another", b"".join(entry("p", b"9 a=bcde\n", b"x") for _ in range(4000)) + bytes(1024)

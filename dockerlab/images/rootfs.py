"""A root file system made of one static busybox, as a tar archive that comes out the same every time."""

from __future__ import annotations

import io
import struct
import subprocess
import tarfile
from pathlib import Path

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# ELF machine numbers (e_machine) of the architectures as engines name them.
_MACHINES = {"amd64": 62, "x86_64": 62, "arm64": 183, "aarch64": 183}
_DYNAMIC_LOADER = 3  # PT_INTERP
_NEEDED = frozenset({"cat", "httpd", "mkfifo", "rm", "sh", "sleep", "usleep", "wget"})
_DOCKERFILE = f'FROM scratch\nADD rootfs.tar /\nENV PATH={PATH}\nCMD ["sh"]\n'
_FOLDERS = {
    **dict.fromkeys(("bin", "dev", "etc", "home", "proc", "sys", "usr", "usr/bin", "var", "var/www"), 0o755),
    "root": 0o700,
    "tmp": 0o1777,
}
_USERS = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n"
_GROUP = "root:x:0:\nnogroup:x:65534:\n"


def unfit(binary: Path, architecture: str) -> str:
    """Say why this busybox cannot be the base image of an engine; empty where it can.

    Parameters
    ----------
    binary : Path
        The program.
    architecture : str
        The engine's architecture, such as ``amd64`` or ``aarch64``.
    """
    machine = _MACHINES.get(architecture)
    if machine is None:
        return f"the engine's architecture {architecture} is not one that this is made for"
    try:
        content = binary.read_bytes()
        if content[:6] != b"\x7fELF\x02\x01":
            return f"{binary} is not a 64-bit Linux program"
        found = struct.unpack_from("<H", content, 18)[0]
        if found != machine:
            return f"{binary} is for another architecture than the engine ({architecture})"
        if _DYNAMIC_LOADER in _segment_types(content):
            return f"{binary} is not static (it needs libraries that an empty image does not have)"
        missing = _NEEDED - set(applets(binary))
    except (OSError, struct.error, subprocess.SubprocessError) as error:
        return f"{binary} cannot be used: {error}"
    return f"{binary} lacks {', '.join(sorted(missing))}" if missing else ""


def applets(binary: Path) -> list[str]:
    """Return the sorted names of the commands that this busybox knows."""
    # The program decides by the name that it is called with, so a copy under another name must be called busybox too.
    answer = subprocess.run(
        ["busybox", "--list"], executable=binary, capture_output=True, text=True, timeout=10, check=True
    )
    return sorted(set(answer.stdout.split()) - {"busybox"})


def context(binary: Path) -> io.BytesIO:
    """Make the build context of the base image; the same busybox gives the same bytes."""
    files = {"Dockerfile": _DOCKERFILE.encode(), "rootfs.tar": _rootfs(binary)}
    outer = io.BytesIO()
    with tarfile.open(fileobj=outer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in files.items():
            _add_file(archive, name, content, 0o644)
    outer.seek(0)
    return outer


def _rootfs(binary: Path) -> bytes:
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, mode in sorted(_FOLDERS.items()):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            archive.addfile(entry)
        _add_file(archive, "bin/busybox", binary.read_bytes(), 0o755)
        for name in applets(binary):
            _add_link(archive, f"bin/{name}", "busybox")
        # Scripts that begin with `#!/usr/bin/env sh` look there.
        _add_link(archive, "usr/bin/env", "/bin/busybox")
        _add_file(archive, "etc/passwd", _USERS.encode(), 0o644)
        _add_file(archive, "etc/group", _GROUP.encode(), 0o644)
    return inner.getvalue()


def _add_file(archive: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    # A TarInfo has owner 0:0 and time 0 unless told otherwise: nothing of this machine gets in.
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))


def _add_link(archive: tarfile.TarFile, name: str, target: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, target, 0o777
    archive.addfile(entry)


def _segment_types(content: bytes) -> set[int]:
    """Return the types of the program headers of a little-endian 64-bit ELF file."""
    offset = struct.unpack_from("<Q", content, 32)[0]
    size, count = struct.unpack_from("<HH", content, 54)
    return {struct.unpack_from("<I", content, offset + size * number)[0] for number in range(count)}

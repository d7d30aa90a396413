"""What is in the files of a server, and which of it means something; pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from posixpath import basename, dirname
from typing import Literal

Kind = Literal["file", "folder", "link", "other", "missing", "unread"]

IGNORED = (
    # The engine writes these for each container.
    "/.dockerenv",
    "/etc/hosts",
    "/etc/hostname",
    "/etc/resolv.conf",
    "/etc/mtab",
    "/sbin/docker-init",
    # What the kernel shows is no file of the server's.
    "/dev",
    "/proc",
    "/sys",
    # About processes that run at the moment: numbers, sockets, scratch, and what they told.
    "/run",
    "/var/run",
    "*.pid",
    "/tmp",  # noqa: S108 - a path in a container
    "/var/tmp",  # noqa: S108
    "/var/log",
)
"""What differs between any two servers and says nothing about how they were set up.

A pattern with a slash in front names a path and all below it; one without names a file by its last name. ``*`` stands
for anything. A short list on purpose: a shell's history, for instance, is a trace of work by hand, and is kept.
"""


@dataclass(frozen=True)
class Item:
    """What is at one path of a server.

    Parameters
    ----------
    kind : {"file", "folder", "link", "other", "missing", "unread"}
        ``other`` is a device, pipe or socket; ``unread`` could not be read.
    mode : int
        Permission bits; 0 for links, which have none of their own.
    size_bytes : int
        Of a file; 0 otherwise.
    digest : str
        SHA-256 of a file's content, as hexadecimal digits.
    target : str
        Where a link points.
    """

    kind: Kind
    mode: int = 0
    size_bytes: int = 0
    digest: str = ""
    target: str = ""

    def __str__(self) -> str:
        if self.kind == "file":
            return f"{self.size_bytes:,} bytes, mode {self.mode:o}"
        return f"link to {self.target}" if self.kind == "link" else self.kind


MISSING = Item("missing")


@dataclass(frozen=True)
class Change:
    """One path at which a container is not as its image.

    Parameters
    ----------
    path : str
    how : {"added", "changed", "deleted"}
        As ``docker diff`` tells: a file that was written to is changed, also where its content came out the same.
    item : Item or None
        What is there now; None where nobody read it.
    """

    path: str
    how: Literal["added", "changed", "deleted"]
    item: Item | None = None


@dataclass(frozen=True)
class Server:
    """What was found in one container.

    Parameters
    ----------
    name : str
    image_id : str
        Of the image that it was made from.
    changes : tuple of Change
        Each with its item, without what is ignored.
    """

    name: str
    image_id: str
    changes: tuple[Change, ...] = ()


def is_ignored(path: str, ignore: Iterable[str]) -> bool:
    """Tell whether a path is left out.

    Examples
    --------
    >>> is_ignored("/run/lock/x", ["/run"]), is_ignored("/srv/web.pid", ["*.pid"]), is_ignored("/runner", ["/run"])
    (True, True, False)
    """
    name = basename(path)
    return any(
        fnmatchcase(path, pattern) or fnmatchcase(path, f"{pattern.rstrip('/')}/*")
        if pattern.startswith("/")
        else fnmatchcase(name, pattern)
        for pattern in ignore
    )


def folders_above(paths: Iterable[str]) -> frozenset[str]:
    """Give every folder that one of the paths lies in."""
    found: set[str] = set()
    for path in paths:
        above = dirname(path)
        while above not in found:
            found.add(above)
            above = dirname(above)
    return frozenset(found)

"""Who a process in a container runs as, by the container's own files."""

from __future__ import annotations

from collections.abc import Sequence

from dockerlab.engine.isolate import inside
from dockerlab.engine.users import User, choose


def is_root(text: str) -> bool:
    """Tell whether it is root, whose home is taken to be /root: reading its files would cost each start a mount."""
    return text in ("", "0", "root", "0:0", "root:root")


def find(root: int, text: str, more: Sequence[str] = ()) -> User:
    """Look a user up; ``root`` is a descriptor of the container's root, the rest is as for ``users.choose``. Blocks."""
    return choose(text, _read(root, "/etc/passwd"), _read(root, "/etc/group"), more)


def _read(root: int, path: str) -> str:
    try:
        return inside.read_bytes(root, path).decode(errors="replace")
    except OSError:
        return ""

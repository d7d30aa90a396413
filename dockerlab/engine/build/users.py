"""Who a name is in an image that is being built. All functions block."""

from __future__ import annotations

from dockerlab.engine import users
from dockerlab.engine.images.tree import Tree
from dockerlab.engine.refusals import RefusalError

_FILE_LIMIT = 4 << 20


def find_user(tree: Tree, text: str) -> users.User:
    """Find who ``USER text`` is; as :func:`dockerlab.engine.users.choose`."""
    return users.choose(text, _read(tree, "/etc/passwd"), _read(tree, "/etc/group"))


def find_owner(tree: Tree, text: str) -> tuple[int, int]:
    """Find the uid and gid of ``--chown=text``; as :func:`dockerlab.engine.users.owner`."""
    return users.owner(text, _read(tree, "/etc/passwd"), _read(tree, "/etc/group"))


def _read(tree: Tree, path: str) -> str:
    try:
        return tree.read(path, _FILE_LIMIT).decode("utf-8", "replace")
    except RefusalError:
        return ""

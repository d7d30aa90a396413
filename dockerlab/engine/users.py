"""Who a name is: ``user[:group]`` looked up in the text of an image's /etc/passwd and /etc/group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dockerlab.engine.refusals import bad

_HIGHEST = 2**31 - 1


@dataclass(frozen=True)
class User:
    """Numbers of a user and its home."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    home: str = "/root"


def choose(text: str, passwd: str, group: str, more: Sequence[str] = ()) -> User:
    """Choose who a process runs as.

    Parameters
    ----------
    text : str
        ``"user"``, ``"uid"``, ``"user:group"`` and so on; empty is root.
    passwd, group : str
        What is in the two files.
    more : sequence of str
        More groups by name or number.

    Returns
    -------
    User

    Raises
    ------
    RefusalError
        400: there is no such user or group, in Docker's words.

    Examples
    --------
    >>> choose("www", "www:x:33:33::/srv:/bin/sh", "mail:x:8:www")
    User(uid=33, gid=33, groups=(8,), home='/srv')
    >>> choose("7:8", "", "")
    User(uid=7, gid=8, groups=(), home='/')
    """
    name, _, group_name = text.partition(":")
    name = name or "0"
    uid, gid, home, login = _number(name), 0, "/", ""
    for row in _rows(passwd, 6):
        if row[0] == name or (uid is not None and _number(row[2]) == uid):
            login, home = row[0], row[5] or "/"
            uid, gid = _number(row[2]), _number(row[3]) or 0
            break
    if uid is None:
        raise bad(f"unable to find user {name}: no matching entries in passwd file")
    groups: list[int] = []
    if group_name:
        gid = _wanted_group(group_name, group)
    elif login:
        groups = [number for row in _rows(group, 4) if login in row[3].split(",") and (number := _number(row[2]))]
    groups += [_wanted_group(one, group) for one in more]
    kept = tuple(dict.fromkeys(one for one in groups if one != gid))
    return User(uid, gid, kept, home)


def owner(text: str, passwd: str, group: str) -> tuple[int, int]:
    """Give the uid and gid of ``--chown=text``; 400 in Docker's words where there are none."""
    name, colon, group_name = text.partition(":")
    if not colon:
        group_name = name
    prefix = "unable to convert uid/gid chown string to host mapping: "
    uid = _number(name)
    if uid is None:
        uid = next((_number(row[2]) for row in _rows(passwd, 4) if row[0] == name), None)
    if uid is None:
        raise bad(f"{prefix}can't find uid for user {name}: no such user: {name}")
    gid = _number(group_name)
    if gid is None:
        gid = next((_number(row[2]) for row in _rows(group, 3) if row[0] == group_name), None)
    if gid is None:
        raise bad(f"{prefix}can't find gid for group {group_name}: no such group: {group_name}")
    return uid, gid


def _wanted_group(name: str, content: str) -> int:
    for row in _rows(content, 3):
        number = _number(row[2])
        if row[0] == name and number is not None:
            return number
    number = _number(name)
    if number is None:
        raise bad(f"unable to find group {name}: no matching entries in group file")
    return number


def _rows(content: str, fields: int) -> Iterator[list[str]]:
    for line in content.splitlines():
        row = line.strip().split(":")
        if len(row) >= fields:
            yield row


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 11 and int(text) <= _HIGHEST else None

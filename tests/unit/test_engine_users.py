"""Who a name is: the same for RUN, for a container and for `docker exec`."""

from __future__ import annotations

import pytest

from dockerlab.engine.refusals import RefusalError
from dockerlab.engine.users import User, choose, owner

PASSWD = "root:x:0:0::/there:/bin/sh\nwww:x:33:34::/srv:/bin/sh\nbroken\nnohome:x:9:9:::\n"
GROUP = "root:x:0:\nweb:x:34:www\nmail:x:8:www,other\nadmin:x:7:www\n"


@pytest.mark.parametrize(
    ("text", "more", "user"),
    [
        ("", (), User(0, 0, (), "/there")),
        ("www", (), User(33, 34, (8, 7), "/srv")),
        ("33", (), User(33, 34, (8, 7), "/srv")),
        ("www:mail", (), User(33, 8, (), "/srv")),
        ("www", ("5", "mail"), User(33, 34, (8, 7, 5), "/srv")),
        ("1234:99", (), User(1234, 99, (), "/")),
        ("nohome", (), User(9, 9, (), "/")),
    ],
)
def test_users(text: str, more: tuple[str, ...], user: User) -> None:
    assert choose(text, PASSWD, GROUP, more) == user


def test_without_files_root_lives_at_the_root() -> None:
    assert choose("", "", "") == User(0, 0, (), "/")


@pytest.mark.parametrize("text", ["nosuch", "www:nosuch", "-1", "99999999999", "٣"])
def test_who_is_not_there_is_said(text: str) -> None:
    with pytest.raises(RefusalError, match=r"unable to find (user|group)") as caught:
        choose(text, PASSWD, GROUP)
    assert caught.value.status == 400


def test_owners() -> None:
    assert owner("www:mail", PASSWD, GROUP) == (33, 8)
    assert owner("7", PASSWD, GROUP) == (7, 7)
    for text in ("nosuch", "www:nosuch"):
        with pytest.raises(RefusalError, match="unable to convert uid/gid chown string"):
            owner(text, PASSWD, GROUP)

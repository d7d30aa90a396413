"""How servers differ from one another and from their images; pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Literal

from dockerlab.drift.model import IGNORED, MISSING, Change, Item, Server, is_ignored
from dockerlab.errors import BadInputError

How = Literal["same", "missing", "extra", "content", "mode", "unread"]


@dataclass(frozen=True)
class Difference:
    """One path at which a server is not as what it is compared with.

    Parameters
    ----------
    path : str
    how : {"missing", "extra", "content", "mode", "unread"}
        Seen from the server: ``missing`` is what only the other has. Another kind or link target counts as content.
    here, there : Item or None
        What the server has, and what the other has; None where that is not known.
    """

    path: str
    how: How
    here: Item | None
    there: Item | None

    def __str__(self) -> str:
        words = _WORDS[self.how]
        if self.how in ("missing", "extra") or self.here is None or self.there is None:
            return f"{self.path}: {words}"
        return f"{self.path}: {words} ({self.here}; the other: {self.there})"


_WORDS: Mapping[How, str] = {
    "same": "the same",
    "missing": "missing",
    "extra": "extra",
    "content": "other content",
    "mode": "other mode",
    "unread": "could not be read",
}


@dataclass(frozen=True, repr=False)
class Drift:
    """How far servers have drifted apart, and away from their images. Made by :func:`compare`.

    Parameters
    ----------
    servers : tuple of str
        Their names, in the order in which they were given; the first one is what the others are compared with.
    from_first : tuple of tuple of Difference
        For each server, where it differs from the first.
    from_image : tuple of tuple of Difference
        For each server, where it differs from its own image.
    groups : tuple of tuple of str
        Servers that are equal stand together; the largest group first. What could not be read parts nobody.
    gone : tuple of str
        Servers that vanished before they could be read; they are in none of the above.
    ignored : tuple of str
        The patterns that were left out.
    """

    servers: tuple[str, ...]
    from_first: tuple[tuple[Difference, ...], ...]
    from_image: tuple[tuple[Difference, ...], ...]
    groups: tuple[tuple[str, ...], ...]
    gone: tuple[str, ...] = ()
    ignored: tuple[str, ...] = field(default=IGNORED)

    @property
    def states(self) -> int:
        """How many different states the servers are in; 1 means that nothing has drifted apart."""
        return len(self.groups)

    @property
    def paths(self) -> tuple[str, ...]:
        """All paths at which a server differs from the first one or from its image, sorted."""
        rows = (*self.from_first, *self.from_image)
        return tuple(sorted({difference.path for row in rows for difference in row}))

    @property
    def drifted(self) -> tuple[str, ...]:
        """The servers that are not as their image."""
        return tuple(name for name, row in zip(self.servers, self.from_image, strict=True) if row)

    def of(self, server: str, *, against: Literal["first", "image"] = "first") -> tuple[Difference, ...]:
        """Give where one server differs.

        Parameters
        ----------
        server : str
            Its name.
        against : {"first", "image"}
            From what.

        Raises
        ------
        BadInputError
            Where there is no such server.
        """
        if server not in self.servers:
            raise BadInputError(f"There is no server {server!r} here.", f"Choose one of: {', '.join(self.servers)}.")
        rows = self.from_image if against == "image" else self.from_first
        return rows[self.servers.index(server)]

    @property
    def title(self) -> str:
        """The result in one line."""
        gone = f", {len(self.gone)} vanished" if self.gone else ""
        if not self.servers:
            return f"no servers{gone}"
        states = f"{self.states} different states" if self.states > 1 else "no drift"
        return f"{len(self.servers)} server{'' if len(self.servers) == 1 else 's'}, {states}{gone}"

    def __str__(self) -> str:
        rows = [f"{', '.join(names)}: {words}" for names, words in self._table()]
        return "\n".join([self.title, *rows])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        left = 'style="text-align:left"'
        rows = "".join(
            f"<tr><td>{len(names)}</td><td {left}>{escape(', '.join(names))}</td><td {left}>{escape(words)}</td></tr>"
            for names, words in self._table()
        )
        first = self.servers[0] if self.servers else "none"
        head = f"<tr><th>count</th><th {left}>servers</th><th {left}>against {escape(first)}</th></tr>"
        return f"<table><caption>{escape(self.title)}</caption><thead>{head}</thead><tbody>{rows}</tbody></table>"

    def _table(self) -> list[tuple[tuple[str, ...], str]]:
        """Give each group with where it differs from the first server."""
        return [
            (group, "; ".join(f"{d.path}: {_WORDS[d.how]}" for d in self.of(group[0])) or "no difference")
            for group in self.groups
        ]


def difference(here: Item, there: Item) -> How:
    """Say how what is here differs from what is there.

    Examples
    --------
    >>> difference(MISSING, Item("file", 0o644, 5, "ab"))
    'missing'
    """
    if here == there:
        return "unread" if here.kind == "unread" else "same"
    if there.kind == "missing":
        return "extra"
    if here.kind == "missing":
        return "missing"
    if "unread" in (here.kind, there.kind):
        return "unread"
    content = (here.kind, here.size_bytes, here.digest, here.target)
    return "content" if content != (there.kind, there.size_bytes, there.digest, there.target) else "mode"


def compare(
    servers: Sequence[Server],
    *,
    images: Mapping[str, Mapping[str, Item]] | None = None,
    gone: Sequence[str] = (),
    ignore: Sequence[str] = IGNORED,
) -> Drift:
    """Compare each server with the first one and with its image.

    Servers of different images are never equal: the images may differ in files that no server has touched. A folder
    that the engine lists as changed, because of what lies in it, counts only where its own mode is known to be another.

    Parameters
    ----------
    servers : sequence of Server
        At least one, unless all are gone; names are unique.
    images : mapping of str to mapping of str to Item, optional
        By image id: what the image has at paths that a server changed, as far as that is known.
    gone : sequence of str
        Names of servers that vanished.
    ignore : sequence of str
        Patterns, see :data:`IGNORED`.

    Returns
    -------
    Drift

    Raises
    ------
    BadInputError
        Where two servers have one name.
    """
    if len({server.name for server in servers}) < len(servers):
        raise BadInputError("Two servers have the same name.", "Give each server once, with a name of its own.")
    found = [
        {change.path: change for change in server.changes if not is_ignored(change.path, ignore)} for server in servers
    ]
    paths = sorted({path for changes in found for path in changes})
    before = [(images or {}).get(server.image_id, {}) for server in servers]
    states = [{path: _state(path, mine, image) for path in paths} for mine, image in zip(found, before, strict=True)]
    alike: dict[object, list[str]] = defaultdict(list)
    for server, state in zip(servers, states, strict=True):
        alike[server.image_id, tuple(state.values())].append(server.name)
    return Drift(
        servers=tuple(server.name for server in servers),
        from_first=tuple(_between(state, states[0]) for state in states),
        from_image=tuple(_from_image(mine, image) for mine, image in zip(found, before, strict=True)),
        groups=tuple(sorted(map(tuple, alike.values()), key=len, reverse=True)),
        gone=tuple(gone),
        ignored=tuple(ignore),
    )


def _state(path: str, changes: Mapping[str, Change], image: Mapping[str, Item]) -> Item | None:
    """Say what a server has at a path: what was read there, else what its image has, where that is known."""
    change = changes.get(path)
    if change is None:
        return image.get(path)
    return change.item or (MISSING if change.how == "deleted" else Item("unread"))


def _between(here: Mapping[str, Item | None], there: Mapping[str, Item | None]) -> tuple[Difference, ...]:
    rows = []
    for path, mine in here.items():
        other = there[path]
        if mine == other and (mine is None or mine.kind != "unread"):
            continue
        how = "unread" if mine is None or other is None else difference(mine, other)
        rows.append(Difference(path, how, mine, other))
    return tuple(rows)


def _from_image(changes: Mapping[str, Change], image: Mapping[str, Item]) -> tuple[Difference, ...]:
    rows = []
    for path, change in sorted(changes.items()):
        here, there = change.item, image.get(path, MISSING if change.how == "added" else None)
        if change.how == "deleted":
            rows.append(Difference(path, "missing", MISSING, there))
        elif here is not None and there is not None:
            if (how := difference(here, there)) != "same":
                rows.append(Difference(path, how, here, there))
        elif here is None or here.kind != "folder":
            rows.append(Difference(path, "missing" if here == MISSING else "content", here, there))
    return tuple(rows)

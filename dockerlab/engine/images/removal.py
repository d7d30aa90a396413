"""Removing images by Docker's rules: what is in the way, what goes with what, and in which words."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from dockerlab.engine.images.record import ImageRecord, diff_ids
from dockerlab.engine.images.reference import Reference
from dockerlab.engine.refusals import RefusalError, conflict

if TYPE_CHECKING:
    from dockerlab.engine.images.store import Images

_SHORT = 12
InUse = Callable[[str], list[str]]
Matches = Callable[[ImageRecord], bool]


def nobody(image_id: str) -> list[str]:  # noqa: ARG001
    """Say that no container uses an image."""
    return []


def anything(record: ImageRecord) -> bool:  # noqa: ARG001
    """Let every image go."""
    return True


def prune(images: Images, in_use: InUse, *, dangling: bool, matches: Matches) -> tuple[list[dict[str, str]], int]:
    """Remove images that no container uses; the caller holds the store's lock.

    Parameters
    ----------
    images : Images
    in_use : callable
        Gives the ids of the containers made from the image of an id.
    dangling : bool
        Only those without a tag.
    matches : callable
        Tells whether a filter allows an image to go.

    Returns
    -------
    deleted : list of dict
        Each ``{"Untagged": name}`` or ``{"Deleted": id}``.
    reclaimed_bytes : int
    """
    before = images.shelf.size_bytes
    rows: list[dict[str, str]] = []
    for record in images.list():
        if not images.has(record.id) or (dangling and record.tags) or not matches(record):
            continue
        if not in_use(record.id) and not images.children(record.id):
            rows += Removal(images, in_use, nobody, force=True).run(record.id, record.id, None)
    return rows, before - images.shelf.size_bytes


class Removal:
    """One removal; the caller holds the store's lock."""

    def __init__(
        self,
        images: Images,
        in_use: InUse,
        running: InUse,
        force: bool,
    ) -> None:
        self._images = images
        self._in_use = in_use
        self._running = running
        self._force = force
        self._rows: list[dict[str, str]] = []

    def run(self, name: str, image_id: str, reference: Reference | None) -> list[dict[str, str]]:
        """Remove by a name (`reference`) or by id (None)."""
        names = self._images.names.of(image_id)
        if reference is None:
            if len({one.repository for one in names}) <= 1 and sum(not one.digest for one in names) <= 1:
                self._check(image_id, named=False)
                self._untag(names)
            self._delete(image_id, quiet=False)
            return self._rows
        asked = reference.tagged()
        gone = [one for one in names if _same(one, asked)]
        rest = [one for one in names if one not in gone]
        if not asked.digest and all(one.digest for one in rest if one.repository == asked.repository):
            # Its last tag there: the digests of that repository would be names that nobody sees
            gone += [one for one in rest if one.repository == asked.repository]
            rest = [one for one in rest if one not in gone]
        users = self._running(image_id) or self._in_use(image_id)
        if not rest and users and not self._force:
            raise conflict(
                f'conflict: unable to remove repository reference "{name}" (must force) - container '
                f"{users[0][:_SHORT]} is using its referenced image {_short(image_id)}"
            )
        self._untag(gone)
        if not rest:
            self._delete(image_id, quiet=True)
        return self._rows

    def _untag(self, names: Sequence[Reference]) -> None:
        if names:
            self._images.names.drop(names)
            self._rows += [{"Untagged": one.familiar} for one in names]

    def _check(self, image_id: str, *, named: bool) -> None:
        """Refuse to delete an image that something needs."""
        if self._images.children(image_id):
            raise _stays(image_id, "cannot be forced", "image has dependent child images")
        running = self._running(image_id)
        if running:
            raise _stays(
                image_id, "cannot be forced", f"image is being used by running container {running[0][:_SHORT]}"
            )
        if self._force:
            return
        if named and self._images.names.of(image_id):
            raise _stays(image_id, "must be forced", "image is referenced in multiple repositories")
        users = self._in_use(image_id)
        if users:
            raise _stays(image_id, "must be forced", f"image is being used by stopped container {users[0][:_SHORT]}")

    def _delete(self, image_id: str, *, quiet: bool) -> None:
        """Delete an image and, from there on down, the nameless ones that it was built on."""
        while self._images.has(image_id):
            try:
                self._check(image_id, named=True)
            except RefusalError:
                if quiet:  # its name is gone, and that was asked for; it stays as long as something needs it
                    return
                raise
            record = self._images.get(image_id)
            self._untag(self._images.names.of(image_id))
            gone = self._images.forget(image_id, keep_layers=bool(self._in_use(image_id)))
            self._rows.append({"Deleted": image_id})
            chains = _chain_ids(diff_ids(record.config))
            self._rows += [{"Deleted": chains[one]} for one in gone]
            image_id, quiet, self._force = record.parent, True, False


def _same(one: Reference, asked: Reference) -> bool:
    if one.repository != asked.repository:
        return False
    return one.digest == asked.digest if asked.digest else one.tag == asked.tag and not one.digest


def _chain_ids(ids: Sequence[str]) -> dict[str, str]:
    """Name each layer together with those below it, as Docker reports layers that were deleted."""
    found: dict[str, str] = {}
    chain = ""
    for one in ids:
        chain = f"sha256:{hashlib.sha256(f'{chain} {one}'.encode()).hexdigest()}" if chain else one
        found[one] = chain
    return found


def _stays(image_id: str, how: str, why: str) -> RefusalError:
    return conflict(f"conflict: unable to delete {_short(image_id)} ({how}) - {why}")


def _short(image_id: str) -> str:
    return image_id.removeprefix("sha256:")[:_SHORT]

"""Removing what labs made, and only that: the labels decide."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import docker
import docker.errors

from dockerlab.connect import Engine, engine_errors
from dockerlab.errors import DockerlabError, StateError
from dockerlab.fleet.state import LabState
from dockerlab.images.build import IMAGE_LABELS
from dockerlab.lab.home import NAME, Home, check_name, owner
from dockerlab.lab.registry import end_registry
from dockerlab.ownership import LAB_LABEL, OWNER_LABEL, own_containers
from dockerlab.router import stop_router

_WORKERS = 8
_KEPT_SHOWN = 5


@dataclass(frozen=True)
class CleanReport:
    """What was removed, and what was left alone and why.

    Parameters
    ----------
    removed : tuple of str
        One sentence part each, such as ``container shop-web-x2k4p``.
    kept : tuple of str
        What could have been meant, with the reason why it was left.
    """

    removed: tuple[str, ...]
    kept: tuple[str, ...]

    def __str__(self) -> str:
        removed = "\n".join(f"  {item}" for item in self.removed) or "  nothing: there was nothing to remove"
        kept = [f"  {item}" for item in self.kept[:_KEPT_SHOWN]]
        if len(self.kept) > _KEPT_SHOWN:
            kept.append(f"  and {len(self.kept) - _KEPT_SHOWN} more: see .kept")
        return "\n".join([f"Removed:\n{removed}", *(["Left alone:", *kept] if kept else [])])

    __repr__ = __str__


def clean(
    engine: Engine,
    *,
    names: Iterable[str] | None = None,
    images: bool = False,
    force: bool = False,
    dry_run: bool = False,
) -> CleanReport:
    """Remove the containers, networks, volumes, routers, registries and files of labs of this user.

    Parameters
    ----------
    engine : Engine
    names : iterable of str, optional
        Which labs; all of this user's where left out.
    images : bool
        The images that dockerlab built, too, where no container uses them.
    force : bool
        Also labs that a live process drives.
    dry_run : bool
        Only say what would be removed.

    Returns
    -------
    CleanReport

    Raises
    ------
    EngineError
        Where the engine goes away.
    """
    mine = [f"{OWNER_LABEL}={owner()}"]
    if names is None:
        found = {home.name for home in Home.all()} | _labs_on(engine, mine)
        names = {name for name in found if NAME.fullmatch(name)}
    removed: list[str] = []
    kept: list[str] = []
    for name in sorted(check_name("lab", name) for name in names):
        home = Home(name)
        # Under the lock, so that no process becomes the driver between the look and the removal.
        with home.guard():
            holder = home.holder()
            if holder and not holder.process.is_me() and not force:
                kept.append(
                    f"lab {name}: process {holder.process.pid} drives it; shut that kernel down, or use --force"
                )
                continue
            gone, left = remove_lab(engine, home, dry_run=dry_run)
        removed += gone
        kept += left
    if images:
        gone, left = _remove_images(engine, dry_run=dry_run)
        removed += gone
        kept += left
    return CleanReport(tuple(removed), (*kept, *_unlabelled(engine)))


def remove_lab(engine: Engine, home: Home, *, dry_run: bool = False) -> tuple[list[str], list[str]]:
    """Remove everything of one lab; say what it was, and what the engine refused to remove."""
    state = _state_of(home)
    if state and state.fleets and state.engine_id != engine.id:
        return [], [f"lab {home.name}: its fleets are on another engine; start that one, then clean again"]
    removed = _stop_routers(engine, state, dry_run=dry_run)
    gone, kept = remove_labelled(engine, {LAB_LABEL: home.name, OWNER_LABEL: owner()}, dry_run=dry_run)
    removed += gone
    # After the containers: an image that one was made of stays
    gone, refused = end_registry(engine, home, dry_run=dry_run)
    removed += gone
    kept += refused
    if home.path.exists():
        removed.append(f"files of the lab {home.name}")
        if not dry_run:
            home.remove()
    return removed, kept


def remove_labelled(engine: Engine, labels: Mapping[str, str], *, dry_run: bool = False) -> tuple[list[str], list[str]]:
    """Remove the containers, networks and volumes that carry all of `labels`.

    Give what was removed, and what the engine refused to remove and why: a volume that a container made by hand uses
    is its maker's business.

    Parameters
    ----------
    engine : Engine
    labels : mapping of str to str
        Never empty: an empty filter would match everything.
    dry_run : bool
        Only say what would be removed.
    """
    if not labels:
        raise ValueError("labels must not be empty")
    api = engine.client.api
    filters = {"label": [f"{key}={value}" for key, value in labels.items()]}
    found: list[tuple[str, str, Callable[[str], Any]]] = []
    removed: list[str] = []
    kept: list[str] = []
    with engine_errors(), ThreadPoolExecutor(_WORKERS) as pool:
        for kind in ("container", "network", "volume"):
            if kind == "container":
                rows = own_containers(api, labels)
                found = [(row["Names"][0].lstrip("/"), row["Id"], _remove_container(api)) for row in rows]
            elif kind == "network":
                found = [(row["Name"], row["Id"], api.remove_network) for row in api.networks(filters=filters)]
            else:
                volumes = api.volumes(filters=filters)["Volumes"] or ()
                found = [(row["Name"], row["Name"], api.remove_volume) for row in volumes]
            refusals = [""] * len(found) if dry_run else list(pool.map(_try, found))
            for (name, _, _), refusal in zip(found, refusals, strict=True):
                kept.append(f"{kind} {name}: {refusal}") if refusal else removed.append(f"{kind} {name}")
    return removed, kept


def _remove_container(api: docker.APIClient) -> Callable[[str], Any]:
    return lambda key: api.remove_container(key, force=True, v=True)


def _try(thing: tuple[str, str, Callable[[str], Any]]) -> str:
    """Remove one thing; give the engine's reason where it refuses, an empty text where it is gone."""
    _, key, act = thing
    try:
        act(key)
    except docker.errors.NotFound:
        return ""  # somebody else was quicker: it is gone, as wanted
    except docker.errors.APIError as error:
        if "already in progress" in str(error):
            return ""
        if error.response is not None and error.response.status_code >= 500:
            raise
        return str(error.explanation)
    return ""


def _labs_on(engine: Engine, labels: list[str]) -> set[str]:
    api = engine.client.api
    filters = {"label": labels}
    with engine_errors():
        rows = [*api.containers(all=True, filters=filters), *api.networks(filters=filters)]
        rows += api.volumes(filters=filters)["Volumes"] or ()
    return {row["Labels"][LAB_LABEL] for row in rows if LAB_LABEL in row["Labels"]}


def _state_of(home: Home) -> LabState | None:
    try:
        return LabState.load(home.state_path)
    except StateError:
        return None  # unreadable: the labels still find the containers


def _stop_routers(engine: Engine, state: LabState | None, *, dry_run: bool) -> list[str]:
    removed = []
    for fleet in state.fleets.values() if state else ():
        record = fleet.router
        if record is None:
            continue
        removed.append(f"router of {fleet.name}, port {record.port}")
        if not dry_run:
            with contextlib.suppress(DockerlabError):
                stop_router(engine, record)
    return removed


def _remove_images(engine: Engine, *, dry_run: bool) -> tuple[list[str], list[str]]:
    label = ",".join(f"{key}={value}" for key, value in IMAGE_LABELS.items())
    removed, kept = [], []
    api = engine.client.api
    with engine_errors():
        for row in api.images(filters={"label": label}):
            # An image may also carry a name that the learner gave it; removing by name leaves the others.
            for name in row.get("RepoTags") or [row["Id"]]:
                refusal = "" if dry_run else _try_remove_image(api, name)
                kept.append(f"image {name}: {refusal}") if refusal else removed.append(f"image {name}")
    return removed, kept


def _try_remove_image(api: docker.APIClient, name: str) -> str:
    """Remove an image; give the engine's reason where it refuses, an empty text where it is gone."""
    try:
        api.remove_image(name)
    except docker.errors.NotFound:
        return ""
    except docker.errors.APIError as error:
        return str(error.explanation)
    return ""


def _unlabelled(engine: Engine) -> list[str]:
    """Name the containers that run our images but were made past the lab: perhaps the learner's, so never removed."""
    filters = {"label": [f"{key}={value}" for key, value in IMAGE_LABELS.items()]}
    with engine_errors():
        rows = engine.client.api.containers(all=True, filters=filters)
    names = sorted(row["Names"][0].lstrip("/") for row in rows if LAB_LABEL not in row["Labels"])
    return [
        f"container {name}: it has no label {LAB_LABEL}, so it was made by hand; `docker rm -f {name}` removes it"
        for name in names
    ]

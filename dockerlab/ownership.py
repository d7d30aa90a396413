"""Which containers are whose: labels decide, and a label that a container only inherited proves nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import docker
import docker.errors

LAB_LABEL, OWNER_LABEL, NAME_LABEL = "dockerlab.lab", "dockerlab.owner", "dockerlab.name"


def own_containers(api: docker.APIClient, labels: Mapping[str, str]) -> list[dict[str, Any]]:
    """List the containers that were given all of `labels` when they were made.

    A container takes over the labels of its image, and `docker commit` writes those of a container into an image. What
    is run from such an image only looks like ours. Ours carry their own name in a label, too.

    Parameters
    ----------
    api : docker.APIClient
    labels : mapping of str to str

    Returns
    -------
    list of dict
        As the engine lists them, in no order.
    """
    filters = {"label": [f"{key}={value}" for key, value in labels.items()]}
    rows = api.containers(all=True, filters=filters)
    inherited: dict[str, bool] = {}
    own = []
    for row in rows:
        name = row["Names"][0].lstrip("/") if row.get("Names") else ""
        if row["Labels"].get(NAME_LABEL) == name or not _inherits(api, row["ImageID"], inherited):
            own.append(row)
    return own


def _inherits(api: docker.APIClient, image_id: str, known: dict[str, bool]) -> bool:
    if image_id not in known:
        try:
            image: Any = api.inspect_image(image_id)  # type: ignore[no-untyped-call]
            known[image_id] = LAB_LABEL in ((image.get("Config") or {}).get("Labels") or {})
        except docker.errors.NotFound:
            known[image_id] = True
    return known[image_id]

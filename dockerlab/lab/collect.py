"""Old images go: those that no revision of a lab needs any more."""

from __future__ import annotations

from collections.abc import Collection

import docker
import docker.errors

from dockerlab.connect import engine_errors
from dockerlab.fleet.state import LabState


def collect(client: docker.DockerClient, state: LabState, image_ids: Collection[str]) -> list[str]:
    """Remove the names that the lab gave to images, where neither a revision of its fleets nor a container needs them.

    An image goes when its last name goes. One that the lab did not build, or that somebody has built or tagged under
    another name, stays.

    Parameters
    ----------
    client : docker.DockerClient
    state : LabState
        What it built is struck off there.
    image_ids : collection of str

    Returns
    -------
    list of str
        The names that are gone.
    """
    needed = {revision.image_id for fleet in state.fleets.values() for revision in fleet.revisions.values()}
    gone = []
    for image_id in sorted(set(image_ids) - needed):
        with engine_errors():
            if client.api.containers(all=True, filters={"ancestor": image_id}):
                continue
            for name in [name for name, built in state.built.items() if built == image_id]:
                try:
                    if client.images.get(name).id == image_id:
                        client.api.remove_image(name)
                        gone.append(name)
                except docker.errors.ImageNotFound:
                    pass
                except docker.errors.APIError as error:
                    if error.status_code != 409:  # another image stands on it
                        raise
                    continue
                del state.built[name]
    return gone

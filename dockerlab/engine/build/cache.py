"""The cache of a build: images that were made by the same step on the same image. All functions block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dockerlab.engine.images.record import ImageRecord
from dockerlab.engine.images.store import Images
from dockerlab.engine.refusals import RefusalError

COMMAND_KEY = "container_config"
"""Where an image's configuration keeps the command that made it, as with Docker's classic builder."""


def find(images: Images, parent: str, command: Sequence[str], config: Mapping[str, Any]) -> ImageRecord | None:
    """Find an image that a step made before.

    Its command tells what it did: it has the hash of what COPY copied and the arguments that RUN saw. What the history
    prints is not enough, as ``["a b"]`` and ``["a", "b"]`` look alike there.

    Parameters
    ----------
    images : Images
    parent : str
        Id of the image that the step starts from; empty for scratch.
    command : sequence of str
        What the step does.
    config : mapping
        What it would make of the image's ``config``.

    Returns
    -------
    ImageRecord or None
        The newest.
    """
    best: ImageRecord | None = None
    with images.lock:
        for image_id in images.children(parent):
            try:
                record = images.get(image_id)
            except RefusalError:
                continue
            made_by = record.config.get(COMMAND_KEY)
            if not isinstance(made_by, Mapping) or made_by.get("Cmd") != list(command):
                continue
            if record.config.get("config") == config and (best is None or record.created_s >= best.created_s):
                best = record
    return best

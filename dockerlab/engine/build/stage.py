"""A stage of a build under way: the image so far, and the next one on it. All functions block."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from dockerlab.engine.build import cache
from dockerlab.engine.build.changes import Changes
from dockerlab.engine.images.record import ImageRecord, host_architecture
from dockerlab.engine.images.store import Images
from dockerlab.engine.images.tree import Tree
from dockerlab.engine.refusals import bad

DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class StageState:
    """Where a stage is.

    Parameters
    ----------
    images : Images
    image : ImageRecord or None
        What it starts from; None is scratch.
    use_cache : bool
        Whether what was built before may be taken.

    Attributes
    ----------
    changes : Changes
        The configuration that the next image gets.
    triggers : tuple of str
        What the base image says after ONBUILD.
    """

    def __init__(self, images: Images, image: ImageRecord | None, *, use_cache: bool) -> None:
        self._images = images
        self.image = image
        self._use_cache = use_cache
        config = copy.deepcopy(dict((image.config.get("config") if image else None) or {}))
        self.triggers = tuple(str(one) for one in config.pop("OnBuild", None) or ())
        self.changes = Changes(config)
        config.pop("Image", None)  # Docker notes there which image its parent was made from
        if not any(one.startswith("PATH=") for one in self.changes.environment):
            config["Env"] = [*self.changes.environment, DEFAULT_PATH]

    @property
    def config(self) -> dict[str, Any]:
        """The configuration that the next image gets."""
        return self.changes.config

    @property
    def image_id(self) -> str:
        """Id of the image so far; empty for scratch."""
        return self.image.id if self.image else ""

    def tree(self) -> Tree:
        """Give the files so far."""
        return self._images.tree(self.image) if self.image else Tree([])

    def cached(self, command: Sequence[str]) -> bool:
        """Go on with the image that this step made before, if there is one; after the first miss there is none."""
        found = cache.find(self._images, self.image_id, command, self.config) if self._use_cache else None
        self._use_cache = found is not None
        if found is not None:
            self.image = found
        return found is not None

    def commit(self, command: Sequence[str], diff_id: str = "") -> None:
        """Make the next image.

        Parameters
        ----------
        command : sequence of str
            What the step did.
        diff_id : str
            The layer that it made; empty for none.
        """
        before: Mapping[str, Any] = self.image.config if self.image else {}
        created = _now()
        entry: dict[str, Any] = {"created": created, "created_by": " ".join(command)}
        author = self.changes.author or before.get("author") or ""
        if author:
            entry["author"] = author
        if not diff_id:
            entry["empty_layer"] = True
        layers = [*(self.image.diff_ids if self.image else ()), *([diff_id] if diff_id else [])]
        if len(layers) > self._images.limits.layers:
            raise bad("max depth exceeded")
        config: dict[str, Any] = {
            "architecture": before.get("architecture") or host_architecture(),
            "os": before.get("os") or "linux",
            "config": copy.deepcopy(self.config),
            cache.COMMAND_KEY: {"Cmd": list(command)},
            "created": created,
            "history": [*(before.get("history") or []), entry],
            "rootfs": {"type": "layers", "diff_ids": layers},
        }
        if before.get("variant"):
            config["variant"] = before["variant"]
        if author:
            config["author"] = author
        self.image = self._images.add_image(config, parent=self.image_id)


def _now() -> str:
    """Give the time as Docker writes it, with nanoseconds: two builds never make the same image by accident."""
    nanoseconds = time.time_ns()
    whole = datetime.fromtimestamp(nanoseconds // 10**9, timezone.utc)
    return f"{whole:%Y-%m-%dT%H:%M:%S}.{nanoseconds % 10**9:09d}Z"

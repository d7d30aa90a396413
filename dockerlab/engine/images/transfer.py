"""Images to and from registries. Loads the HTTP client, so it is not among what the package gives at once."""

from __future__ import annotations

from dockerlab.engine.images.progress import Progress
from dockerlab.engine.images.pulling import inspect, pull, pull_all
from dockerlab.engine.images.pushing import push
from dockerlab.engine.images.registry import login

__all__ = ["Progress", "inspect", "login", "pull", "pull_all", "push"]

"""Containers: their records and what happens to them."""

from dockerlab.engine.containers.container import Container
from dockerlab.engine.containers.lifecycle import Containers
from dockerlab.engine.containers.networks import Networks
from dockerlab.engine.containers.volumes import Volumes

__all__ = ["Container", "Containers", "Networks", "Volumes"]

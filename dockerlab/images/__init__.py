"""Images: what they are made of, how they are built, and the base that the course builds on."""

from dockerlab.images.base import BASE_TAG, ensure
from dockerlab.images.build import build, find
from dockerlab.images.layers import BuildStep, Image, Layer, image_from
from dockerlab.images.registry import Registry, StoredLayer

__all__ = [
    "BASE_TAG",
    "BuildStep",
    "Image",
    "Layer",
    "Registry",
    "StoredLayer",
    "build",
    "ensure",
    "find",
    "image_from",
]

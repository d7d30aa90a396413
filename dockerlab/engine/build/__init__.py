"""From a Dockerfile and its context to an image."""

from __future__ import annotations

from dockerlab.engine.build.builder import Parts, build
from dockerlab.engine.build.changes import Changes
from dockerlab.engine.build.instructions import parse_one
from dockerlab.engine.build.options import BuildOptions, read_options

__all__ = ["BuildOptions", "Changes", "Parts", "build", "parse_one", "read_options"]

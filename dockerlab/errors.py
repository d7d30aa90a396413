"""Every error that dockerlab raises on purpose.

::

    DockerlabError
    ├── EngineError
    │   ├── EngineNotFoundError     no engine answered; says where it was looked for
    │   ├── RemoteEngineError       an engine on another machine
    │   ├── EngineLostError         the engine went away in the middle
    │   └── DiskFullError           the engine has no room left
    ├── ImageError
    │   ├── BuildError              a step of a build failed; has the step and its output
    │   ├── DockerfileError         the Dockerfile is missing or does not parse
    │   ├── ImageNotFoundError      no such image on the engine
    │   ├── BaseImageError          no way to get the base image worked
    │   └── RegistryError           the registry did not start, does not answer or has no such image
    ├── FleetError
    │   ├── ReplicaFailedError      a replica exited or never became healthy
    │   ├── PortTakenError          another program listens on the port
    │   └── RouterError             HAProxy is missing, refused or went away
    ├── ContainerFailedError        a one-off container could not be started
    ├── LabLockedError              another live process drives the lab
    ├── LabClosedError              the lab was closed in this process
    ├── StateError                  the state file of a lab cannot be used
    ├── TrafficError                the load could not be sent
    ├── NotebookError               a notebook cannot be found or run
    └── BadInputError               an argument is out of range; also a ValueError

Each message says what happened and what to do next. Errors carry their data as attributes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


class DockerlabError(Exception):
    """The root of all errors of dockerlab.

    Parameters
    ----------
    message : str
        What happened, in one sentence.
    advice : str
        What to do next, in one sentence; may be empty.
    """

    def __init__(self, message: str, advice: str = "") -> None:
        self.message = message
        self.advice = advice
        super().__init__(f"{message}\n{advice}" if advice else message)

    def _render_traceback_(self) -> list[str]:
        """Show the sentence instead of a traceback in a notebook (an IPython protocol)."""
        return [f"{type(self).__name__}: {self}"]


class BadInputError(DockerlabError, ValueError):
    """An argument is out of its range."""


class EngineError(DockerlabError):
    """Something is wrong with the container engine."""


@dataclass(frozen=True)
class Attempt:
    """One place where an engine was looked for, and what was found there."""

    place: str
    outcome: str


class EngineNotFoundError(EngineError):
    """No container engine answered.

    Attributes
    ----------
    attempts : tuple of Attempt
        Each place that was tried, in order.
    """

    def __init__(self, attempts: Sequence[Attempt], advice: str) -> None:
        self.attempts = tuple(attempts)
        tried = "\n".join(f"  - {attempt.place}: {attempt.outcome}" for attempt in self.attempts)
        super().__init__(f"No container engine answered. These places were tried:\n{tried}", advice)


class RemoteEngineError(EngineError):
    """The engine that was asked for is on another machine."""


class EngineLostError(EngineError):
    """The engine stopped answering in the middle of the work."""


class DiskFullError(EngineError):
    """The engine has no room left on its disk."""


class ImageError(DockerlabError):
    """Something is wrong with an image."""


class BuildError(ImageError):
    """A step of a build failed.

    Attributes
    ----------
    step : int
        Number of the step, from 1; 0 where the engine did not say.
    instruction : str
        The instruction that failed.
    output : str
        What the step printed.
    """

    def __init__(self, message: str, *, step: int = 0, instruction: str = "", output: str = "") -> None:
        self.step = step
        self.instruction = instruction
        self.output = output
        where = f"Step {step} of the build failed: {instruction}\n" if instruction else "The build failed.\n"
        printed = f"{output.rstrip()}\n" if output.strip() else ""
        super().__init__(f"{where}{printed}{message}", "Mend that instruction and build again.")


class DockerfileError(ImageError):
    """The Dockerfile is missing or does not parse."""


class ImageNotFoundError(ImageError):
    """There is no such image on the engine."""

    def __init__(self, image: str) -> None:
        self.image = image
        super().__init__(
            f"There is no image {image!r} on this engine.",
            "Build it with lab.build(folder, tag=...), or look at the names with `docker images`.",
        )


class BaseImageError(ImageError):
    """No way to get the base image worked."""


class RegistryError(ImageError):
    """The registry did not start, does not answer or has no such image."""


class FleetError(DockerlabError):
    """Something is wrong with a fleet."""


class ReplicaFailedError(FleetError):
    """A replica exited or never became healthy.

    Attributes
    ----------
    replica : str
        Name of the container.
    exit_code : int or None
        Its exit code, None while it still ran.
    logs : str
        The last lines that it printed.
    """

    def __init__(self, message: str, *, replica: str, exit_code: int | None, logs: str) -> None:
        self.replica = replica
        self.exit_code = exit_code
        self.logs = logs
        printed = f"\nIt printed:\n{logs.rstrip()}" if logs.strip() else "\nIt printed nothing."
        super().__init__(message + printed, "Mend the image, build it again under a new tag and deploy that.")


class PortTakenError(FleetError):
    """Another program listens on the port already."""

    def __init__(self, port: int) -> None:
        self.port = port
        super().__init__(
            f"Port {port} on this machine is taken by another program.",
            "Choose another one with port=..., or leave port out and a free one is chosen.",
        )


class RouterError(FleetError):
    """HAProxy is missing, refused a command or went away."""


class ContainerFailedError(DockerlabError):
    """A one-off container could not be started."""


class LabLockedError(DockerlabError):
    """Another live process drives this lab.

    Attributes
    ----------
    lab : str
        Name of the lab.
    pid : int
        The process that holds it.
    """

    def __init__(self, lab: str, pid: int) -> None:
        self.lab = lab
        self.pid = pid
        super().__init__(
            f"The lab {lab!r} is driven by another process (pid {pid}).",
            "Shut that notebook's kernel down (Kernel > Shut Down Kernel), or choose another name for this lab.",
        )


class LabClosedError(DockerlabError):
    """The lab was closed in this process; another one may drive it by now."""

    def __init__(self, lab: str) -> None:
        self.lab = lab
        super().__init__(f"The lab {lab!r} has been closed.", f"Open it again: lab = dl.Lab({lab!r}).")


class StateError(DockerlabError):
    """The state file of a lab cannot be used."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        super().__init__(
            f"The state file {path} cannot be used: {reason}.",
            "Remove what the lab made with `dockerlab clean` and open the lab again.",
        )


class TrafficError(DockerlabError):
    """The load could not be sent."""


class NotebookError(DockerlabError):
    """A notebook cannot be found or run."""

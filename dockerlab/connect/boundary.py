"""Where errors of the SDK become errors of dockerlab.

No error of docker, requests or urllib3 leaves dockerlab untranslated: each says what happened and what to do next.
"""

from __future__ import annotations

import http.client
import re
from collections.abc import Iterator
from contextlib import contextmanager

import docker.errors
import requests.exceptions
import urllib3.exceptions

from dockerlab.errors import (
    BadInputError,
    BuildError,
    ContainerFailedError,
    DiskFullError,
    DockerlabError,
    EngineError,
    EngineLostError,
    ImageNotFoundError,
    PortTakenError,
)

_NO_SPACE = re.compile(r"no space left on device|disk quota exceeded", re.IGNORECASE)
_PORT_TAKEN = re.compile(
    r"port is already allocated|address already in use|ports are not available|port is already in use", re.IGNORECASE
)
_PORT = re.compile(r"(?:\d|\]|\*|localhost):(\d{1,5})\b")
_IMAGE = re.compile(
    r"no such image: *(\S+?):?(?:\s|$)|pull access denied for ([^\s,]+)|manifest for (\S+) not found", re.IGNORECASE
)
_NO_START = re.compile(
    r"OCI runtime|runc create|crun|executable file not found|no command specified|exec format error", re.IGNORECASE
)
_NO_REGISTRY = re.compile(r"dial tcp|no such host|TLS handshake timeout|toomanyrequests|Client\.Timeout", re.IGNORECASE)
_GONE = (
    requests.exceptions.ConnectionError,
    requests.exceptions.ChunkedEncodingError,
    requests.exceptions.JSONDecodeError,  # an answer that was cut short before its first byte
    urllib3.exceptions.ProtocolError,
    http.client.HTTPException,
    ConnectionError,
)
_SLOW = (requests.exceptions.Timeout, urllib3.exceptions.TimeoutError, TimeoutError)
_SDK = (
    docker.errors.DockerException,
    docker.errors.StreamParseError,
    requests.exceptions.RequestException,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    ConnectionError,
    TimeoutError,
)
_LOOK = "Look with `dockerlab doctor` whether the engine answers, start it again if it does not, and run this again."
# Status of the answer: what happened, what to do
_STATUS = {
    404: (
        "The engine does not have that",
        "It was removed in the meantime or never made: look with `docker ps -a`, and run again the cell that makes it.",
    ),
    409: (
        "The engine refused because of something that is there already",
        "Remove or rename what is in the way (`docker ps -a` shows it), or call lab.reset(), and run this again.",
    ),
}
_REFUSED = ("The engine refused the request", "Correct what it names and run this again.")
_FAILED = ("The engine failed", _LOOK)


def causes(error: BaseException) -> Iterator[BaseException]:
    """Walk through an error and everything that is wrapped in it, outermost first.

    Parameters
    ----------
    error : BaseException
        The error; requests and urllib3 wrap the reason in ``args`` rather than in ``__cause__``.

    Yields
    ------
    BaseException
        The error itself, then its reasons, each once.
    """
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        candidate = waiting.pop(0)
        if not isinstance(candidate, BaseException) or id(candidate) in seen:
            continue
        seen.add(id(candidate))
        yield candidate
        waiting += [*candidate.args, getattr(candidate, "reason", None), candidate.__cause__, candidate.__context__]


def translate(error: Exception) -> DockerlabError:
    """Turn an error of the SDK into one of ours.

    Parameters
    ----------
    error : Exception
        What docker, requests or urllib3 raised.

    Returns
    -------
    DockerlabError
        The error to raise instead, ``from`` the other one; one of ours is given back as it is.

    Examples
    --------
    >>> type(translate(ConnectionResetError(104, "Connection reset by peer"))).__name__
    'EngineLostError'
    """
    if isinstance(error, DockerlabError):
        return error
    text = _explanation(error)
    if _NO_SPACE.search(text):
        return DiskFullError(
            f"The engine has no room left on its disk: {text}",
            "Look with `docker system df` what takes the room, remove what you do not need, and run this again.",
        )
    if isinstance(error, docker.errors.APIError):
        return _from_answer(error, text)
    if isinstance(error, docker.errors.DockerException):
        return _from_client(error, text)
    return _from_connection(error, text)


@contextmanager
def engine_errors() -> Iterator[None]:
    """Let errors of the SDK leave the block as errors of dockerlab.

    Raises
    ------
    DockerlabError
        What :func:`translate` made of the SDK's error, which stays its ``__cause__``.

    Examples
    --------
    >>> with engine_errors():
    ...     pass  # client.containers.run(...)
    """
    try:
        yield
    except _SDK as error:
        raise translate(error) from error


def _explanation(error: Exception) -> str:
    """Give the sentence of the engine without the SDK's wrapping."""
    explanation = getattr(error, "explanation", None) or getattr(error, "msg", None) or error
    if isinstance(explanation, bytes):
        explanation = explanation.decode(errors="replace")
    return str(explanation).strip().rstrip(".") or type(error).__name__


def _from_answer(error: docker.errors.APIError, text: str) -> DockerlabError:
    """Translate an answer of the engine that says no."""
    image = _IMAGE.search(text)
    if image or isinstance(error, docker.errors.ImageNotFound):
        return ImageNotFoundError(next(filter(None, image.groups())) if image else text)
    if _PORT_TAKEN.search(text):
        ports = _PORT.findall(text)
        return PortTakenError(int(ports[0]) if ports else 0)
    if _NO_START.search(text):
        return ContainerFailedError(
            f"The container could not be started: {text}.",
            "Look at the command and at the image's CMD and ENTRYPOINT: the program must exist inside the image.",
        )
    if _NO_REGISTRY.search(text):
        return EngineError(
            f"The engine could not get it from the registry: {text}.",
            "Look whether this machine reaches the registry, wait if it limits pulls, or use an image that is here.",
        )
    status = error.status_code or 0
    what_happened, advice = _STATUS.get(status, _REFUSED if 400 <= status < 500 else _FAILED)
    return EngineError(f"{what_happened}: {text}.", advice)


def _from_client(error: docker.errors.DockerException, text: str) -> DockerlabError:
    """Translate what docker-py itself complains about."""
    if isinstance(error, docker.errors.BuildError):
        printed = (line.get("stream", "") for line in error.build_log if isinstance(line, dict))
        return BuildError(text, output="".join(map(str, printed)))
    if isinstance(error, docker.errors.ContainerError):
        return ContainerFailedError(text, "Look at what the command printed, mend it, and run it again.")
    if isinstance(error, (docker.errors.InvalidArgument, docker.errors.NullResource)):
        return BadInputError(f"The engine's client does not take this: {text}.", "Correct that argument and try again.")
    return _from_connection(error, text)


def _from_connection(error: Exception, text: str) -> DockerlabError:
    """Translate what went wrong on the way to the engine."""
    reasons = tuple(causes(error))
    # A time-out first: requests reports one inside of a stream as its ConnectionError
    if any(isinstance(reason, _SLOW) for reason in reasons):
        return EngineLostError("The engine did not answer in time; it is stuck or very busy.", _LOOK)
    if any(isinstance(reason, _GONE) for reason in reasons):
        return EngineLostError("The engine went away in the middle of the work.", _LOOK)
    return EngineError(f"Talking to the engine failed: {text}.", _LOOK)

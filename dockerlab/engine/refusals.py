"""What the embedded engine answers when it says no: Docker's status codes and, where Docker has one, its sentence."""

from __future__ import annotations


class RefusalError(Exception):
    """A request that is refused; becomes the answer ``{"message": ...}`` with its status.

    Parameters
    ----------
    status : int
        Status of the HTTP answer: 400 bad input, 404 not there, 409 in the way, 500 failed, 501 not supported,
        502 what another server did wrong.
    message : str
        One sentence for the person who asked. docker-py picks its error class by this text ("No such image: x").
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def bad(message: str) -> RefusalError:
    """Refuse input that makes no sense (400)."""
    return RefusalError(400, message)


def missing(kind: str, name: str) -> RefusalError:
    """Refuse because something is not there (404): ``missing("image", "web:1")`` says "No such image: web:1"."""
    return RefusalError(404, f"No such {kind}: {name}")


def conflict(message: str) -> RefusalError:
    """Refuse because of something that is there (409)."""
    return RefusalError(409, message)


def failed(message: str) -> RefusalError:
    """Say that the engine tried and could not (500)."""
    return RefusalError(500, message)


def upstream(message: str) -> RefusalError:
    """Say that a registry, or another server that the engine asked, did not answer or answered nonsense (502)."""
    return RefusalError(502, message)


def unsupported(message: str) -> RefusalError:
    """Say plainly what this engine does not do (501)."""
    return RefusalError(501, message)

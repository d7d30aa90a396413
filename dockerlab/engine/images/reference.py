"""Names of images: ``web:1`` and ``127.0.0.1:5000/team/web@sha256:...``."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from dockerlab.engine.refusals import bad

DEFAULT_DOMAIN = "docker.io"
DEFAULT_TAG = "latest"
NAME_LIMIT = 255  # characters of domain and path together (distribution's reference package)

_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?")
_WORD = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_WORD}(?:/{_WORD})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Reference:
    """The name of an image, taken apart.

    Attributes
    ----------
    domain : str
        The registry, with its port; ``docker.io`` when none was named.
    path : str
        The repository in that registry, such as ``library/web``.
    tag : str
        May be empty.
    digest : str
        ``sha256:...`` of a manifest; may be empty.
    """

    domain: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def repository(self) -> str:
        """Domain and path: ``docker.io/library/web``."""
        return f"{self.domain}/{self.path}"

    @property
    def name(self) -> str:
        """The whole name: ``docker.io/library/web:1``."""
        return self.repository + self._suffix

    @property
    def familiar_repository(self) -> str:
        """The repository as Docker shows it: ``web``."""
        if self.domain != DEFAULT_DOMAIN:
            return self.repository
        single = self.path.removeprefix("library/")
        return single if "/" not in single else self.path

    @property
    def familiar(self) -> str:
        """The name as Docker shows it: ``web:1``."""
        return self.familiar_repository + self._suffix

    def tagged(self) -> Reference:
        """Give the same with the tag ``latest`` where it has neither tag nor digest."""
        return self if self.tag or self.digest else replace(self, tag=DEFAULT_TAG)

    @property
    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def __str__(self) -> str:
        return self.familiar


def parse(text: str) -> Reference:
    """Take the name of an image apart.

    Parameters
    ----------
    text : str
        For instance ``web``, ``team/web:1`` or ``localhost:5000/web@sha256:...``.

    Returns
    -------
    Reference
        With an empty tag where none was given; see :meth:`Reference.tagged`.

    Raises
    ------
    RefusalError
        400 with Docker's sentence.

    Examples
    --------
    >>> parse("web:1").name
    'docker.io/library/web:1'
    """
    if _HEX.fullmatch(text):
        raise bad(f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")
    domain, remainder = _split(text)
    before = remainder.partition(":")[0]
    if before != before.lower():
        raise bad("invalid reference format: repository name must be lowercase")
    rest, at, digest = remainder.partition("@")
    head, colon, tag = rest.rpartition(":")
    if colon and "/" not in tag:
        rest = head
    else:
        colon = tag = ""
    if (at and not _DIGEST.fullmatch(digest)) or (colon and not _TAG.fullmatch(tag)):
        raise bad("invalid reference format")
    if not _DOMAIN.fullmatch(domain) or not _PATH.fullmatch(rest):
        raise bad("invalid reference format")
    if len(domain) + 1 + len(rest) > NAME_LIMIT:
        raise bad(f"repository name must not be more than {NAME_LIMIT} characters")
    return Reference(domain, rest, tag, digest)


def is_digest(text: str) -> bool:
    """Tell whether `text` is ``sha256:`` and 64 hexadecimal digits."""
    return _DIGEST.fullmatch(text) is not None


def is_tag(text: str) -> bool:
    """Tell whether `text` can be a tag."""
    return _TAG.fullmatch(text) is not None


def is_domain(text: str) -> bool:
    """Tell whether `text` can be a registry's address: a host, perhaps with a port."""
    return len(text) <= NAME_LIMIT and _DOMAIN.fullmatch(text) is not None


def is_path(text: str) -> bool:
    """Tell whether `text` can be the path of a repository in a registry."""
    return len(text) <= NAME_LIMIT and _PATH.fullmatch(text) is not None


def _split(name: str) -> tuple[str, str]:
    """Split a name into domain and path, as Docker does: the first part is a domain when it looks like one."""
    first, slash, rest = name.partition("/")
    looks = "." in first or ":" in first or first == "localhost"
    domain, path = (first, rest) if slash and looks else (DEFAULT_DOMAIN, name)
    if domain == "index.docker.io":
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in path:
        path = f"library/{path}"
    return domain, path

"""A registry on this machine, as a learner uses it: push, pull, and what it has under which name."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import docker
import requests
from docker.errors import APIError, NotFound
from docker.utils import parse_repository_tag
from docker.utils.build import match_tag

from dockerlab.connect import engine_errors
from dockerlab.errors import BadInputError, RegistryError
from dockerlab.images.build import find
from dockerlab.images.layers import Image, format_size

_MANIFESTS = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.index.v1+json",
)
_TIMEOUT_S = 10.0
_WORTH_SAYING = ("Pushed", "Layer already exists", "Mounted from", "Pull complete", "Already exists")


@dataclass(frozen=True)
class StoredLayer:
    """A layer as a registry keeps it: once, however many images have it.

    Attributes
    ----------
    digest : str
        ``sha256:`` and the hash of its compressed bytes.
    size_bytes : int
        How many those are.
    """

    digest: str
    size_bytes: int

    def __str__(self) -> str:
        return f"{self.digest.removeprefix('sha256:')[:12]} {format_size(self.size_bytes)}"


class Registry:
    """A registry on loopback: the place that keeps what was built, under names that can move and digests that cannot.

    Names are written without its address: ``web:1`` stands for ``127.0.0.1:40001/web:1``.

    Parameters
    ----------
    client : docker.DockerClient
        The engine that pushes and pulls.
    address : str
        Host and port.
    begin : callable, optional
        Told what is about to be done.

    Attributes
    ----------
    address : str
        Such as ``127.0.0.1:40001``.

    Examples
    --------
    >>> registry = lab.registry()  # doctest: +SKIP
    >>> registry.push(v1, "web:1")  # doctest: +SKIP
    '127.0.0.1:40001/web@sha256:...'
    >>> registry.push(v1, "web:production")  # doctest: +SKIP
    >>> registry.tags("web")  # doctest: +SKIP
    {'1': 'sha256:...', 'production': 'sha256:...'}
    """

    def __init__(
        self, client: docker.DockerClient, address: str, *, begin: Callable[[str], None] = lambda _title: None
    ) -> None:
        self._client = client
        self._begin = begin
        self.address = address

    def name(self, name: str) -> str:
        """Give a name with the registry's address in front, which is how ``docker`` wants it.

        Raises
        ------
        BadInputError
            Where it cannot name an image.
        """
        short = self._short(name)
        if not match_tag(short.partition("@")[0]) or short.partition("@")[0].rpartition("/")[2].count(":") > 1:
            raise BadInputError(
                f"{name!r} cannot name an image in a registry.", "Use small letters and a version, such as 'web:1'."
            )
        return f"{self.address}/{short}"

    def push(self, image: Image | str, name: str | None = None, *, quiet: bool = False) -> str:
        """Put an image into the registry (``docker tag`` and ``docker push``); layers that it has are not sent again.

        Parameters
        ----------
        image : Image or str
            On the engine.
        name : str, optional
            What it is called there, such as ``web:1``; as on the engine where left out. A name that is there already
            moves to this image.
        quiet : bool
            Print nothing.

        Returns
        -------
        str
            Where it is for ever, such as ``127.0.0.1:40001/web@sha256:...``.

        Raises
        ------
        BadInputError
            Where `name` cannot name an image, or is a digest.
        ImageNotFoundError
            Where the engine has no such image.
        RegistryError, EngineError
            Where the registry does not answer.
        """
        if name is None and isinstance(image, Image) and not image.tags:
            raise BadInputError(f"The image {image.name} has no name.", "Give it one: push(image, 'web:1').")
        repository, tag = self._split(name or (image if isinstance(image, str) else image.name))
        if tag.startswith("sha256:"):
            raise BadInputError(f"{name!r} is a digest.", "Push under a tag; the digest is what push gives back.")
        self._begin(f"push {self._short(repository)}:{tag}")
        found = find(self._client, image) if isinstance(image, str) else image
        with engine_errors():
            self._client.api.tag(found.id, repository, tag)
            told = self._follow(self._client.api.push(repository, tag, stream=True, decode=True), quiet=quiet)
        digest = next((one["aux"]["Digest"] for one in told if "Digest" in (one.get("aux") or ())), "")
        if not digest:
            raise RegistryError(f"The engine did not say what it pushed as {repository}:{tag}.", "Push it again.")
        _say(f"{self._short(repository)}:{tag} is {digest}", quiet=quiet)
        return f"{repository}@{digest}"

    def pull(self, name: str, *, quiet: bool = False) -> Image:
        """Get an image out of the registry (``docker pull``); layers that the engine has are not sent again.

        Parameters
        ----------
        name : str
            Such as ``web:1``, or ``web@sha256:...``, which is the same image for ever.
        quiet : bool
            Print nothing.

        Returns
        -------
        Image

        Raises
        ------
        BadInputError
            Where `name` cannot name an image.
        RegistryError
            Where the registry has no such image.
        EngineError
            Where the registry does not answer.
        """
        repository, tag = self._split(name)
        self._begin(f"pull {self._short(name)}")
        with engine_errors():
            try:
                self._follow(self._client.api.pull(repository, tag, stream=True, decode=True), quiet=quiet)
            except NotFound as error:
                raise self._missing(self._short(name)) from error
        return find(self._client, f"{repository}{'@' if tag.startswith('sha256:') else ':'}{tag}")

    def repositories(self) -> tuple[str, ...]:
        """Give the names that it has images under, without tags, in order.

        Raises
        ------
        RegistryError
            Where it does not answer.
        """
        return tuple(sorted(self._rows("_catalog", "repositories", "")))

    def tags(self, repository: str) -> dict[str, str]:
        """Give the tags of a repository, each with the digest of the image that it means now.

        Parameters
        ----------
        repository : str
            Such as ``web``.

        Raises
        ------
        RegistryError
            Where there is no such repository, or the registry does not answer.
        """
        short = self._short(repository)
        rows = sorted(self._rows(f"{short}/tags/list", "tags", short))
        return {tag: self._digest(short, tag) for tag in rows}

    def layers(self, name: str) -> tuple[StoredLayer, ...]:
        """Give the layers of an image as the registry keeps them, the lowest first.

        Parameters
        ----------
        name : str
            Such as ``web:1`` or ``web@sha256:...``.

        Raises
        ------
        BadInputError, RegistryError
            As :meth:`pull`.
        """
        repository, tag = self._split(name)
        manifest = self._ask("GET", f"{self._short(repository)}/manifests/{tag}", self._short(name)).json()
        return tuple(StoredLayer(str(one["digest"]), int(one["size"])) for one in manifest.get("layers") or ())

    def __repr__(self) -> str:
        return f"<Registry {self.address}>"

    def _short(self, name: str) -> str:
        return str(name).removeprefix(f"{self.address}/")

    def _split(self, name: str) -> tuple[str, str]:
        """Give the repository with the registry's address, and the tag or digest."""
        repository, tag = parse_repository_tag(self.name(name))
        return str(repository), str(tag or "latest")

    def _digest(self, repository: str, tag: str) -> str:
        answer = self._ask("HEAD", f"{repository}/manifests/{tag}", f"{repository}:{tag}")
        return str(answer.headers["Docker-Content-Digest"])

    def _rows(self, path: str, key: str, what: str) -> list[str]:
        """Read a list that comes in pages."""
        rows: list[str] = []
        while path:
            answer = self._ask("GET", path, what)
            rows += answer.json().get(key) or ()
            path = str(answer.links.get("next", {}).get("url", "")).partition("/v2/")[2]
        return rows

    def _ask(self, method: str, path: str, what: str) -> requests.Response:
        """Ask the registry itself; `what` is what it does not have where it answers so."""
        try:
            with requests.Session() as session:
                session.trust_env = False  # no proxy leads to loopback
                headers = {"Accept": ", ".join(_MANIFESTS if "/manifests/" in path else ("application/json",))}
                answer = session.request(
                    method, f"http://{self.address}/v2/{path}", headers=headers, timeout=_TIMEOUT_S
                )
        except requests.RequestException as error:
            raise RegistryError(
                f"The registry at {self.address} does not answer.", "Ask the lab for it again: lab.registry()."
            ) from error
        if not answer.ok:
            raise self._missing(what)
        return answer

    def _missing(self, what: str) -> RegistryError:
        return RegistryError(
            f"The registry at {self.address} has no {what!r}.",
            "Push it first (lab.registry().push), or look at .repositories() and .tags(name) what is there.",
        )

    def _follow(self, messages: Iterable[Mapping[str, Any]], *, quiet: bool) -> list[Mapping[str, Any]]:
        """Follow a push or pull to its end, and say what becomes of each layer."""
        told = []
        for message in messages:
            if "error" in message:
                raise APIError(str(message["error"]))
            status = str(message.get("status", ""))
            if status.startswith(_WORTH_SAYING):
                _say(f"{message.get('id', '')}: {status}", quiet=quiet)
            told.append(message)
        return told


def forget_names(client: docker.DockerClient, address: str, *, dry_run: bool = False) -> tuple[list[str], list[str]]:
    """Take the names of a registry off the engine's images; say which, and which the engine refused.

    An image that has no other name goes with it, unless a container was made of it.
    """
    removed, kept = [], []
    api = client.api
    with engine_errors():
        for row in api.images():
            names = [*(row.get("RepoTags") or ()), *(row.get("RepoDigests") or ())]
            for name in (one for one in names if one.startswith(f"{address}/")):
                try:
                    if not dry_run:
                        api.remove_image(name)
                except NotFound:
                    pass  # a digest goes with its last tag
                except APIError as error:
                    kept.append(f"image {name}: {error.explanation}")
                    continue
                removed.append(f"image {name}")
    return removed, kept


def _say(line: str, *, quiet: bool) -> None:
    if not quiet:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

"""Build an image from a folder, and look one up."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import docker
import requests
from docker.api.build import process_dockerfile
from docker.errors import APIError, NotFound
from docker.utils.build import match_tag, tar

from dockerlab.commands import build_folder
from dockerlab.connect import engine_errors
from dockerlab.errors import BadInputError, DockerfileError, ImageError, ImageNotFoundError
from dockerlab.images.layers import Image, image_from
from dockerlab.images.steps import StepReader

IMAGE_LABELS = {"dockerlab.image": "true"}
"""The labels of every image that is built here; constant, as another value would make another image."""

# FROM names it, or an ARG or COPY --from that a FROM may use.
_BASE_USED = re.compile(r"^\s*(FROM|ARG|COPY)\s.*dockerlab/base\b", re.IGNORECASE | re.MULTILINE)


def build(
    client: docker.DockerClient,
    path: str | Path,
    *,
    tag: str,
    dockerfile: str = "Dockerfile",
    args: Mapping[str, str] | None = None,
    no_cache: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Image:
    """Build the folder `path` into an image and name it `tag`.

    An image that had the tag before keeps existing under its id. An interrupt cancels the build on the engine too.

    Parameters
    ----------
    client : docker.DockerClient
        The engine to build on.
    path : str or Path
        The folder with the Dockerfile; ``.dockerignore`` is respected.
    tag : str
        Such as ``web:1``.
    dockerfile : str
        Name of the Dockerfile inside `path`.
    args : mapping of str to str, optional
        Values for the Dockerfile's ARG instructions.
    no_cache : bool
        Run every step again.
    progress : callable, optional
        Called with each line that is worth printing, as it happens.

    Returns
    -------
    Image
        The new image, with `Image.steps`.

    Raises
    ------
    DockerfileError
        The folder or the Dockerfile is missing, or it does not parse.
    BuildError
        An instruction failed; has its number, text and output.
    ImageNotFoundError, ImageError
        The image after FROM does not exist or could not be fetched.
    BaseImageError
        The Dockerfile builds on ``dockerlab/base`` and no way to get that worked.
    DiskFullError, EngineLostError
        The engine has no room left, or went away.

    Examples
    --------
    >>> image = build(client, "apps/web", tag="web:1", progress=print)  # doctest: +SKIP
    """
    folder, text = _read_dockerfile(path, dockerfile)
    # The SDK takes "web:1:2" for a registry's port and a version; no engine does.
    if not match_tag(tag) or tag.rpartition("/")[2].count(":") > 1:
        raise BadInputError(f"{tag!r} cannot name an image.", "Use small letters and a version, such as tag='web:1'.")
    if _BASE_USED.search(text):
        from dockerlab.images import base  # noqa: PLC0415 - base builds with this module

        base.ensure(client)
    reader = StepReader()
    context, sent_dockerfile = _pack(folder, dockerfile)
    options = {
        "fileobj": context,
        "custom_context": True,
        "tag": tag,
        "dockerfile": sent_dockerfile,
        "buildargs": {name: str(value) for name, value in (args or {}).items()},
        "nocache": no_cache,
        "labels": IMAGE_LABELS,
    }
    with context, build_folder(str(path)):
        _run(client, options, reader, text, progress)
    # By id: with a class on one engine the tag may have moved on meanwhile.
    image = find(client, reader.image_id or tag)
    names = tuple(sorted({*image.tags, tag}, key=lambda name: name != tag))
    return replace(image, tags=names, steps=tuple(reader.steps))


def build_context(client: docker.DockerClient, context: Any, *, tag: str) -> Image:
    """Build from a tar archive (a file object) that holds the whole build context, with its ``Dockerfile``."""
    reader = StepReader()
    options = {"fileobj": context, "custom_context": True, "tag": tag, "labels": IMAGE_LABELS}
    _run(client, options, reader, "", None)
    return replace(find(client, tag), steps=tuple(reader.steps))


def find(client: docker.DockerClient, name: str) -> Image:
    """Look an image up by tag or id.

    Raises
    ------
    ImageNotFoundError
        The engine has no such image.
    """
    with engine_errors():
        try:
            api: Any = client.api  # the type stubs do not know what these two return
            image = image_from(api.inspect_image(name), api.history(name))
        except NotFound as error:
            raise ImageNotFoundError(name) from error
    # The name that was asked for comes first: an image can have several.
    return replace(image, tags=tuple(sorted(image.tags, key=lambda tag: tag != name)))


def _run(
    client: docker.DockerClient,
    options: Mapping[str, Any],
    reader: StepReader,
    dockerfile: str,
    progress: Callable[[str], None] | None,
) -> None:
    """Carry the build out and feed the reader; raises our errors."""
    say = progress or (lambda _line: None)
    with engine_errors(), _closing_answer(client):
        try:
            for message in client.api.build(decode=True, rm=True, forcerm=True, **options):
                if "error" in message:
                    raise reader.failure(str(message["error"]), dockerfile=dockerfile)
                for line in reader.feed(message, time.monotonic()):
                    say(line)
        except APIError as error:
            if error.response is not None and error.response.status_code < 500:
                raise reader.failure(str(error.explanation), dockerfile=dockerfile) from error
            if "no space left" in str(error).lower() or (not reader.number and "dockerfile" in str(error).lower()):
                raise reader.failure(str(error.explanation), dockerfile=dockerfile) from error
            raise
        for line in reader.finish(time.monotonic()):
            say(line)


@contextmanager
def _closing_answer(client: docker.DockerClient) -> Iterator[None]:
    """Close the connection of a build that ends early: this is how the engine learns that it is cancelled.

    The SDK keeps the answer to itself, so a hook for this thread's calls catches it.
    """
    mine = threading.get_ident()
    answers: list[requests.Response] = []

    def catch(answer: requests.Response, **_: Any) -> None:
        if threading.get_ident() == mine and (answer.request.path_url or "").split("?")[0].endswith("/build"):
            answers.append(answer)

    hooks: list[Any] = client.api.hooks["response"]
    hooks.append(catch)
    try:
        yield
    finally:
        hooks.remove(catch)
        for answer in answers:
            answer.close()


def _pack(folder: Path, dockerfile: str) -> tuple[IO[bytes], str]:
    """Put the folder into a tar archive as docker-py does, and return it with the Dockerfile's name inside.

    The SDK would do this by itself, but leave its temporary file open when the call is interrupted.
    """
    ignore = folder / ".dockerignore"
    lines = [line.strip() for line in ignore.read_text("utf-8").splitlines()] if ignore.is_file() else []
    try:
        sent: Any = process_dockerfile(dockerfile, str(folder))
        excluded = [line for line in lines if line and not line.startswith("#")]
        archive: Any = tar(folder, exclude=excluded, dockerfile=sent)
        return archive, str(sent[0])
    except OSError as error:
        raise ImageError(
            f"A file of the folder cannot be read: {error}",
            "Make it readable, or name it in the .dockerignore file.",
        ) from error


def _read_dockerfile(path: str | Path, dockerfile: str) -> tuple[Path, str]:
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise DockerfileError(
            f"There is no folder {str(path)!r} to build (looked in {Path.cwd()}).",
            "Give the path of the folder that holds the Dockerfile.",
        )
    file = folder / dockerfile
    try:
        return folder, file.read_text("utf-8", errors="replace")
    except FileNotFoundError as error:
        raise DockerfileError(
            f"There is no {dockerfile!r} in the folder {str(path)!r}.",
            "Write one (its first line is `FROM dockerlab/base:1`), or name another with dockerfile=...",
        ) from error
    except OSError as error:
        raise DockerfileError(
            f"The file {str(file)!r} cannot be read: {error.strerror}.", "Make it readable."
        ) from error

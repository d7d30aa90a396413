"""What the tests of the Engine API work with: a bench that remembers what it made, and plain HTTP on the socket."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import re
import socket
import tarfile
import urllib.parse
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import docker.errors
from support import until

from dockerlab.connect import Engine

LABEL = "dockerlab.test"
_STEP_IMAGE = re.compile(r" ---> ([0-9a-f]{12})\n?$")

Content = str | bytes | tarfile.TarInfo


@contextlib.contextmanager
def end_of(stream: Any) -> Iterator[socket.socket]:
    """Give the socket behind what docker-py gives for one, and close it for good afterwards."""
    end = stream._sock
    end.settimeout(10)
    try:
        yield end
    finally:
        stream.close()
        end.close()


def rest_of(end: socket.socket) -> bytes:
    """Read until the other side closes."""
    data = b""
    while block := end.recv(65536):
        data += block
    return data


def archive(files: Mapping[str, Content]) -> bytes:
    """Make a tar of texts, bytes (mode 644) and whole entries without content; a name that ends in / is a folder."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        for name, content in files.items():
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
                continue
            entry = tarfile.TarInfo(name.rstrip("/"))
            data = content.encode() if isinstance(content, str) else content
            entry.mtime = 1_700_000_000
            if name.endswith("/"):
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                data = b""
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return target.getvalue()


def link(name: str, target: str, *, hard: bool = False) -> tarfile.TarInfo:
    """Make a tar entry that is a link."""
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname, entry.mode = (tarfile.LNKTYPE if hard else tarfile.SYMTYPE), target, 0o777
    return entry


def unpacked(data: bytes) -> dict[str, tarfile.TarInfo]:
    """Give the entries of a tar by their name."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {entry.name: entry for entry in tar}


def content_of(data: bytes, name: str) -> bytes:
    """Give the content of one file of a tar."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        file = tar.extractfile(name)
        assert file is not None
        return file.read()


def refusal_of(call: Callable[..., Any], *arguments: Any, **options: Any) -> tuple[int, str]:
    """Give status and words of a refusal; 0 when there is none."""
    try:
        call(*arguments, **options)
    except docker.errors.APIError as error:
        return error.status_code, str(error.explanation)
    return 0, ""


class Built:
    """What a build told."""

    def __init__(self, messages: list[dict[str, Any]]) -> None:
        self.messages = messages
        self.text = "".join(str(message.get("stream", "")) for message in messages)
        self.error = next((str(message["error"]) for message in messages if "error" in message), "")
        self.detail = next((message["errorDetail"] for message in messages if "errorDetail" in message), {})
        self.id = next((message["aux"]["ID"] for message in reversed(messages) if "ID" in message.get("aux", {})), "")

    @property
    def cached(self) -> int:
        """How many steps came from the cache."""
        return self.text.count("---> Using cache")


class Bench:
    """Makes things on an engine, marks them as its own and removes them all in the end."""

    def __init__(self, engine: Engine, base: str) -> None:
        self.engine, self.client, self.api, self.base = engine, engine.client, engine.client.api, base
        self.name = f"test-api-{uuid.uuid4().hex[:10]}"
        self.labels = {LABEL: self.name}
        self.filter = {"label": f"{LABEL}={self.name}"}
        self._names = 0
        self._images: list[str] = []
        self._builds = False  # listing the images of a full engine takes its time

    def fresh(self) -> str:
        """Give a name that nothing has."""
        self._names += 1
        return f"{self.name}-{self._names}"

    def create(self, command: Any = None, *, image: str | None = None, **options: Any) -> Any:
        """Make a container."""
        labels = {**options.pop("labels", {}), **self.labels}
        return self.client.containers.create(image or self.base, command, labels=labels, **options)

    def start(self, command: Any = ("sleep", "300"), **options: Any) -> Any:
        """Make a container and start it."""
        made = self.create(list(command) if isinstance(command, tuple) else command, **options)
        made.start()
        return made

    def finish(self, command: Any, **options: Any) -> tuple[int, str]:
        """Run a container to its end and give its exit code and all that it printed."""
        made = self.start(command, **options)
        code = made.wait(timeout=30)["StatusCode"]
        return code, made.logs().decode()

    def output(self, command: Any, **options: Any) -> str:
        """Run a container to its end, which must be a good one, and give all that it printed."""
        code, text = self.finish(["sh", "-c", command] if isinstance(command, str) else command, **options)
        assert code == 0, text
        return text

    def told_of_read_only(self, **options: Any) -> bool:
        """Tell whether the engine warns that it cannot keep a container from writing, as PRoot cannot."""
        host = self.api.create_host_config(**options)
        made = self.api.create_container(self.base, ["true"], labels=self.labels, host_config=host)
        return any("read-only" in text.lower() for text in made["Warnings"] or ())

    def owned(self, text: str) -> str:
        """Leave owners ("12:34") out of a text where a container has one user only, so that they cannot be right."""
        return text if self.engine.has_wall("users") else re.sub(r"\b\d+:\d+\b", "-", text)

    def network(self, **options: Any) -> Any:
        """Make a network."""
        labels = {**options.pop("labels", {}), **self.labels}
        return self.client.networks.create(options.pop("name", None) or self.fresh(), labels=labels, **options)

    def volume(self, **options: Any) -> Any:
        """Make a volume."""
        labels = {**options.pop("labels", {}), **self.labels}
        return self.client.volumes.create(options.pop("name", None) or self.fresh(), labels=labels, **options)

    def build(self, text: str, files: Mapping[str, Content] | None = None, /, **options: Any) -> Built:
        """Build an image; BASE in the Dockerfile stands for the base image."""
        text = text.replace("BASE", "dockerlab/base:1")
        context = io.BytesIO(archive({"Dockerfile": text, **(files or {})}))
        self._builds = True
        options.setdefault("labels", self.labels)
        options.setdefault("rm", True)
        options.setdefault("forcerm", True)
        messages = list(self.api.build(fileobj=context, custom_context=True, decode=True, **options))
        built = Built(messages)
        for message in messages:
            self._images += _STEP_IMAGE.findall(str(message.get("stream", "")))
        if built.id:
            self._images.append(built.id)
        return built

    def image(self, text: str, files: Mapping[str, Content] | None = None, /, **options: Any) -> str:
        """Build an image, which must work, and give its id."""
        built = self.build(text, files, **options)
        assert built.id, built.messages
        return built.id

    def failure(self, text: str, files: Mapping[str, Content] | None = None, /, **options: Any) -> tuple[int, str]:
        """Build what cannot be built, and give the status and what is told; 200 when it is told by the stream."""
        built: list[Built] = []
        status, said = refusal_of(lambda: built.append(self.build(text, files, **options)))
        return (status, said) if status else (200, built[0].error)

    def keep_track(self, image: str) -> str:
        """Remove this image, too, in the end."""
        self._builds = True
        self._images.append(image)
        return image

    def clear(self) -> None:
        """Remove everything that was made."""
        there = [entry["Id"] for entry in self.api.containers(all=True, filters=self.filter)]
        if len(there) > 1:
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(self._remove, there))
        elif there:
            self._remove(there[0])
        # One that is being removed already is refused, and gone a moment later.
        until(lambda: not self.api.containers(all=True, filters=self.filter), what="a container is not removed")
        for entry in self.api.networks(filters=self.filter):
            self.api.remove_network(entry["Id"])
        for entry in self.api.volumes(filters=self.filter)["Volumes"] or ():
            self.api.remove_volume(entry["Name"])
        for image in dict.fromkeys([*self._mine(), *reversed(self._images)]):
            if self.base.removeprefix("sha256:").startswith(image.removeprefix("sha256:")):
                continue
            with contextlib.suppress(docker.errors.APIError):
                self.api.remove_image(image, force=True)

    def left(self) -> list[str]:
        """Name what is still there."""
        found = [f"container {entry['Id']}" for entry in self.api.containers(all=True, filters=self.filter)]
        found += [f"network {entry['Name']}" for entry in self.api.networks(filters=self.filter)]
        found += [f"volume {entry['Name']}" for entry in self.api.volumes(filters=self.filter)["Volumes"] or ()]
        return found + [f"image {image}" for image in self._mine()]

    def _mine(self) -> list[str]:
        return [entry["Id"] for entry in self.api.images(filters=self.filter)] if self._builds else []

    def _remove(self, container: str) -> None:
        with contextlib.suppress(docker.errors.APIError):
            self.api.remove_container(container, force=True, v=True)


class Answer:
    """What an engine answered."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status, self.body = status, body
        self.headers = {name.lower(): value for name, value in headers.items()}

    @property
    def json(self) -> Any:
        """The body as values."""
        return json.loads(self.body)

    @property
    def message(self) -> str:
        """What is said about a failure."""
        return str(self.json["message"])


class _Connection(http.client.HTTPConnection):
    def __init__(self, address: str) -> None:
        super().__init__("localhost", timeout=30)
        self._address = address

    def connect(self) -> None:
        if self._address.startswith("unix://"):
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(30)
            self.sock.connect(self._address.removeprefix("unix://"))
        else:
            place = urllib.parse.urlsplit(self._address)
            self.sock = socket.create_connection((place.hostname or "127.0.0.1", place.port or 2375), 30)


class Raw:
    """Plain HTTP to an engine, with nothing between that makes it proper."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def __call__(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, Any] | None = None,
    ) -> Answer:
        """Ask; a body that is not bytes is sent as JSON."""
        given = dict(headers or {})
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        if body is not None:
            given.setdefault("Content-Type", "application/json")
        asked = f"{path}?{urllib.parse.urlencode(query)}" if query else path
        connection = _Connection(self.engine.address)
        try:
            connection.request(method, asked, body=body, headers=given)
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            connection.close()

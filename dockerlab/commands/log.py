"""The ``docker`` commands that a person would have typed for what was just done."""

from __future__ import annotations

import json
import re
import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from html import escape
from typing import Any, overload
from urllib.parse import parse_qsl, unquote, urlsplit

import docker
import requests

from dockerlab.commands.typed import Call, translate

GROUP_LIMIT = 50
"""So many groups are kept, the latest ones."""

COMMAND_LIMIT = 2000
"""So many commands are kept in one group, the first ones."""

NAME_LIMIT = 5000
"""So many ids are remembered with their names."""

_VERSION = re.compile(r"^/v\d+\.\d+(?=/)")
_ABOUT_CONTAINER = re.compile(r"^/containers/([^/]+)(?:/([a-z]+))?$")
_EXEC_START = re.compile(r"^/exec/([^/]+)/start$")
_IMAGE_INSPECT = re.compile(r"^/images/(.+)/json$")
_HOST_PORT = re.compile(r"(?<=127\.0\.0\.1:)\d+(?=:)")
_FOLDER: ContextVar[str] = ContextVar("dockerlab_build_folder", default="")
_UNLISTED: ContextVar[bool] = ContextVar("dockerlab_unlisted", default=False)


@contextmanager
def build_folder(folder: str) -> Iterator[None]:
    """Tell the log which folder the builds in this block send: the call itself holds only its content."""
    token = _FOLDER.set(folder)
    try:
        yield
    finally:
        _FOLDER.reset(token)


@contextmanager
def unlisted() -> Iterator[None]:
    """Keep the calls of this block out of the log, as nobody would type them."""
    token = _UNLISTED.set(True)
    try:
        yield
    finally:
        _UNLISTED.reset(token)


@dataclass(frozen=True)
class _Entry:
    """One command; ``subject`` and ``container`` are the name and id of the container that it is about."""

    text: str
    subject: str = ""
    container: str = ""
    exec_id: str = ""

    @property
    def shape(self) -> str:
        """The same for commands that differ only in the container's name and its port on this machine."""
        text = self.text.replace(self.subject, "*") if self.subject else self.text
        return _HOST_PORT.sub("*", text)


class Commands(Sequence[str]):
    """Commands for a shell, in the order in which they were carried out.

    Parameters
    ----------
    entries : sequence of str
        The commands.
    title : str
        What they did.
    """

    def __init__(self, entries: Sequence[_Entry | str] = (), title: str = "") -> None:
        self._entries = tuple(entry if isinstance(entry, _Entry) else _Entry(entry) for entry in entries)
        self.title = title

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Commands: ...
    def __getitem__(self, index: int | slice) -> str | Commands:
        if isinstance(index, slice):
            return Commands(self._entries[index], self.title)
        return self._entries[index].text

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        lines = [f"# {self.title}"] if self.title else []
        lines += self._folded()
        return "\n".join(lines) if lines else "# nothing was changed on the engine"

    def _repr_html_(self) -> str:
        # One click selects the whole block, so that it can be copied.
        style = (
            "font-family:var(--jp-code-font-family,monospace);user-select:all;white-space:pre-wrap;"
            "word-break:normal;overflow-wrap:anywhere;padding:.5em;border-left:3px solid #0072b2"
        )
        return f'<pre tabindex="0" aria-label="docker commands" style="{style}">{escape(repr(self), quote=False)}</pre>'

    def _folded(self) -> list[str]:
        """Write two of each kind of command where there are more than three, and count the others."""
        totals = Counter(entry.shape for entry in self._entries)
        shown: Counter[str] = Counter()
        skipped: Counter[str] = Counter()
        lines: list[str] = []
        for entry in self._entries:
            if totals[entry.shape] > 3 and shown[entry.shape] == 2:
                skipped[entry.shape] += 1
                continue
            lines += _and_more(skipped)
            skipped.clear()
            shown[entry.shape] += 1
            lines.append(entry.text)
        return lines + _and_more(skipped)


def _and_more(skipped: Counter[str]) -> list[str]:
    if not skipped:
        return []
    return [f"# and {max(skipped.values())} more like {'it' if len(skipped) == 1 else 'these'}"]


class CommandLog:
    """Listens to what a client asks of the engine; memory is bounded, and any thread may call.

    Examples
    --------
    >>> log = CommandLog()
    >>> log.attach(client)  # doctest: +SKIP
    >>> log.begin("A container by hand")
    >>> log.last
    # A container by hand
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._groups: deque[tuple[str, list[_Entry]]] = deque([("", [])], maxlen=GROUP_LIMIT)
        self._names: OrderedDict[str, str] = OrderedDict()

    def attach(self, client: docker.DockerClient) -> None:
        """Listen to this client from now on; a second time changes nothing."""
        hooks: list[Any] = client.api.hooks["response"]
        if self._hear not in hooks:
            hooks.append(self._hear)

    def begin(self, title: str) -> None:
        """Start a new group of commands."""
        with self._lock:
            self._groups.append((title, []))

    @property
    def last(self) -> Commands:
        """The commands of the latest group."""
        with self._lock:
            title, entries = self._groups[-1]
            return Commands(tuple(entries), title)

    @property
    def all(self) -> Commands:
        """The commands of all groups that are kept."""
        with self._lock:
            return Commands([entry for _, entries in self._groups for entry in entries])

    def _hear(self, answer: requests.Response, **options: Any) -> None:
        # The list is a help for the reader: whatever goes wrong in it must never break the call that it describes.
        try:
            if answer.status_code < 300:
                call = _call_of(answer, stream=bool(options.get("stream")))
                with self._lock:
                    self._learn(call)
                    if not _UNLISTED.get():
                        self._record(call)
        except Exception:  # noqa: BLE001, S110
            pass

    def _learn(self, call: Call) -> None:
        """Remember the names that the answer tells."""
        identity, name = str(call.answer.get("Id") or ""), ""
        if not identity:
            return
        if call.path == "/containers/create":
            name = call.query.get("name") or identity[:12]
        elif call.path == "/networks/create":
            name = str(call.body.get("Name", ""))
        elif call.path.startswith(("/containers/", "/networks/")) and call.method == "GET":
            name = str(call.answer.get("Name") or "").lstrip("/")
        elif inspected := _IMAGE_INSPECT.match(call.path):
            tags = call.answer.get("RepoTags") or []
            # A tag that has moved is no name of the old image any more.
            for stale in [key for key, known in self._names.items() if known in tags and key != identity]:
                del self._names[stale]
            if not tags:
                self._names.pop(identity, None)
            # The name that was asked for, or that it has here already: an image can have several.
            asked = unquote(inspected[1])
            name = next((tag for tag in (asked, self._names.get(identity), *tags) if tag in tags), "")
        if name:
            self._names[identity] = name
            self._names.move_to_end(identity)
            while len(self._names) > NAME_LIMIT:
                self._names.popitem(last=False)

    def _record(self, call: Call) -> None:
        entries = self._groups[-1][1]
        if (started := _EXEC_START.match(call.path)) and call.body.get("Detach"):
            for at, earlier in enumerate(entries):
                if earlier.exec_id == started[1]:
                    entries[at] = _swap(earlier, "docker exec ", "docker exec -d ")
            return
        text = translate(call, self._names)
        if text is None:
            return
        about = _ABOUT_CONTAINER.match(call.path)
        if call.path == "/containers/create":
            identity = str(call.answer.get("Id") or "")
            entry = _Entry(text, self._names.get(identity, ""), identity)
        elif about:
            identity = self._id_of(unquote(about[1]))
            exec_id = str(call.answer.get("Id") or "") if about[2] == "exec" else ""
            entry = _Entry(text, self._names.get(identity, identity), identity, exec_id)
            if about[2] == "rename" and call.query.get("name"):
                self._names[identity] = call.query["name"]
            if self._fold(entries, entry, about[2] or "", call):
                return
        else:
            entry = _Entry(text)
        if len(entries) < COMMAND_LIMIT:
            entries.append(entry)

    def _fold(self, entries: list[_Entry], entry: _Entry, verb: str, call: Call) -> bool:
        """Join create and start to ``docker run -d``; with waiting and removing, to ``docker run --rm``."""
        mine = [at for at, other in enumerate(entries) if other.container == entry.container]
        earlier = [entries[at].text.split(" ", 2)[1] for at in mine]
        if verb == "start" and earlier[-1:] == ["create"]:
            entries[mine[-1]] = _swap(entries[mine[-1]], "docker create ", "docker run -d ")
            return True
        removed = call.method == "DELETE" and not verb
        since_run = earlier[len(earlier) - 1 - earlier[::-1].index("run") :] if "run" in earlier else []
        if removed and "wait" in since_run and set(since_run) <= {"run", "logs", "wait"}:
            run = mine[len(mine) - len(since_run)]
            if entries[run].text.startswith("docker run -d "):
                entries[run] = _swap(entries[run], "docker run -d ", "docker run --rm ")
                for at in reversed(mine[len(mine) - len(since_run) + 1 :]):
                    del entries[at]
                return True
        return False

    def _id_of(self, target: str) -> str:
        """Return the id of a container that a call named by its id or by its name."""
        if target in self._names:
            return target
        return next((identity for identity, name in reversed(self._names.items()) if name == target), target)


def _swap(entry: _Entry, old: str, new: str) -> _Entry:
    return replace(entry, text=new + entry.text[len(old) :]) if entry.text.startswith(old) else entry


def _call_of(answer: requests.Response, *, stream: bool) -> Call:
    """Read a call off the answer; a stream is left untouched for whoever asked for it."""
    request = answer.request
    # Sockets and pipes are addressed as http+docker://localhost/v1.41/...; urlsplit copes with all of them.
    address = urlsplit(request.url or "")
    path = _VERSION.sub("", address.path)
    query = dict(parse_qsl(address.query, keep_blank_values=True))
    told = {} if stream or not _is_json(answer.headers.get("Content-Type")) else answer.json()
    sent: Any = {}
    if request.body and isinstance(request.body, (str, bytes)) and _is_json(request.headers.get("Content-Type")):
        sent = json.loads(request.body)
    return Call(request.method or "", path, query, _mapping(sent), _mapping(told), _FOLDER.get())


def _is_json(content_type: str | bytes | None) -> bool:
    return "json" in str(content_type or "")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}

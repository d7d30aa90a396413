"""One call of the Engine API as the ``docker`` command that a person would have typed; pure."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from dockerlab.commands.options import (
    Names,
    environment,
    health,
    mounts,
    named,
    networks,
    ports,
    switches,
    valued,
    words_of,
)


@dataclass(frozen=True)
class Call:
    """One call that the engine carried out.

    Attributes
    ----------
    method, path : str
        Such as ``POST`` and ``/containers/create``, without the version.
    query : mapping of str to str
        The parameters in the address.
    body : mapping
        The JSON body of the request, empty where there was none.
    answer : mapping
        The JSON answer, empty where it was a stream.
    folder : str
        For a build: the folder that was sent.
    """

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)
    answer: Mapping[str, Any] = field(default_factory=dict)
    folder: str = ""


def translate(call: Call, names: Names) -> str | None:
    """Write a call as a ``docker`` command.

    Parameters
    ----------
    call : Call
        What was asked of the engine.
    names : mapping of str to str
        The names of containers, networks and images by their ids.

    Returns
    -------
    str or None
        A command for a POSIX shell; None for calls that change nothing, which are not worth listing.

    Examples
    --------
    >>> translate(Call("POST", "/containers/web-1/stop", {"t": "5"}), {})
    'docker stop -t 5 web-1'
    """
    for method, pattern, typed in _ROUTES:
        if call.method == method and (match := pattern.match(call.path)):
            words = typed(call, unquote(match[1]) if match.groups() else "", names)
            return shlex.join(["docker", *words]) if words else None
    return None


def _container(*words: str, **options: str) -> Callable[[Call, str, Names], list[str]]:
    """Make the translation of a call about one container: the words, options from the query, the name."""

    def translated(call: Call, target: str, names: Names) -> list[str]:
        found = list(words)
        for parameter, flag in options.items():
            value = call.query.get(parameter, "")
            if value.lower() in {"true", "1"} and not flag.endswith("="):
                found.append(flag)
            elif flag.endswith("=") and value:
                found += [flag[:-1], value]
        return [*found, named(target, names)]

    return translated


def _create(call: Call, _target: str, names: Names) -> list[str]:
    body, host = call.body, call.body.get("HostConfig") or {}
    words = ["create"]
    if name := call.query.get("name"):
        words += ["--name", name]
    for key, value in sorted((body.get("Labels") or {}).items()):
        words += ["--label", f"{key}={value}"]
    words += switches(body, host)
    words += ports(body, host)
    words += mounts(body.get("Volumes") or (), host, names)
    words += networks(body, host, names)
    for variable in environment(body.get("Env")):
        words += ["-e", variable]
    words += valued(body, host)
    words += health(body.get("Healthcheck") or {})
    entrypoint, command = words_of(body.get("Entrypoint")), words_of(body.get("Cmd"))
    if entrypoint:
        words += ["--entrypoint", entrypoint[0]]
    # The option takes one word only; the rest stands in front of the command.
    return [*words, named(str(body.get("Image", "")), names), *entrypoint[1:], *command]


def _exec(call: Call, target: str, names: Names) -> list[str]:
    body, words = call.body, ["exec"]
    words += [
        flag for flag, key in (("-i", "AttachStdin"), ("-t", "Tty"), ("--privileged", "Privileged")) if body.get(key)
    ]
    for variable in environment(body.get("Env")):
        words += ["-e", variable]
    for flag, key in (("-u", "User"), ("-w", "WorkingDir")):
        words += [flag, body[key]] if body.get(key) else []
    return [*words, named(target, names), *words_of(body.get("Cmd"))]


def _update(call: Call, target: str, names: Names) -> list[str]:
    return ["update", *valued({}, call.body), named(target, names)]


def _commit(call: Call, _target: str, names: Names) -> list[str]:
    words = ["commit"]
    for flag, key in (("-m", "comment"), ("-a", "author")):
        words += [flag, call.query[key]] if call.query.get(key) else []
    name = _tagged(call.query.get("repo", ""), call.query.get("tag", ""))
    return [*words, named(call.query.get("container", ""), names), *([name] if name else [])]


def _build(call: Call, _target: str, _names: Names) -> list[str]:
    words = ["build"]
    if tag := call.query.get("t"):
        words += ["-t", tag]
    file = call.query.get("dockerfile", "Dockerfile")
    if file and file != "Dockerfile":
        words += ["-f", f"{call.folder or '.'}/{file}"]
    words += ["--no-cache"] if call.query.get("nocache", "").lower() in {"true", "1"} else []
    words += ["--pull"] if call.query.get("pull", "").lower() in {"true", "1"} else []
    words += ["--target", call.query["target"]] if call.query.get("target") else []
    for key, value in sorted(_decoded(call.query.get("buildargs")).items()):
        words += ["--build-arg", f"{key}={value}"]
    for key, value in sorted(_decoded(call.query.get("labels")).items()):
        words += ["--label", f"{key}={value}"]
    return [*words, call.query.get("remote") or call.folder or "."]


def _pull(call: Call, _target: str, _names: Names) -> list[str]:
    image = call.query.get("fromImage", "")
    if not image:
        return ["import", "-", _tagged(call.query.get("repo", ""), call.query.get("tag", ""))]
    return ["pull", _tagged(image, call.query.get("tag", ""))]


def _network(call: Call, _target: str, _names: Names) -> list[str]:
    body, words = call.body, ["network", "create"]
    if body.get("Driver") not in (None, "", "bridge"):
        words += ["--driver", body["Driver"]]
    words += [flag for flag, key in (("--internal", "Internal"), ("--attachable", "Attachable")) if body.get(key)]
    for settings in (body.get("IPAM") or {}).get("Config") or ():
        for flag, key in (("--subnet", "Subnet"), ("--gateway", "Gateway"), ("--ip-range", "IPRange")):
            words += [flag, settings[key]] if settings.get(key) else []
    return [*words, *_labels_and_options(body, "Options"), body.get("Name", "")]


def _connect(call: Call, target: str, names: Names) -> list[str]:
    words = ["network", "connect"]
    for alias in (call.body.get("EndpointConfig") or {}).get("Aliases") or ():
        words += ["--alias", alias]
    return [*words, named(target, names), named(call.body.get("Container", ""), names)]


def _disconnect(call: Call, target: str, names: Names) -> list[str]:
    force = ["-f"] if call.body.get("Force") else []
    return ["network", "disconnect", *force, named(target, names), named(call.body.get("Container", ""), names)]


def _volume(call: Call, _target: str, _names: Names) -> list[str]:
    driver = call.body.get("Driver") or "local"
    words = ["volume", "create"] + (["--driver", driver] if driver != "local" else [])
    name = [call.body["Name"]] if call.body.get("Name") else []
    return [*words, *_labels_and_options(call.body, "DriverOpts"), *name]


def _labels_and_options(body: Mapping[str, Any], options: str) -> list[str]:
    words: list[str] = []
    for key, value in sorted((body.get("Labels") or {}).items()):
        words += ["--label", f"{key}={value}"]
    for key, value in sorted((body.get(options) or {}).items()):
        words += ["--opt", f"{key}={value}"]
    return words


def _save(call: Call, target: str, names: Names) -> list[str]:
    image = named(target or call.query.get("names", ""), names)
    file = re.sub(r"[^A-Za-z0-9._-]+", "-", image) or "images"
    return ["save", "-o", f"{file}.tar", image]


def _tagged(name: str, tag: str) -> str:
    return f"{name}{'@' if tag.startswith('sha256:') else ':'}{tag}" if name and tag else name


def _decoded(text: str | None) -> dict[str, str]:
    return dict(json.loads(text)) if text else {}


def _routes() -> tuple[tuple[str, re.Pattern[str], Callable[[Call, str, Names], list[str]]], ...]:
    one = r"/([^/]+)"
    image = r"/images/(.+)"
    table: tuple[tuple[str, str, Callable[[Call, str, Names], list[str]]], ...] = (
        ("POST", "/containers/create", _create),
        ("POST", f"/containers{one}/start", _container("start")),
        ("POST", f"/containers{one}/stop", _container("stop", t="-t=")),
        ("POST", f"/containers{one}/restart", _container("restart", t="-t=")),
        ("POST", f"/containers{one}/kill", _container("kill", signal="-s=")),
        ("POST", f"/containers{one}/pause", _container("pause")),
        ("POST", f"/containers{one}/unpause", _container("unpause")),
        ("POST", f"/containers{one}/wait", _container("wait")),
        ("GET", f"/containers{one}/logs", _container("logs", follow="-f", timestamps="-t")),
        ("DELETE", f"/containers{one}", _container("rm", force="-f", v="-v")),
        ("POST", f"/containers{one}/exec", _exec),
        ("POST", f"/containers{one}/update", _update),
        ("POST", f"/containers{one}/rename", lambda c, t, n: ["rename", named(t, n), c.query.get("name", "")]),
        ("PUT", f"/containers{one}/archive", lambda c, t, n: ["cp", "-", f"{named(t, n)}:{c.query.get('path', '')}"]),
        ("GET", f"/containers{one}/archive", lambda c, t, n: ["cp", f"{named(t, n)}:{c.query.get('path', '')}", "."]),
        ("GET", f"/containers{one}/export", lambda _c, t, n: ["export", "-o", f"{named(t, n)}.tar", named(t, n)]),
        ("POST", "/commit", _commit),
        ("POST", "/build", _build),
        ("POST", "/images/create", _pull),
        ("POST", "/images/load", lambda _c, _t, _n: ["load", "-i", "image.tar"]),
        ("GET", "/images/get", _save),
        ("GET", f"{image}/get", _save),
        ("POST", f"{image}/push", lambda c, t, _n: ["push", _tagged(t, c.query.get("tag", ""))]),
        (
            "POST",
            f"{image}/tag",
            lambda c, t, n: ["tag", named(t, n), _tagged(c.query.get("repo", ""), c.query.get("tag", ""))],
        ),
        ("DELETE", image, _container("rmi", force="-f")),
        ("POST", "/networks/create", _network),
        ("POST", f"/networks{one}/connect", _connect),
        ("POST", f"/networks{one}/disconnect", _disconnect),
        ("DELETE", f"/networks{one}", _container("network", "rm")),
        ("POST", "/volumes/create", _volume),
        ("DELETE", f"/volumes{one}", _container("volume", "rm", force="-f")),
    )
    return tuple((method, re.compile(f"^{pattern}$"), typed) for method, pattern, typed in table)


_ROUTES = _routes()

"""What the client asks for with a build."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dockerlab.engine.build.golang import is_text
from dockerlab.engine.images.reference import Reference, parse
from dockerlab.engine.refusals import bad, unsupported

_TRUE, _FALSE = ("1", "true", "yes", "on", "t"), ("", "0", "false", "no", "none", "off", "f")
# What a client may send that means "no limit"
_NOTHING = ("", "0", "-1", "null", "[]", "{}", "default")
_NOT_KEPT = {
    "memory": "memory limits are",
    "memswap": "swap limits are",
    "cpushares": "CPU shares are",
    "cpuperiod": "CPU periods are",
    "cpuquota": "CPU quotas are",
    "cpusetcpus": "a choice of CPUs is",
    "cpusetmems": "a choice of memory nodes is",
    "cgroupparent": "a parent cgroup is",
    "shmsize": "a size of /dev/shm is",
    "isolation": "an isolation technology is",
    "securityopt": "security options are",
}
Ulimits = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class BuildOptions:
    """Options of ``POST /build``.

    Attributes
    ----------
    tags : tuple of Reference
        Names for the image.
    dockerfile : str
        Its path in the context.
    arguments : mapping of str to str or None
        Values for ARG.
    labels : mapping of str to str
        More labels for the image.
    no_cache : bool
        Run every step again.
    pull : bool
        Ask the registry for a newer base image.
    remove : bool
        Whether the client wants the containers of the steps gone, which they always are.
    force_remove : bool
        Whether it says so of one that failed, too.
    quiet : bool
        Say nothing but the id.
    target : str
        Name or number of the last stage.
    network : str
        ``host`` or ``none``, for RUN.
    extra_hosts : tuple of str
        ``name:address``.
    platform : str
        Such as ``linux/amd64``; may be empty.
    ulimits : tuple of (str, int, int)
        For RUN: name, soft, hard.
    warnings : tuple of str
        What is not done here of what was asked for.
    """

    tags: tuple[Reference, ...] = ()
    dockerfile: str = "Dockerfile"
    arguments: Mapping[str, str | None] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    no_cache: bool = False
    pull: bool = False
    remove: bool = True
    force_remove: bool = False
    quiet: bool = False
    target: str = ""
    network: str = "host"
    extra_hosts: tuple[str, ...] = ()
    platform: str = ""
    ulimits: Ulimits = ()
    warnings: tuple[str, ...] = ()


def read_options(query: Iterable[tuple[str, str]]) -> BuildOptions:
    """Read the query of ``POST /build``.

    Parameters
    ----------
    query : iterable of (str, str)
        Names and values; ``t`` and ``extrahosts`` may come several times (``request.query.items()``).

    Returns
    -------
    BuildOptions

    Raises
    ------
    RefusalError
        400: a value makes no sense. 501: what this builder cannot do at all.
    """
    pairs = list(query)
    values = dict(reversed(pairs))  # the first of several counts
    if values.get("remote"):
        raise unsupported("building from an address is not supported by this engine: send the context")
    if values.get("version", "1") not in ("", "1"):
        raise unsupported("BuildKit is not supported by this engine: build with DOCKER_BUILDKIT=0")
    if _flag(values, "squash"):
        raise unsupported("squashing is not supported by this engine")
    if values.get("outputs", "") not in _NOTHING:
        raise unsupported("other outputs than an image are not supported by this engine")
    warnings = [
        f"{words} not kept in the builds of this engine"
        for name, words in _NOT_KEPT.items()
        if values.get(name, "") not in _NOTHING
    ]
    if values.get("cachefrom", "") not in _NOTHING:
        warnings.append("the cache of this engine is what was built here: other images are not looked at")
    network = values.get("networkmode", "")
    if network not in ("", "default", "host", "bridge", "none"):
        warnings.append(f"the network {network} is not used in the builds of this engine: they use the machine's")
    if not _flag(values, "rm", True):
        warnings.append("the containers of a build's steps are always removed by this engine")
    return BuildOptions(
        tags=tuple(_tag(text) for name, text in pairs if name == "t" and text),
        dockerfile=values.get("dockerfile") or "Dockerfile",
        arguments=_texts(values.get("buildargs", ""), "build args", nothing=True),
        labels={name: value or "" for name, value in _texts(values.get("labels", ""), "labels").items()},
        no_cache=_flag(values, "nocache"),
        pull=_flag(values, "pull"),
        remove=_flag(values, "rm", True),
        force_remove=_flag(values, "forcerm"),
        quiet=_flag(values, "q"),
        target=values.get("target", ""),
        network="none" if network == "none" else "host",
        extra_hosts=tuple(_host(text) for name, text in pairs if name == "extrahosts" and text),
        platform=_platform(values.get("platform", "")),
        ulimits=_ulimits(values.get("ulimits", "")),
        warnings=tuple(warnings),
    )


def context_path(path: str) -> str:
    """Give a path in the context without detours, relative; 400 when it leads out."""
    clean = posixpath.normpath(path.lstrip("/") or ".")
    if clean == ".." or clean.startswith("../"):
        raise bad(f"forbidden path outside the build context: {path} ()")
    return clean


def _flag(values: Mapping[str, str], name: str, default: bool = False) -> bool:
    if name not in values:
        return default
    word = values[name].strip().lower()
    if word not in _TRUE + _FALSE:
        raise bad(f"invalid value {values[name]!r} for {name}: it must be true or false")
    return word in _TRUE


def _tag(text: str) -> Reference:
    reference = parse(text)
    if reference.digest:
        raise bad("build tag cannot contain a digest")
    return reference.tagged()


def _json(text: str, what: str) -> Any:
    try:
        return json.loads(text) if text.strip() else None
    except (ValueError, RecursionError):
        raise bad(f"error reading {what}: it is not JSON") from None


def _texts(text: str, what: str, *, nothing: bool = False) -> dict[str, str | None]:
    content = _json(text, what)
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(
        isinstance(value, str) or (nothing and value is None) for value in content.values()
    ):
        raise bad(f"error reading {what}: it is not a JSON object with texts")
    if not all(name and is_text(name) and is_text(value or "") for name, value in content.items()):
        raise bad(f"error reading {what}: a name or value has characters that it cannot have")
    return content


def _ulimits(text: str) -> Ulimits:
    import resource  # noqa: PLC0415  not on every platform that imports this package

    found = []
    content = _json(text, "ulimits") or []
    if not isinstance(content, list):
        raise bad("error reading ulimits: it is not a JSON list")
    for one in content:
        if not isinstance(one, dict) or not isinstance(one.get("Name"), str):
            raise bad("error reading ulimits: each needs a name")
        soft, hard = one.get("Soft", 0), one.get("Hard", 0)
        if type(soft) is not int or type(hard) is not int or max(abs(soft), abs(hard)) > 2**63 - 1:
            raise bad("error reading ulimits: a limit is not a whole number")
        if not hasattr(resource, f"RLIMIT_{one['Name'].upper()}"):
            raise bad(f"invalid ulimit type: {one['Name']}")
        if soft > hard != -1:
            raise bad(f"ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}")
        found.append((one["Name"], soft, hard))
    return tuple(found)


def _host(text: str) -> str:
    name, _, address = text.partition(":")
    if not name or not address or any(letter.isspace() for letter in text):
        raise bad(f"bad format for add-host: {text!r}")
    return text


def _platform(text: str) -> str:
    parts = text.lower().split("/")
    if not text:
        return ""
    if not 1 <= len(parts) <= 3 or not all(part.replace("_", "").replace("-", "").isalnum() for part in parts):
        raise bad(f'"{text}": cannot parse platform specifier: invalid argument')
    return text.lower()

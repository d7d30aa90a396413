"""The body of POST /containers/create, checked and put together with the image's own configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dockerlab.engine.containers import fields, hostconfig, mounts, ports, signals
from dockerlab.engine.refusals import bad

_MILLISECOND = 10**6
_PERIODS = ("Interval", "Timeout", "StartPeriod", "StartInterval")
_TEXTS = ("Hostname", "Domainname", "User", "WorkingDir", "StopSignal", "MacAddress")
_SWITCHES = ("AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin", "StdinOnce")


@dataclass(frozen=True)
class Settings:
    """What a container is to be.

    Attributes
    ----------
    config, host : dict
        ``Config`` and ``HostConfig`` as Docker shows them; the host name is empty where the engine is to choose it.
    argv : tuple of str
        Entrypoint and command.
    mounts : tuple of Wanted
    networks : dict
        What was asked of each network.
    warnings : list of str
    """

    config: dict[str, Any]
    host: dict[str, Any]
    argv: tuple[str, ...]
    mounts: tuple[mounts.Wanted, ...]
    networks: dict[str, dict[str, Any]]
    warnings: list[str]


def read(body: Mapping[str, Any], image: Mapping[str, Any]) -> Settings:
    """Check everything.

    Parameters
    ----------
    body : mapping
        Of the request.
    image : mapping
        ``config`` of the image's configuration.

    Returns
    -------
    Settings

    Raises
    ------
    RefusalError
        400: bad input. 501: what this engine cannot do.
    """
    host, warnings = hostconfig.read(fields.table(body, "HostConfig"))
    config = _config(body, image)
    argv = (*(config["Entrypoint"] or ()), *(config["Cmd"] or ()))
    if not argv or not argv[0]:
        raise bad("No command specified")
    for key in config.get("ExposedPorts") or ():
        ports.parse(key)
    wanted = mounts.wanted(config, host)
    return Settings(config, host, argv, wanted, _networks(body, host), warnings)


def _config(body: Mapping[str, Any], image: Mapping[str, Any]) -> dict[str, Any]:
    config: dict[str, Any] = {name: fields.text(body, name) for name in _TEXTS}
    config.update({name: fields.yes(body, name) for name in _SWITCHES})
    config["User"] = config["User"] or image.get("User") or ""
    config["WorkingDir"] = config["WorkingDir"] or image.get("WorkingDir") or ""
    if config["WorkingDir"] and not config["WorkingDir"].startswith("/"):
        raise bad(f"the working directory '{config['WorkingDir']}' is invalid, it needs to be an absolute path")
    command, entrypoint = fields.words(body, "Cmd"), fields.words(body, "Entrypoint")
    if not entrypoint and entrypoint != [""]:
        # An entrypoint of one's own hides the image's command; [""] takes the image's entrypoint away
        command = command or image.get("Cmd")
        entrypoint = image.get("Entrypoint") if entrypoint is None else None
    elif entrypoint == [""]:
        entrypoint = None
    config.update(Cmd=command or None, Entrypoint=entrypoint or None)
    config["Env"] = _environment(fields.texts(body, "Env") or [], image.get("Env") or [])
    config["Labels"] = {**(image.get("Labels") or {}), **fields.labels(body)}
    for name in ("ExposedPorts", "Volumes"):
        found = {**(image.get(name) or {}), **fields.table(body, name)}
        config[name] = {key: {} for key in found} or None
    config["Image"] = fields.text(body, "Image")
    config["OnBuild"] = None
    config["StopSignal"] = config["StopSignal"] or image.get("StopSignal") or "SIGTERM"
    signals.number_of(config["StopSignal"])
    health = _healthcheck(fields.table(body, "Healthcheck"), image.get("Healthcheck") or {})
    if health:
        config["Healthcheck"] = health
    if body.get("StopTimeout") is not None:
        config["StopTimeout"] = fields.whole(body, "StopTimeout")
    if fields.yes(body, "NetworkDisabled"):
        config["NetworkDisabled"] = True
    if not config["MacAddress"]:
        del config["MacAddress"]
    return config


def _environment(own: list[str], images: list[str]) -> list[str]:
    """Add the image's variables to one's own, which win; a name without a value takes the image's away."""
    for one in own:
        if not one or one.startswith("="):
            raise bad(f"invalid environment variable: {one}")
    names = {one.partition("=")[0] for one in own}
    kept = [one for one in images if one.partition("=")[0] not in names]
    return [*own, *kept]


def _healthcheck(own: Mapping[str, Any], images: Mapping[str, Any]) -> dict[str, Any]:
    test = fields.texts(own, "Test")
    retries = fields.whole(own, "Retries")
    if retries < 0:
        raise bad("Retries in Healthcheck cannot be negative")
    for name in _PERIODS:
        period = fields.whole(own, name)
        if period and period < _MILLISECOND:
            raise bad(f"{name} in Healthcheck cannot be less than 1ms")
    found = {**images, **{name: value for name, value in own.items() if value}}
    test = test or found.get("Test") or []
    if test and test[0] not in ("NONE", "CMD", "CMD-SHELL"):
        raise bad(f"invalid Healthcheck: unknown type {test[0]!r} in {test!r}")
    if test and test[0] != "NONE" and len(test) < 2:
        raise bad("invalid Healthcheck: it has no command")
    return {**found, "Test": test} if test else {}


def _networks(body: Mapping[str, Any], host: dict[str, Any]) -> dict[str, dict[str, Any]]:
    mode = host["NetworkMode"]
    mode = "bridge" if mode == "default" else mode
    wanted = fields.table(fields.table(body, "NetworkingConfig"), "EndpointsConfig")
    if len(wanted) > 1:
        raise bad(f"Container cannot be connected to network endpoints: {', '.join(sorted(wanted))}")
    found: dict[str, dict[str, Any]] = {mode: {}}
    for name, row in wanted.items():
        if mode == "bridge" and name not in ("bridge", "default"):
            found = {}  # named there only: docker-py does that
            host["NetworkMode"] = name
        found["bridge" if name == "default" else name] = fields.table(wanted, name) if row is not None else {}
    return found

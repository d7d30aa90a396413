"""What each instruction without files does to the configuration of an image; no image is needed to test it."""

from __future__ import annotations

import posixpath
import re
import signal
from collections.abc import Callable, Mapping
from typing import Any

from dockerlab.engine.build.golang import quoted_list
from dockerlab.engine.build.health import healthcheck, printed
from dockerlab.engine.build.instructions import Instruction
from dockerlab.engine.build.words import expand, expand_list
from dockerlab.engine.refusals import bad

DEFAULT_SHELL = ("/bin/sh", "-c")
_PORT = re.compile(r"([0-9]+)(?:-([0-9]+))?(?:/([A-Za-z0-9]+))?")
_PROTOCOLS = ("tcp", "udp", "sctp")

Config = dict[str, Any]


class Changes:
    """Changes to one configuration.

    Parameters
    ----------
    config : dict
        The ``config`` of an image; is changed.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.author = ""
        self._command_set = False

    @property
    def shell(self) -> list[str]:
        """What runs the shell form."""
        return list(self.config.get("Shell") or DEFAULT_SHELL)

    @property
    def environment(self) -> list[str]:
        """ENV as ``name=value``."""
        return list(self.config.get("Env") or [])

    def apply(self, instruction: Instruction, variables: Mapping[str, str], escape: str = "\\") -> str:
        """Apply one instruction.

        Parameters
        ----------
        instruction : Instruction
            Any but ADD, ARG, COPY, FROM and RUN.
        variables : mapping of str to str
            What it may use as ``$NAME``.
        escape : str
            The escape character of its file.

        Returns
        -------
        str
            What the history says of it.

        Raises
        ------
        RefusalError
            400, in Docker's words.
        """
        method = _METHODS[instruction.keyword]
        return method(self, instruction, lambda word: expand(word, variables, escape), (variables, escape))

    def _env(self, instruction: Instruction, fill: Callable[[str], str], _: object) -> str:
        pairs = [(fill(name), fill(value)) for name, value in instruction.pairs]
        environment = self.environment
        for name, value in pairs:
            for index, one in enumerate(environment):
                if one.partition("=")[0] == name:
                    environment[index] = f"{name}={value}"
                    break
            else:
                environment.append(f"{name}={value}")
        self.config["Env"] = environment
        return "ENV " + " ".join(f"{name}={value}" for name, value in pairs)

    def _label(self, instruction: Instruction, fill: Callable[[str], str], _: object) -> str:
        # Labels of the client's are taken as they are, and are marked like this
        pairs = [one if instruction.exec_form else (fill(one[0]), fill(one[1])) for one in instruction.pairs]
        self.config["Labels"] = {**(self.config.get("Labels") or {}), **dict(pairs)}
        return "LABEL " + " ".join(f"{name}={value}" for name, value in pairs)

    def _workdir(self, instruction: Instruction, fill: Callable[[str], str], _: object) -> str:
        path = fill(instruction.args[0])
        if not path:
            raise bad("cannot normalize nothing")
        before = self.config.get("WorkingDir") or "/"
        path = "/" + posixpath.normpath(posixpath.join("/", before, path)).lstrip("/")
        self.config["WorkingDir"] = path
        return f"WORKDIR {path}"

    def _user(self, instruction: Instruction, fill: Callable[[str], str], _: object) -> str:
        self.config["User"] = fill(instruction.args[0])
        return f"USER {self.config['User']}"

    def _command(self, instruction: Instruction) -> list[str]:
        if instruction.exec_form:
            return list(instruction.args)
        return [*self.shell, *instruction.args] if instruction.args else []

    def _cmd(self, instruction: Instruction, _fill: object, _: object) -> str:
        command = self._command(instruction)
        self.config["Cmd"] = command
        self._command_set = True
        return f"CMD {quoted_list(command)}"

    def _entrypoint(self, instruction: Instruction, _fill: object, _: object) -> str:
        command = self._command(instruction)
        self.config["Entrypoint"] = command or None
        if not self._command_set:
            self.config["Cmd"] = None  # that of the base image was made for the base image's entry point
        return f"ENTRYPOINT {quoted_list(command)}"

    def _expose(self, instruction: Instruction, _fill: object, context: tuple[Mapping[str, str], str]) -> str:
        words = sorted(word for one in instruction.args for word in expand_list(one, *context))
        ports = dict(self.config.get("ExposedPorts") or {})
        for word in words:
            ports.update((port, {}) for port in _ports(word))
        if ports:
            self.config["ExposedPorts"] = ports
        return "EXPOSE " + " ".join(words)

    def _volume(self, instruction: Instruction, fill: Callable[[str], str], _: object) -> str:
        paths = [fill(one).strip() for one in instruction.args]
        if not all(paths):
            raise bad("VOLUME specified can not be an empty string")
        self.config["Volumes"] = {**(self.config.get("Volumes") or {}), **{path: {} for path in paths}}
        return f"VOLUME [{' '.join(paths)}]"

    def _stopsignal(self, instruction: Instruction, fill: Callable[[str], str], _: object) -> str:
        text = fill(instruction.args[0])
        if not _is_signal(text):
            raise bad(f"Invalid signal: {text}")
        self.config["StopSignal"] = text
        return f"STOPSIGNAL {text}"

    def _healthcheck(self, instruction: Instruction, _fill: object, _: object) -> str:
        check = healthcheck(instruction.args, instruction.exec_form, instruction.flags)
        self.config["Healthcheck"] = check
        return f"HEALTHCHECK {printed(check)}"

    def _shell(self, instruction: Instruction, _fill: object, _: object) -> str:
        self.config["Shell"] = list(instruction.args)
        return f"SHELL [{' '.join(instruction.args)}]"

    def _onbuild(self, instruction: Instruction, _fill: object, _: object) -> str:
        trigger = re.sub(r"(?i)^\s*ONBUILD\s*", "", instruction.text)
        self.config["OnBuild"] = [*(self.config.get("OnBuild") or []), trigger]
        return f"ONBUILD {trigger}"

    def _maintainer(self, instruction: Instruction, _fill: object, _: object) -> str:
        self.author = instruction.args[0]
        return f"MAINTAINER {self.author}"


_METHODS: dict[str, Callable[..., str]] = {
    "CMD": Changes._cmd,
    "ENTRYPOINT": Changes._entrypoint,
    "ENV": Changes._env,
    "EXPOSE": Changes._expose,
    "HEALTHCHECK": Changes._healthcheck,
    "LABEL": Changes._label,
    "MAINTAINER": Changes._maintainer,
    "ONBUILD": Changes._onbuild,
    "SHELL": Changes._shell,
    "STOPSIGNAL": Changes._stopsignal,
    "USER": Changes._user,
    "VOLUME": Changes._volume,
    "WORKDIR": Changes._workdir,
}


def _ports(word: str) -> list[str]:
    """Give the ports of ``80``, ``80/udp``, ``80-82`` or, as with -p, ``8080:80``."""
    text = word.rpartition(":")[2]
    inner, _, protocol = text.partition("/")
    found = _PORT.fullmatch(text)
    first, last = (int(found[1]), int(found[2] or found[1])) if found and len(inner) <= 11 else (1, 0)
    if first > last or last > 65535:
        raise bad(f"Invalid containerPort: {inner}")
    protocol = protocol.lower() or "tcp"
    if protocol not in _PROTOCOLS:
        raise bad(f"Invalid proto: {protocol}")
    return [f"{port}/{protocol}" for port in range(first, last + 1)]


def _is_signal(text: str) -> bool:
    if re.fullmatch(r"[0-9]{1,3}", text):
        return 0 < int(text) <= 64
    name = text.upper().removeprefix("SIG")
    return f"SIG{name}" in signal.Signals.__members__ or bool(re.fullmatch(r"RTM(IN(\+[0-9]+)?|AX(-[0-9]+)?)", name))

"""Build arguments: which ARG has which value where."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

_PROXIES = ("http", "https", "ftp", "no", "all")
BUILT_IN = tuple(name for one in _PROXIES for name in (f"{one.upper()}_PROXY", f"{one}_proxy"))
"""What a build may be given without an ARG; it leaves no trace in the image."""


class Arguments:
    """The arguments of one build.

    Parameters
    ----------
    given : mapping of str to str or None
        What the client sent; None stands for no value.
    """

    def __init__(self, given: Mapping[str, str | None]) -> None:
        self._given = given
        self._globals: dict[str, str | None] = {}
        self._declared: dict[str, str | None] = {}
        self._used: set[str] = set()

    def declare_global(self, name: str, default: str | None) -> None:
        """Take an ARG that stands before the first FROM."""
        self._used.add(name)
        given = self._given.get(name)
        self._globals[name] = default if given is None else given

    def start_stage(self) -> None:
        """Forget what the stage before declared."""
        self._declared = {}

    def declare(self, name: str, default: str | None) -> None:
        """Take an ARG of a stage."""
        self._used.add(name)
        self._declared[name] = default

    @property
    def for_from(self) -> dict[str, str]:
        """What FROM may use."""
        return {name: value for name, value in self._globals.items() if value is not None}

    def in_stage(self, environment: Sequence[str]) -> dict[str, str]:
        """Give the variables that an instruction may use: ENV outranks ARG."""
        found = self._values(self._declared)
        found.update(self._values(name for name in BUILT_IN if name not in found))
        found.update(as_mapping(environment))
        return found

    def for_run(self, environment: Sequence[str]) -> tuple[list[str], list[str]]:
        """Give what RUN gets besides ENV as ``name=value``: what belongs to the cache key, and what does not."""
        hidden = as_mapping(environment)
        declared = self._values(name for name in self._declared if name not in hidden)
        silent = self._values(name for name in BUILT_IN if name not in hidden and name not in self._declared)
        return (
            sorted(f"{name}={value}" for name, value in declared.items()),
            sorted(f"{name}={value}" for name, value in silent.items()),
        )

    def unused(self) -> list[str]:
        """Give what was sent and no ARG asked for."""
        return sorted(name for name in self._given if name not in self._used and name not in BUILT_IN)

    def _values(self, names: Iterable[str]) -> dict[str, str]:
        found = {}
        for name in names:
            value = self._given.get(name)
            if value is None:
                value = self._declared.get(name)
            if value is None and name in self._declared:
                value = self._globals.get(name)
            if value is not None:
                found[name] = value
        return found


def as_mapping(environment: Sequence[str]) -> dict[str, str]:
    """Give ``["A=1"]`` as ``{"A": "1"}``."""
    return dict(one.partition("=")[::2] for one in environment)

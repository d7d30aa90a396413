"""Which containers are listed: the filters of ``docker ps``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from dockerlab.engine.containers import ports
from dockerlab.engine.containers.container import Container
from dockerlab.engine.containers.lifecycle import Containers
from dockerlab.engine.containers.volumes import has_labels
from dockerlab.engine.refusals import RefusalError, bad

FILTERS = frozenset(
    "ancestor before exited expose health id is-task isolation label name network publish since status volume".split()  # noqa: SIM905
)
_STATES = ("created", "running", "paused", "restarting", "removing", "exited", "dead")
_HEALTH = ("starting", "healthy", "unhealthy", "none")

Filters = Mapping[str, list[str]]
Test = Callable[[Container], bool]


def select(
    containers: Containers, filters: Filters, *, every: bool, limit: int, ancestors: Mapping[str, set[str]]
) -> list[Container]:
    """Choose containers, the newest first.

    Parameters
    ----------
    containers : Containers
    filters : mapping of str to list of str
        Of the values of one filter any is enough, and each filter must pass; of labels every one must be there.
    every : bool
        Also those that do not run.
    limit : int
        At most so many of all; 0 is no limit.
    ancestors : mapping
        For each value of the filter ``ancestor`` the ids of the images meant.

    Raises
    ------
    RefusalError
        400: a value makes no sense.
    """
    tests = _tests(containers, filters, ancestors)
    every = every or limit > 0 or bool(filters.get("status") or filters.get("exited"))
    every = every or bool(filters.get("before") or filters.get("since"))
    newest_first = sorted(containers.list(), key=lambda one: one.record.created_ns, reverse=True)
    found = [
        one
        for one in newest_first
        if (every or one.record.running or one.record.status == "restarting") and all(test(one) for test in tests)
    ]
    return found[:limit] if limit > 0 else found


def _tests(containers: Containers, filters: Filters, ancestors: Mapping[str, set[str]]) -> list[Test]:
    makers: dict[str, Callable[[str], Test]] = {
        "id": lambda value: lambda one: value in one.id[:64] and one.id.startswith(value),
        "name": _name_test,
        "status": _status_test,
        "exited": _exited_test,
        "health": _health_test,
        "ancestor": lambda value: lambda one: one.record.image_id in ancestors.get(value, ()),
        "network": lambda value: _network_test(containers, value),
        "volume": lambda value: (
            lambda one: any(
                value in (point.get("Name"), point["Source"], point["Destination"]) for point in one.record.mounts
            )
        ),
        "before": lambda value: _time_test(containers, value, -1),
        "since": lambda value: _time_test(containers, value, 1),
        "publish": lambda value: _port_test("publish", value),
        "expose": lambda value: _port_test("expose", value),
        "is-task": lambda value: lambda _: value.lower() in ("false", "0"),
        "isolation": lambda value: lambda _: value in ("", "default"),
    }
    tests: list[Test] = []
    for name, values in filters.items():
        if name == "label":
            tests.append(lambda one, wanted=tuple(values): has_labels(one.record.labels, wanted))  # type: ignore[misc]
        elif values:
            tests.append(_any([makers[name](value) for value in values]))
    return tests


def _any(tests: list[Test]) -> Test:
    return lambda one: any(test(one) for test in tests)


def _name_test(value: str) -> Test:
    try:
        pattern = re.compile(value)
    except re.error as error:
        raise bad(f"invalid filter 'name={value}': {error}") from None
    return lambda one: bool(pattern.search(one.name) or pattern.search(f"/{one.name}"))


def _status_test(value: str) -> Test:
    if value not in _STATES:
        raise bad(f"invalid filter 'status={value}'")
    return lambda one: one.record.status == value


def _exited_test(value: str) -> Test:
    if not re.fullmatch(r"-?[0-9]{1,9}", value):
        raise bad(f"invalid filter 'exited={value}': it must be a number")
    # As in Docker: those that have ended once, not those that never ran
    return lambda one: not one.record.running and one.record.exit_code == int(value) and one.record.started_ns > 0


def _health_test(value: str) -> Test:
    if value not in _HEALTH:
        raise bad(f"Unrecognised filter value for health: {value}")
    return lambda one: (one.record.health or {"Status": "none"})["Status"] == value


def _network_test(containers: Containers, value: str) -> Test:
    try:
        name = containers.networks.get(value).name
    except RefusalError:
        return lambda _: False
    return lambda one: name in one.record.networks


def _time_test(containers: Containers, value: str, sign: int) -> Test:
    try:
        created_ns = containers.get(value).record.created_ns
    except RefusalError:
        raise bad(f"no such container {value}") from None
    return lambda one: (one.record.created_ns - created_ns) * sign > 0


def _port_test(kind: str, value: str) -> Test:
    found = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/(tcp|udp|sctp))?", value)
    if not found:
        raise bad(f"error while looking up for {kind} {value}: it must be a port, or a range, with or without protocol")
    wanted, protocol = range(int(found[1]), int(found[2] or found[1]) + 1), found[3] or "tcp"

    def test(one: Container) -> bool:
        record: Any = one.record
        named = record.config.get("ExposedPorts") if kind == "expose" else record.host.get("PortBindings")
        there = set(map(ports.parse, named or ())) | set(one.process.ports if one.process else ())
        return any(port in wanted and own == protocol for port, own in there)

    return test

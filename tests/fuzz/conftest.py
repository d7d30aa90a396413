"""Fixtures of the fuzz tests: one embedded engine for all of them, checked after each test."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NoReturn

import pytest

if TYPE_CHECKING:
    from fuzz_rig import Rig

if sys.platform != "linux":
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session")
def _rig(missing: Callable[[str, str], NoReturn]) -> Iterator[Rig]:
    from fuzz_rig import load_base, rig

    from dockerlab.errors import EngineError

    try:
        with rig() as made:
            load_base(made)
            yield made
    except EngineError as error:
        if "No container can be held here" not in error.message:
            raise
        missing("embedded", error.message)


@pytest.fixture
def rig(_rig: Rig) -> Iterator[Rig]:
    """Give the engine; it must be as before afterwards, and still run a container."""
    from fuzz_rig import runs_a_container, wait_for

    descriptors, processes = _rig.descriptors(), len(_rig.below())
    yield _rig
    _rig.check_log()
    _rig.check_clean()
    runs_a_container(_rig)
    wait_for(lambda: len(_rig.below()) <= max(processes, 1), 5, "processes were left")
    wait_for(lambda: _rig.descriptors() <= descriptors + 4, 5, "descriptors were left")
    _rig.check_log()

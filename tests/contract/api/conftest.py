"""Fixtures of the contract that every engine keeps: the Docker Engine API."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from bench import Bench, Raw

from dockerlab.connect import Engine
from dockerlab.images import Image


@contextmanager
def cleared(engine: Engine, base: str) -> Iterator[Bench]:
    """Give a bench; everything that it made is gone afterwards."""
    made = Bench(engine, base)
    try:
        yield made
    finally:
        made.clear()
    assert made.left() == []


@pytest.fixture
def bench(engine: Engine, base_image: Image) -> Iterator[Bench]:
    """Give a bench of one's own."""
    with cleared(engine, base_image.id) as made:
        yield made


@pytest.fixture(scope="module")
def shared(engine: Engine, base_image: Image) -> Iterator[Bench]:
    """Give a bench for what the tests of one module only look at."""
    with cleared(engine, base_image.id) as made:
        yield made


@pytest.fixture(scope="session")
def raw(engine: Engine) -> Raw:
    """Give plain HTTP to the engine."""
    return Raw(engine)


@pytest.fixture(scope="module", autouse=True)
def collect() -> Iterator[None]:
    """Let go of what docker-py leaves to the garbage collector: the sockets behind attach and exec."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"))

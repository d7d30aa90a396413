"""Docker Engine and the embedded engine with each of its isolators, side by side."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from dockerlab.connect import Engine, connect
from dockerlab.engine import daemon
from dockerlab.engine.places import find_places
from dockerlab.errors import EngineError

ISOLATORS = ("bubblewrap", "proot")


@contextmanager
def embedded(isolator: str) -> Iterator[Engine]:
    """Start an embedded engine of one's own, with an empty store; end and delete it afterwards."""
    home = Path(tempfile.mkdtemp(prefix="dl-"))  # short, as it holds a socket
    ours = {"DOCKERLAB_ISOLATION": isolator, "XDG_DATA_HOME": f"{home}/data", "XDG_RUNTIME_DIR": f"{home}/run"}
    before = {name: os.environ.get(name) for name in ours}
    for folder in (home / "data", home / "run"):
        folder.mkdir(mode=0o700)
    os.environ.update(ours)
    places = find_places()
    try:
        engine = connect("embedded")
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    try:
        yield engine
    finally:
        engine.client.close()
        daemon.stop(places)
        shutil.rmtree(home)


@contextmanager
def all_engines() -> Iterator[Mapping[str, Engine]]:
    """Give Docker Engine and the embedded engines that work here, by name."""
    with ExitStack() as stack:
        engines = {"docker": connect("docker")}
        stack.callback(engines["docker"].client.close)
        for isolator in ISOLATORS:
            try:
                engines[isolator] = stack.enter_context(embedded(isolator))
            except EngineError as error:  # noqa: PERF203 - each may fail
                print(f"  {isolator} does not work here: {error}", file=sys.stderr)
        yield engines

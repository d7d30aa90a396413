"""Fixtures that all tests share: an engine, a lab of one's own on it, and the images of the sample service."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import docker
import pytest
from hypothesis import settings
from support import docker_registry

from dockerlab.connect import Engine, connect
from dockerlab.errors import DockerlabError, EngineError

if TYPE_CHECKING:
    from dockerlab.images.layers import Image
    from dockerlab.lab import Lab

EMBEDDED = ("bubblewrap", "proot")  # the embedded engine, by what isolates
TESTS = Path(__file__).parent
WEB = TESTS.parent / "notebooks" / "apps" / "web"
RUN = f"test-{uuid.uuid4().hex[:8]}"  # prefix of the names of all labs of this run


def pytest_configure() -> None:
    # A busy machine makes an example slow now and then, and tells nothing by it.
    settings.register_profile("dockerlab", deadline=None)
    settings.load_profile("dockerlab")
    # A shell that starts the tests in the background has SIGINT ignored, here and in every process that a test starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def required() -> set[str]:
    """Give what DOCKERLAB_REQUIRE names: there a missing part is a failure and no skip."""
    return set(filter(None, os.environ.get("DOCKERLAB_REQUIRE", "").split(",")))


@cache
def engines_here() -> tuple[str, ...]:
    """Give the engines that are there or have to be: docker, and the embedded engine by its isolators."""
    here = []
    with contextlib.suppress(DockerlabError):
        connect("docker").client.close()
        here.append("docker")
    if sys.platform == "linux":
        from dockerlab.engine.isolate.probe import NoIsolatorError, probe

        for isolator in EMBEDDED:
            with tempfile.TemporaryDirectory() as folder, contextlib.suppress(NoIsolatorError):
                probe(Path(folder), isolator)
                here.append(isolator)
    wanted = ("docker", *EMBEDDED)
    return tuple(name for name in wanted if name in here or name in required()) or ("docker",)


def engines_for(path: Path) -> tuple[str, ...]:
    """Give the engines that the tests of a file run on.

    DOCKERLAB_TEST_ENGINES lists them. Without it the contract of the API holds on every engine that is there, and what
    stands above it is tried on the first one, and what is about faults on two.
    """
    chosen = tuple(filter(None, os.environ.get("DOCKERLAB_TEST_ENGINES", "").replace(",", " ").split()))
    if chosen:
        return chosen
    count = 3 if TESTS / "contract" / "api" in path.parents else 2 if TESTS / "chaos" in path.parents else 1
    return engines_here()[:count]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "engine" in metafunc.fixturenames:
        metafunc.parametrize("engine", engines_for(metafunc.definition.path), indirect=True, scope="session")


def group_of(nodeid: str) -> str:
    """Give the group that a test runs in: within one, tests follow one another; two groups may run side by side.

    Each file that uses an engine is a group, as its tests may build the same images. The contract of the API is one for
    each engine: what it prunes carries one label.
    """
    file, _, test = nodeid.removeprefix("tests/").partition("::")
    folder, _, name = file.partition("/")
    if name.startswith("api/"):
        return "api on " + next((one for one in EMBEDDED if re.search(rf"\b{one}\b", test)), "docker")
    return file if folder in {"contract", "notebooks", "browser"} else folder


_LONG = (
    "api on docker",
    "contract/test_embedded_engine.py",
    "browser/test_fleet_panel.py",
    "api on proot",
    "unit",
    "chaos",
    "contract/test_rollouts.py",
    "api on bubblewrap",
    "contract/test_autoscaler.py",
    "contract/test_servers.py",
    "fuzz",
)
"""The longest groups: they begin first, so that none of them is what the others wait for."""


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    return Groups(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "engine" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.engine)
    places = {group: place for place, group in enumerate(_LONG)}
    items.sort(key=lambda item: places.get(group_of(item.nodeid), len(places)))


def give_up(what: str, reason: str) -> NoReturn:
    """Skip with the reason, or fail where DOCKERLAB_REQUIRE names what is missing."""
    if what in required():
        pytest.fail(f"DOCKERLAB_REQUIRE asks for {what}: {reason}", pytrace=False)
    pytest.skip(f"{what}: {reason}")


@pytest.fixture(scope="session")
def missing() -> Callable[[str, str], NoReturn]:
    """Give the function to call where something that a test needs is not there: missing("browser", "why")."""
    return give_up


@pytest.fixture(scope="session", autouse=True)
def state_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep the state of the tests apart from that of the person who runs them."""
    folder = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(folder))
        yield folder


def leftovers(client: docker.DockerClient, label: str) -> list[str]:
    """Name every container, network and volume that carries the label."""
    filters = {"label": label}
    api = client.api
    found = [f"container {entry['Names'][0]}" for entry in api.containers(all=True, filters=filters)]
    found += [f"network {entry['Name']}" for entry in api.networks(filters=filters)]
    found += [f"volume {entry['Name']}" for entry in api.volumes(filters=filters)["Volumes"] or ()]
    return found


def of_this_run(client: docker.DockerClient, state: Path) -> list[str]:
    """Name everything on the engine that this run made, whatever lab it belongs to.

    The mark of the owner lives in the state folder. That folder is this run's own, so the mark is as well.
    """
    marked = state / "dockerlab" / "owner"
    owned = leftovers(client, f"dockerlab.owner={marked.read_text(encoding='ascii')}") if marked.exists() else []
    labelled = client.api.containers(all=True, filters={"label": "dockerlab.lab"})
    named = [entry for entry in labelled if entry["Labels"]["dockerlab.lab"].startswith(RUN)]
    return sorted({*owned, *(f"container {entry['Names'][0]}" for entry in named)})


@contextmanager
def embedded(isolator: str) -> Iterator[None]:
    """Let the embedded engine be one of this run's own, for programs that tests start too, and end it afterwards."""
    # Not pytest's folders: the path of a socket must be short.
    home = Path(tempfile.mkdtemp(prefix="dl-"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOCKERLAB_ISOLATION", isolator)
        patch.setenv("DOCKERLAB_ENGINE", "embedded")
        for name, folder in (("XDG_DATA_HOME", home / "data"), ("XDG_RUNTIME_DIR", home / "run")):
            folder.mkdir(mode=0o700)
            patch.setenv(name, str(folder))
        try:
            yield
        finally:
            from dockerlab.engine import daemon, files
            from dockerlab.engine.places import find_places

            places = find_places()
            daemon.stop(places)
            if log := os.environ.get("DOCKERLAB_TEST_LOG"):
                shutil.copy(places.log, f"{log}.{isolator}")
            files.remove(home)


@pytest.fixture(scope="session")
def engine(request: pytest.FixtureRequest, state_home: Path) -> Iterator[Engine]:
    """Give an engine that answers, once for each kind."""
    with embedded(request.param) if request.param in EMBEDDED else nullcontext():
        try:
            found = connect("embedded" if request.param in EMBEDDED else request.param)
        except EngineError as error:
            give_up(request.param, str(error))
        yield found
        left = of_this_run(found.client, state_home)
        found.client.close()
    assert not left, f"left on the engine after the tests: {left}"


@pytest.fixture(scope="module")
def registry(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Give the address of a registry of this machine: the one that Docker is used with."""
    program = shutil.which("docker-registry")
    if program is None:
        give_up("registry", "the program docker-registry (Debian package docker-registry) is not installed")
    with docker_registry(program, tmp_path_factory.mktemp("registry")) as address:
        yield address


@pytest.fixture
def lab_name() -> str:
    """Give a name for a lab that no other test uses."""
    return f"{RUN}-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def lab(engine: Engine, lab_name: str) -> Iterator[Lab]:
    """Give a lab of one's own; everything that it made is gone afterwards."""
    from dockerlab.lab import Lab

    made = Lab(lab_name, engine=engine.kind)
    try:
        yield made
    finally:
        made.reset()
        made.close()
    left = leftovers(engine.client, f"dockerlab.lab={lab_name}")
    assert not left, f"reset() left something behind: {left}"


@pytest.fixture(scope="session")
def base_image(engine: Engine) -> Image:
    """Give the image that everything is built on."""
    from dockerlab.images import base

    return base.ensure(engine.client)


def build_web(engine: Engine, version: int) -> Image:
    from dockerlab.images import build

    return build(engine.client, WEB, tag=f"web:test{version}", args={"VERSION": str(version)})


@pytest.fixture(scope="session")
def web1(engine: Engine, base_image: Image) -> Image:
    """Give version 1 of the sample service."""
    return build_web(engine, 1)


@pytest.fixture(scope="session")
def web2(engine: Engine, base_image: Image) -> Image:
    """Give version 2 of the sample service."""
    return build_web(engine, 2)

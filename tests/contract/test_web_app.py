"""The sample service, in real containers."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dockerlab.connect import Engine
from dockerlab.images import Image

LABEL = "dockerlab.test.web"


class Replica:
    """One container of the service, and how to ask it."""

    def __init__(self, container: Any) -> None:
        self.container = container
        container.reload()
        self.port = int(container.ports["80/tcp"][0]["HostPort"])

    def get(self, path: str, timeout_s: float = 10.0) -> tuple[int, dict[str, str], str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read().decode()
        finally:
            connection.close()

    def status(self, path: str) -> int:
        try:
            return self.get(path)[0]
        except OSError:
            return 0

    def wait(self, path: str = "/healthz", timeout_s: float = 10.0) -> float:
        begun = time.monotonic()
        while self.status(path) != 200:
            assert time.monotonic() - begun < timeout_s, self.container.logs().decode()
            time.sleep(0.02)
        return time.monotonic() - begun

    def run(self, script: str) -> str:
        return self.container.exec_run(["sh", "-c", script])[1].decode()


Start = Callable[..., Replica]


@pytest.fixture
def start(engine: Engine) -> Iterator[Start]:
    made: list[Any] = []

    def begin(image: Image, **env: object) -> Replica:
        container = engine.client.containers.run(
            image.id,
            detach=True,
            labels={LABEL: "1"},
            ports={"80/tcp": ("127.0.0.1", None)},
            environment={name: str(value) for name, value in env.items()},
        )
        made.append(container)
        return Replica(container)

    yield begin
    for container in made:
        container.remove(force=True, v=True)


def load(replica: Replica, askers: int, seconds: float) -> tuple[Counter[int], float]:
    """Ask all the time from so many threads; return the counted answers and the requests a second."""
    counts: Counter[int] = Counter()
    ends = time.monotonic() + seconds

    def ask() -> None:
        while time.monotonic() < ends:
            counts[replica.status("/cgi-bin/work")] += 1

    threads = [threading.Thread(target=ask) for _ in range(askers)]
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return counts, counts.total() / (time.monotonic() - begun)


def test_pages_and_headers(start: Start, web1: Image, web2: Image) -> None:
    for image, version in ((web1, "1"), (web2, "2")):
        replica = start(image, REPLICA='a<b"&')
        replica.wait()
        status, headers, body = replica.get("/cgi-bin/whoami")
        who = json.loads(body)
        assert (status, who["version"], who["replica"]) == (200, version, 'a<b"&')
        assert (headers["x-version"], headers["x-replica"]) == (version, 'a<b"&')
        status, headers, body = replica.get("/cgi-bin/work")
        assert (status, headers["x-version"]) == (200, version)
        status, headers, page = replica.get("/")
        assert status == 200
        assert headers["content-type"].startswith("text/html")
        assert who["colour"] in page
        assert "a&lt;b&quot;&amp;" in page
        assert f"</small>{version}</h1>" in page
        assert "@" not in page.replace("@media", "")
        # Works under a path prefix and without a network.
        assert 'href="/' not in page
        assert 'src="' not in page
        assert "//" not in page.replace("http://www.w3.org/2000/svg", "").replace("  // ", "")


def test_versions_have_different_colours(start: Start, web1: Image, web2: Image) -> None:
    script = ". /srv/web/lib.sh; for v in 1 2 3 4 5 6 7 8 08 1.2 x ''; do colour_of \"$v\"; done"
    colours = start(web1).run(script).split()
    assert len(set(colours[:8])) == 8
    assert len(colours) == 12
    assert colours[8] == colours[7]


def test_the_hostname_is_the_name_by_default(start: Start, web1: Image) -> None:
    replica = start(web1)
    replica.wait()
    assert json.loads(replica.get("/cgi-bin/whoami")[2])["replica"] == replica.container.id[:12]


def test_health_waits_for_the_warm_up(start: Start, web1: Image) -> None:
    replica = start(web1, WARMUP_S=1)
    begun = time.monotonic()
    replica.wait("/cgi-bin/whoami")
    assert replica.status("/healthz") == 404
    replica.wait()
    assert 0.8 <= time.monotonic() - begun < 3


@pytest.mark.parametrize("env", [{"HEALTH": "never"}, {"NEVER_HEALTHY": "1"}])
def test_a_version_that_never_gets_healthy(start: Start, web1: Image, env: dict[str, str]) -> None:
    replica = start(web1, **env)
    replica.wait("/cgi-bin/whoami")
    time.sleep(0.3)
    assert replica.status("/healthz") == 404
    assert replica.status("/cgi-bin/work") == 200


@pytest.mark.parametrize("work_ms", [50, 25])
def test_one_replica_does_its_rate_and_not_more(start: Start, web1: Image, work_ms: int) -> None:
    replica = start(web1, WORK_MS=work_ms)
    replica.wait()
    counts, rate = load(replica, askers=20, seconds=2.5)
    assert set(counts) == {200}
    assert rate == pytest.approx(1000 / work_ms, rel=0.1)


def test_fail_rate(start: Start, web1: Image) -> None:
    replica = start(web1, WORK_MS=1, FAIL_RATE=30)
    replica.wait()
    answers = Counter[int]()
    while answers.total() < 200:
        answers[replica.status("/cgi-bin/work")] += 1
    assert set(answers) == {200, 500}
    # Four standard deviations of 200 draws at 30 %.
    assert abs(answers[500] - 60) < 26
    always = start(web1, WORK_MS=1, FAIL_RATE=100)
    always.wait()
    assert {always.status("/cgi-bin/work") for _ in range(5)} == {500}


def test_a_killed_script_neither_stops_nor_doubles_the_work(start: Start, web1: Image) -> None:
    replica = start(web1, WORK_MS=100)
    replica.wait()
    threads = [threading.Thread(target=replica.status, args=("/cgi-bin/work",)) for _ in range(6)]
    for thread in threads:
        thread.start()
    time.sleep(0.25)
    working = "tr '\\0' ' ' <$p/cmdline | grep -q '^/bin/sh work'"
    killed = replica.run(f"for p in /proc/[0-9]*; do {working} && kill -9 ${{p##*/}} && echo killed; done").count(
        "killed"
    )
    for thread in threads:
        thread.join()
    assert killed >= 2
    counts, rate = load(replica, askers=5, seconds=2)
    assert set(counts) == {200}
    assert rate == pytest.approx(10, rel=0.15)


def test_stopping_an_idle_replica_is_quick_and_clean(start: Start, web1: Image) -> None:
    replica = start(web1)
    replica.wait()
    begun = time.monotonic()
    replica.container.stop(timeout=10)
    assert time.monotonic() - begun < 1.5
    replica.container.reload()
    assert replica.container.attrs["State"]["ExitCode"] == 0


def test_requests_in_flight_are_finished(start: Start, web1: Image) -> None:
    replica = start(web1, WORK_MS=300)
    replica.wait()
    answers: list[int] = []
    threads = [threading.Thread(target=lambda: answers.append(replica.status("/cgi-bin/work"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    replica.container.stop(timeout=10)
    for thread in threads:
        thread.join()
    replica.container.reload()
    assert replica.container.attrs["State"]["ExitCode"] == 0
    assert answers == [200] * 4


def test_a_replica_ends_when_a_part_of_it_dies(start: Start, web1: Image) -> None:
    for pattern in ("never", "socket"):
        replica = start(web1)
        replica.wait()
        # The worker has the pipe `never` open, the server a socket.
        replica.run(f"for p in /proc/[0-9]*; do ls -l $p/fd | grep -q {pattern} && kill -9 ${{p##*/}}; done")
        assert replica.container.wait(timeout=10)["StatusCode"] == 1


def test_it_restarts(start: Start, web1: Image) -> None:
    replica = start(web1)
    replica.wait()
    replica.container.restart(timeout=5)
    again = Replica(replica.container)
    again.wait()
    assert again.status("/cgi-bin/work") == 200

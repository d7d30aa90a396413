"""A real sender process against real servers on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from itertools import cycle

import psutil
import pytest

from dockerlab.errors import BadInputError, RouterError, TrafficError
from dockerlab.traffic.load import Traffic

HEAD = b"HTTP/1.1 200 OK\r\nX-Version: 7\r\nX-Replica: web-1\r\nContent-Length: 2\r\nConnection: close\r\n\r\n"


class Server:
    """A tiny HTTP server in a thread; ``answer`` is a coroutine over reader and writer."""

    def __init__(self, answer):
        self.connections = 0
        self.answer = answer
        self.ready = threading.Event()
        self.thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    async def _serve(self):
        self.loop, self.end = asyncio.get_running_loop(), asyncio.Event()
        self.handlers = set()
        server = await asyncio.start_server(self._one, "127.0.0.1", 0, backlog=1024)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self.ready.set()
        await self.end.wait()
        server.close()
        for handler in self.handlers:
            handler.cancel()
        await asyncio.gather(*self.handlers, return_exceptions=True)
        await asyncio.sleep(0.01)  # the loop takes the connections down before it is closed itself

    async def _one(self, reader, writer):
        self.connections += 1
        handler = asyncio.current_task()
        self.handlers.add(handler)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):  # the sender has gone
                self.head = await reader.readuntil(b"\r\n\r\n")
                await self.answer(reader, writer)
                await writer.drain()
        finally:
            self.handlers.discard(handler)
            writer.close()

    def __enter__(self):
        self.thread.start()
        assert self.ready.wait(10)
        return self

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self.end.set)
        self.thread.join(10)


async def well(reader, writer):
    writer.write(HEAD + b"ok")


def abort(writer):
    """Send a RST: what a client sees when a server is killed."""
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


def wait_for(condition, timeout_s=20):
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.01)


def senders():
    return [child for child in psutil.Process().children() if "dockerlab.traffic.sender" in " ".join(child.cmdline())]


@pytest.fixture(autouse=True)
def _nothing_left_behind():
    yield
    assert not senders()


def test_answers_are_counted_with_version_and_replica(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    before_s = time.time()
    with Server(well) as server:
        results = Traffic(server.url, rate=100, path="/cgi-bin/work", duration_s=1).start().wait()
        assert server.head.startswith(b"GET /cgi-bin/work HTTP/1.1\r\n")
    assert len(results) == server.connections == 100
    assert set(results.version) == {"7"}
    assert set(results.replica) == {"web-1"}
    assert results.summary().sent_share == 1
    assert results.summary().lost == 0
    assert before_s <= results.scheduled_s[0] <= time.time()
    gaps = [late - early for early, late in zip(results.scheduled_s, results.scheduled_s[1:], strict=False)]
    assert gaps == pytest.approx([0.01] * 99, abs=1e-5)


def test_a_stall_shows_in_all_requests_that_were_due_in_it():
    stall = {}

    async def stall_once(reader, writer):
        if "from" not in stall and server.connections > 30:
            stall["from"] = time.time()
            time.sleep(1.0)  # blocks the whole server, as a long garbage collection would
            stall["to"] = time.time()
        await well(reader, writer)

    with Server(stall_once) as server:
        results = Traffic(server.url, rate=100, duration_s=2).start().wait()
    assert results.summary().lost == 0
    assert len(results) == 200
    during = [
        (due, latency)
        for due, latency in zip(results.scheduled_s, results.latency_s, strict=True)
        if stall["from"] + 0.05 < due < stall["to"]
    ]
    assert len(during) > 80  # a closed loop would have sent one
    for due, latency in during:
        assert latency >= stall["to"] - due - 0.02
    assert results.summary().max_s >= 0.95


def test_reset_connections_are_lost_and_not_tried_again():
    async def reset(reader, writer):
        abort(writer)

    with Server(reset) as server:
        results = Traffic(server.url, rate=100, duration_s=0.5).start().wait()
        assert server.connections == 50
    assert results.summary().lost_by_kind == {"reset": 50}


FAILURES = {
    b"HTTP/1.1 503 No\r\nX-Version: 7\r\nContent-Length: 0\r\n\r\n": "http_5xx",
    b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n": "http_4xx",
    b"HTTP/1.1 302 No\r\nLocation: http://192.0.2.1/\r\nContent-Length: 0\r\n\r\n": "http_3xx",
    b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort": "incomplete",
    b"no http at all\r\n\r\n": "invalid",
    b"": "reset",
}


def test_each_way_to_fail_has_its_name():
    replies = cycle(FAILURES)

    async def answer(reader, writer):
        writer.write(next(replies))

    with Server(answer) as server:
        results = Traffic(server.url, rate=100, duration_s=0.6).start().wait()
        assert server.connections == 60
    assert results.summary().lost_by_kind == dict.fromkeys(FAILURES.values(), 10)
    assert results.summary().sent == 60
    assert results.by_version()["7"].lost == 10


def test_no_answer_within_the_limit_is_lost():
    async def late(reader, writer):
        await reader.read()  # until the client gives up

    with Server(late) as server:
        results = Traffic(server.url, rate=50, duration_s=0.2, timeout_s=0.3).start().wait()
    assert results.summary().lost_by_kind == {"timeout": 10}
    assert all(latency >= 0.29 for latency in results.latency_s)


def test_leaving_the_block_waits_for_requests_under_way():
    async def slow(reader, writer):
        await asyncio.sleep(0.5)
        await well(reader, writer)

    with Server(slow) as server:
        with Traffic(server.url, rate=100) as traffic:
            wait_for(lambda: server.connections >= 20)
        assert not traffic.running
        results = traffic.results
    assert len(results) == server.connections
    assert results.summary().lost == 0


def test_results_can_be_read_while_the_load_runs():
    with Server(well) as server, Traffic(server.url, rate=200) as traffic:
        wait_for(lambda: len(traffic.results) >= 20)
        assert traffic.running
        first = len(traffic.results)
        wait_for(lambda: len(traffic.results) > first)


def test_rates_that_change():
    with Server(well) as server:
        results = Traffic(server.url, rate=[(50, 0.4), (200, 0.4)]).start().wait()
    start = results.scheduled_s[0]
    assert results.summary(until_s=start + 0.399).scheduled == 20
    assert results.summary(since_s=start + 0.399).scheduled == 80


def test_the_routers_retries_are_read_before_and_after():
    counts = iter([5, 8])
    with Server(well) as server:
        results = Traffic(server.url, rate=50, duration_s=0.1, counters=lambda: next(counts)).start().wait()
    assert results.summary().router_retries == 3


def test_a_router_that_was_started_anew_has_no_number_of_retries():
    counts = iter([5, 1])
    with Server(well) as server:
        results = Traffic(server.url, rate=50, duration_s=0.1, counters=lambda: next(counts)).start().wait()
    assert results.summary().router_retries is None


def test_a_router_that_is_gone_hides_no_results():
    def counters():
        if server.connections:
            raise RouterError("gone")
        return 0

    with Server(well) as server:
        results = Traffic(server.url, rate=50, duration_s=0.1, counters=counters).start().wait()
    assert len(results) == 5
    assert results.router_retries is None


def test_an_address_where_nobody_listens_is_an_error_with_results():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # taken, but it does not listen
        traffic = Traffic(f"http://127.0.0.1:{free.getsockname()[1]}", rate=50, duration_s=0.2)
        with pytest.raises(TrafficError, match="nothing listens there"):
            traffic.start().wait()
    assert traffic.results.summary().lost_by_kind == {"refused": 10}


def test_a_sender_that_dies_is_an_error_with_the_results_so_far():
    with Server(well) as server:
        traffic = Traffic(server.url, rate=200)
        traffic.start()
        wait_for(lambda: len(traffic.results) >= 10)
        senders()[0].kill()
        with pytest.raises(TrafficError, match="died"):
            traffic.stop()
    assert len(traffic.results) >= 10


def test_an_error_of_the_block_is_not_hidden_by_the_load():
    def block(url):
        with Traffic(url, rate=50):
            senders()[0].kill()
            raise ZeroDivisionError

    with Server(well) as server, pytest.raises(ZeroDivisionError):
        block(server.url)


def test_ctrl_c_in_the_block_ends_the_load_and_keeps_the_results():
    def block(traffic):
        with traffic:
            wait_for(lambda: len(traffic.results) >= 10)
            raise KeyboardInterrupt

    with Server(well) as server:
        traffic = Traffic(server.url, rate=200)
        with pytest.raises(KeyboardInterrupt):
            block(traffic)
    assert not traffic.running
    assert traffic.results.summary().lost == 0


def test_ctrl_c_while_waiting_leaves_no_process():
    with Server(well) as server:
        traffic = Traffic(server.url, rate=200, duration_s=60).start()
        wait_for(lambda: len(traffic.results) >= 10)
        interrupt = [threading.main_thread().ident, signal.SIGINT]
        threading.Timer(0.1, signal.pthread_kill, interrupt).start()
        with pytest.raises(KeyboardInterrupt):
            traffic.wait()
    assert len(traffic.results) >= 10


def test_an_interrupt_of_the_process_group_does_not_reach_the_sender():
    with Server(well) as server, Traffic(server.url, rate=50) as traffic:
        sender = senders()[0]
        assert os.getpgid(sender.pid) != os.getpgid(0)
        sender.send_signal(signal.SIGINT)
        count = len(traffic.results)
        wait_for(lambda: len(traffic.results) > count + 10)


PARENT = """
import os, sys, time
from dockerlab.traffic.load import Traffic
traffic = Traffic(sys.argv[1], rate=50).start()
if sys.argv[2] == "fork" and os.fork() == 0:
    time.sleep(60)  # a child that holds the sender's standard input open
    os._exit(0)
print(traffic._process.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("how", ["plain", "fork"])
def test_the_sender_ends_with_its_parent(how):
    with Server(well) as server:
        parent = subprocess.Popen(
            [sys.executable, "-c", PARENT, server.url, how], stdout=subprocess.PIPE, start_new_session=True
        )
        try:
            sender = psutil.Process(int(parent.stdout.readline()))
            parent.kill()
            parent.wait()
            with contextlib.suppress(psutil.NoSuchProcess):
                sender.wait(10)
            assert not psutil.pid_exists(sender.pid)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(parent.pid, signal.SIGKILL)
            parent.wait()
            parent.stdout.close()


def test_a_learners_own_files_do_not_break_the_sender(tmp_path, monkeypatch):
    (tmp_path / "json.py").write_text("raise RuntimeError('not the real one')")
    monkeypatch.chdir(tmp_path)
    with Server(well) as server:
        assert len(Traffic(server.url, rate=50, duration_s=0.1).start().wait()) == 5


def test_500_requests_a_second_are_sent_on_time():
    with Server(well) as server:
        results = Traffic(server.url, rate=500, duration_s=2).start().wait()
    assert results.summary().scheduled == 1000
    assert results.summary().sent_share >= 0.99
    late = sorted(sent - due for sent, due in zip(results.sent_s, results.scheduled_s, strict=True))
    assert late[len(late) // 2] < 0.1  # it may be late for a moment on a busy machine, but never falls behind


@pytest.mark.parametrize(
    "url",
    [
        "http://192.0.2.1",
        "http://example.org:80",
        "http://0.0.0.0:80",
        "https://127.0.0.1",
        "127.0.0.1:80",
        "http://",
        "",
    ],
)
def test_only_this_machine_is_loaded(url):
    with pytest.raises(BadInputError, match="Give the url of one of your fleets"):
        Traffic(url, rate=1)


@pytest.mark.parametrize("url", ["http://127.0.0.1:99999", "http://127.0.0.1:x", "http://[::1"])
def test_an_address_that_does_not_parse_is_refused(url):
    with pytest.raises(BadInputError):
        Traffic(url, rate=1)


@pytest.mark.parametrize("url", ["http://localhost:8080", "http://127.0.0.2", "http://[::1]:80/"])
def test_loopback_addresses_are_accepted(url):
    assert not Traffic(url, rate=1).running


def test_wrong_use_is_refused():
    url = "http://127.0.0.1:8080"
    with pytest.raises(BadInputError, match="rate"):
        Traffic(url, rate=2001)
    with pytest.raises(BadInputError, match="limit"):
        Traffic(url, rate=1, timeout_s=0)
    with pytest.raises(BadInputError, match="durations of their own"):
        Traffic(url, rate=[(1, 1)], duration_s=1)
    with Server(well) as server, Traffic(server.url, rate=1) as traffic:
        with pytest.raises(BadInputError, match="running already"):
            traffic.start()
        with pytest.raises(BadInputError, match="no end"):
            traffic.wait()


def test_a_rate_in_quotes_is_refused() -> None:
    with pytest.raises(BadInputError, match="without quotes"):
        Traffic("http://127.0.0.1:9", rate="10")  # type: ignore[arg-type]

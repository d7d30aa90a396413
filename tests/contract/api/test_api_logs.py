"""What a container prints, and talking to it while it runs."""

from __future__ import annotations

import re
import socket
import threading
import time
from datetime import datetime, timezone
from typing import Any

import docker.errors
import pytest
from bench import Bench, Raw, end_of, rest_of
from support import until

STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z "


@pytest.fixture(scope="module")
def printed(shared: Bench) -> Any:
    """Give a container that has printed and ended."""
    script = "for i in 1 2 3; do echo out$i; usleep 30000; echo err$i >&2; usleep 30000; done; printf 'no end'"
    made = shared.start(["sh", "-c", script])
    made.wait()
    return made


def test_both_streams_in_order(printed: Any) -> None:
    assert printed.logs().decode() == "out1\nerr1\nout2\nerr2\nout3\nerr3\nno end"


def test_one_stream(printed: Any) -> None:
    assert printed.logs(stderr=False) == b"out1\nout2\nout3\nno end"
    assert printed.logs(stdout=False) == b"err1\nerr2\nerr3\n"


def test_apart(printed: Any, raw: Raw) -> None:
    body = raw("GET", f"/containers/{printed.id}/logs?stdout=1&stderr=1").body
    frames = []
    while body:
        kind, length = body[0], int.from_bytes(body[4:8], "big")
        assert body[1:4] == b"\0\0\0"
        frames.append((kind, body[8 : 8 + length]))
        body = body[8 + length :]
    assert b"".join(data for kind, data in frames if kind == 1) == b"out1\nout2\nout3\nno end"
    assert b"".join(data for kind, data in frames if kind == 2) == b"err1\nerr2\nerr3\n"


@pytest.mark.parametrize(("tail", "lines"), [(0, 0), (1, 1), (3, 3), (100, 7), ("all", 7)])
def test_the_end(printed: Any, tail: int | str, lines: int) -> None:
    assert printed.logs(tail=tail) == b"".join(printed.logs().splitlines(keepends=True)[7 - lines :])


def test_with_times(printed: Any) -> None:
    lines = printed.logs(timestamps=True).decode().splitlines()
    assert len(lines) == 7
    assert all(re.match(STAMP, line) for line in lines)
    assert sorted(lines) == lines
    told = datetime.fromisoformat(lines[0][:19]).replace(tzinfo=timezone.utc)
    assert abs(told.timestamp() - time.time()) < 120


def test_since_and_until(printed: Any) -> None:
    def moment(line: bytes) -> str:
        return line.split(b" ")[0].decode()

    def seconds(line: bytes) -> str:
        stamp = moment(line)
        whole = int(datetime.fromisoformat(stamp[:19]).replace(tzinfo=timezone.utc).timestamp())
        return f"{whole}.{stamp[20:-1]:0<9}"

    lines = printed.logs(timestamps=True).splitlines()
    assert printed.logs(since=float(seconds(lines[3])) - 0.005).startswith(b"err2\n")
    assert printed.logs(until=float(seconds(lines[2])) + 0.005).endswith(b"out2\n")
    assert printed.logs(since=int(time.time()) + 100) == b""


def test_logs_of_one_that_was_never_started(bench: Bench) -> None:
    assert bench.create(["true"]).logs() == b""


def test_following_until_it_ends(bench: Bench) -> None:
    made = bench.start(["sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.1; done"])
    assert b"".join(made.logs(stream=True, follow=True)) == b"1\n2\n3\n"
    again = bench.start(["sh", "-c", "echo early; sleep 0.3; echo late"])
    until(lambda: b"early" in again.logs())
    assert b"".join(again.logs(stream=True, follow=True, tail=0)) == b"late\n"


def test_following_comes_at_once(bench: Bench) -> None:
    made = bench.start(["sh", "-c", "echo now; sleep 300"])
    begun = time.monotonic()
    stream = made.logs(stream=True, follow=True)
    assert next(stream) == b"now\n"
    assert time.monotonic() - begun < 2
    stream.close()


def test_following_ends_when_it_is_removed(bench: Bench) -> None:
    made = bench.start(["sh", "-c", "echo now; sleep 300"])
    threading.Timer(0.3, lambda: made.remove(force=True)).start()
    assert b"".join(made.logs(stream=True, follow=True)) == b"now\n"


def test_a_terminal(bench: Bench) -> None:
    made = bench.start(["sh", "-c", "tty; test -t 0 && test -t 1 && echo yes; echo err >&2; stty size"], tty=True)
    made.wait()
    lines = made.logs().decode()
    assert "yes\r\nerr\r\n" in lines
    assert lines.startswith("/dev/")


def test_bytes_stay_as_they_are(bench: Bench) -> None:
    made = bench.create(["sh", "-c", r"printf '\377\0\001\n\r\033[1m'"])
    stream = bench.api.attach(made.id, stream=True)
    made.start()
    assert b"".join(stream) == b"\xff\0\x01\n\r\033[1m"
    made.wait()
    # Docker Engine keeps its log as JSON, which has no place for bytes that are no text.
    assert made.logs() in (b"\xff\0\x01\n\r\033[1m", b"\xef\xbf\xbd\0\x01\n\r\033[1m")


def test_a_long_line(bench: Bench) -> None:
    made = bench.start(["sh", "-c", "head -c 100000 /dev/zero | tr '\\0' x; echo"])
    made.wait()
    assert made.logs() == b"x" * 100_000 + b"\n"


def test_ten_megabytes_quickly(bench: Bench) -> None:
    made = bench.start(
        ["sh", "-c", "yes $(head -c 999 /dev/zero | tr '\\0' x) | head -c 10000000; echo; echo done >&2"]
    )
    assert made.wait(timeout=60)["StatusCode"] == 0
    assert made.logs(stdout=False) == b"done\n"
    assert len(made.logs(stderr=False)) == 10_000_001


def test_attaching_to_a_running_one(bench: Bench) -> None:
    made = bench.start(["sh", "-c", "echo early; sleep 0.5; echo late; usleep 50000; echo err >&2"])
    until(lambda: b"early" in made.logs())
    assert b"".join(made.attach(stream=True)) == b"late\nerr\n"


def test_attaching_to_what_was_printed(bench: Bench) -> None:
    made = bench.start(["sh", "-c", "echo early; usleep 50000; echo err >&2; sleep 300"])
    until(lambda: b"err" in made.logs())

    def printed() -> bytes:
        return bytes(made.attach(logs=True, stdout=True, stderr=True))

    if bench.engine.kind == "docker":
        # 20.10 gives a part of it or nothing in every second call, on a busy machine: it stops before it has read.
        until(lambda: printed() == b"early\nerr\n")
    else:
        assert printed() == b"early\nerr\n"


def test_attaching_apart(bench: Bench) -> None:
    made = bench.create(["sh", "-c", "echo out; echo err >&2"])
    stream = bench.api.attach(made.id, stream=True, demux=True)
    made.start()
    parts = list(stream)
    assert b"".join(out for out, _ in parts if out) == b"out\n"
    assert b"".join(err for _, err in parts if err) == b"err\n"


def _parts(data: bytes) -> bytes:
    """Take the frames of a stream away."""
    content = b""
    while data:
        length = int.from_bytes(data[4:8], "big")
        content += data[8 : 8 + length]
        data = data[8 + length :]
    return content


def test_standard_input(bench: Bench) -> None:
    script = "while read line; do echo got $line; done; echo end"
    made = bench.api.create_container(bench.base, ["sh", "-c", script], stdin_open=True, labels=bench.labels)
    with end_of(bench.api.attach_socket(made, {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})) as end:
        bench.api.start(made)
        end.sendall(b"one\ntwo\n")
        end.shutdown(socket.SHUT_WR)
        assert _parts(rest_of(end)) == b"got one\ngot two\nend\n"
    bench.api.wait(made, timeout=10)
    assert bench.api.logs(made) == b"got one\ngot two\nend\n"


def test_standard_input_is_closed_when_it_was_not_asked_for(bench: Bench) -> None:
    assert bench.finish(["sh", "-c", "read line; echo $?"])[1] == "1\n"


def test_the_size_of_a_terminal(bench: Bench) -> None:
    made = bench.start(["sh", "-c", "trap 'stty size' WINCH; echo up; while :; do usleep 20000; done"], tty=True)
    until(lambda: b"up" in made.logs())
    made.resize(33, 77)
    until(lambda: b"33 77" in made.exec_run("true")[1] + made.logs() or made.resize(33, 77))


def test_attaching_to_what_is_not_there(bench: Bench) -> None:
    with pytest.raises(docker.errors.NotFound):
        bench.api.attach("no-such-container", stream=True)

"""The log file of a container: lines, pieces, the last ones, bytes that are no text."""

import asyncio
import itertools

from dockerlab.engine.containers.logs import Choice, Log


def _read(log, choice):
    async def collect():
        return [line async for lines in log.read(choice) for line in lines]

    return asyncio.run(collect())


def test_what_was_written_comes_back_with_its_stream_and_bytes(tmp_path):
    log = Log(tmp_path / "log", itertools.count(10**9, 10**9).__next__)
    log.write("stdout", b"one\ntw")
    log.write("stderr", b"\xff\x00bad\n")
    log.write("stdout", b"o\nrest")
    log.finish()
    lines = _read(log, Choice())
    assert [(line.stream, line.content) for line in lines] == [
        ("stdout", b"one\n"),
        ("stderr", b"\xff\x00bad\n"),
        ("stdout", b"two\n"),
        ("stdout", b"rest"),
    ]
    assert [line.content for line in _read(log, Choice(stdout=False))] == [b"\xff\x00bad\n"]
    assert [line.content for line in _read(log, Choice(since_ns=3 * 10**9))] == [b"two\n", b"rest"]


def test_the_last_lines_are_found_in_a_long_log(tmp_path):
    log = Log(tmp_path / "log")
    for start in range(0, 60_000, 1000):
        log.write("stdout", b"".join(b"%d\n" % number for number in range(start, start + 1000)))
    log.finish()
    for tail in (0, 1, 7, 999, 1000, 1001, 25_000, 70_000):
        wanted = [b"%d\n" % number for number in range(max(0, 60_000 - tail), 60_000)]
        assert [line.content for line in _read(log, Choice(tail=tail))] == wanted


def test_a_full_log_loses_its_first_lines_and_says_so(tmp_path):
    log = Log(tmp_path / "log.jsonl", limit_bytes=4000)
    written = [b"line %d\n" % number for number in range(400)]
    for line in written[:50]:
        log.write("stdout", line)
    assert [line.content for line in _read(log, Choice())] == written[:50]
    for line in written[50:]:
        log.write("stdout", line)
    log.finish()
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 2 * 4000
    for opened in (log, Log(tmp_path / "log.jsonl", limit_bytes=4000)):
        first, *kept = [line.content for line in _read(opened, Choice())]
        assert b"is gone" in first
        assert 50 < len(kept) < 200
        assert kept == written[-len(kept) :]
        assert [line.content for line in _read(opened, Choice(tail=90))] == written[-90:]
        assert _read(opened, Choice(tail=0)) == []


def test_who_follows_a_log_misses_nothing_when_it_is_exchanged(tmp_path):
    log = Log(tmp_path / "log.jsonl", limit_bytes=4000)
    written = [b"line %d\n" % number for number in range(400)]

    async def follow():
        seen = []
        open_ = [True]

        async def write():
            for number, line in enumerate(written):
                log.write("stdout", line)
                if number % 20 == 0:
                    await asyncio.sleep(0.01)
            open_[0] = False
            log.finish()

        task = asyncio.ensure_future(write())
        async for lines in log.read(Choice(), follow=lambda: open_[0]):
            seen += [line.content for line in lines]
        await task
        return seen

    assert asyncio.run(follow()) == written

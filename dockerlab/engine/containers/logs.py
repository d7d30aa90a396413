"""What a container printed, kept as JSON lines with stream and time, as Docker's json-file does."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from dockerlab.engine.containers.clock import written
from dockerlab.engine.containers.logfile import FILE_BYTES, LogFile
from dockerlab.engine.refusals import RefusalError

_LINE_BYTES = 16384  # longer ones are kept in pieces, as Docker does
_NOTICE = b"[dockerlab: what came before is gone, as the log was full]\n"


@dataclass(frozen=True)
class Choice:
    """Which lines are wanted: of which streams, from when until when, how many of the last (-1: all), with times."""

    stdout: bool = True
    stderr: bool = True
    since_ns: int = 0
    until_ns: int = 0
    tail: int = -1
    timestamps: bool = False


@dataclass(frozen=True)
class Line:
    """One line, or a piece of a long one."""

    stream: str
    time_ns: int
    content: bytes


class Log:
    """The log of one container. Belongs to the event loop; what blocks says so.

    Parameters
    ----------
    path : Path
    clock_ns : callable
    limit_bytes : int
        For each of the two files.
    """

    def __init__(self, path: Path, clock_ns: Callable[[], int] = time.time_ns, limit_bytes: int = FILE_BYTES) -> None:
        self._clock_ns = clock_ns
        self.path = path
        self._file = LogFile(path, limit_bytes)
        self._partial: dict[str, bytearray] = {}
        self._waiting: list[asyncio.Future[None]] = []
        self._failed = False

    def write(self, stream: str, content: bytes) -> None:
        """Keep what was printed, whole lines; what has no newline yet waits for it, or for the end."""
        held = self._partial.setdefault(stream, bytearray())
        held += content
        # All lines of one reading become one row with one time: a flood must not cost a row for each of its lines
        end = held.rfind(b"\n") + 1 or (len(held) if len(held) >= _LINE_BYTES else 0)
        if end:
            row = self._row(stream, bytes(held[:end]))
            del held[:end]
            self._append(row)

    def finish(self) -> None:
        """Write what was not ended by a newline, and close the file."""
        rows = [self._row(stream, bytes(held)) for stream, held in self._partial.items() if held]
        self._partial.clear()
        if rows:
            self._append(b"".join(rows))
        self._file.close()
        self.wake()

    def wake(self) -> None:
        """Tell those who follow to look again."""
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def read(self, choice: Choice, *, follow: Callable[[], bool] | None = None) -> AsyncIterator[list[Line]]:
        """Give the lines in pieces.

        Parameters
        ----------
        choice : Choice
        follow : callable, optional
            Tells whether more may come; without it, reading ends with what is there.
        """
        offset, skipped = await asyncio.to_thread(self._start, choice)
        while True:
            more = follow() if follow else False
            grown: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(grown)
            while True:
                lines, after = await asyncio.to_thread(self._read, offset)
                if after == offset:
                    break
                offset = after
                past = any(choice.until_ns and line.time_ns > choice.until_ns for line in lines)
                wanted = [line for line in lines if _is_wanted(line, choice)]
                wanted, skipped = wanted[skipped:], max(0, skipped - len(wanted))
                if wanted:
                    yield wanted
                if past:
                    return
            if not more:
                return
            left_s = (choice.until_ns - self._clock_ns()) / 1e9 if choice.until_ns else None
            if left_s is not None and left_s <= 0:
                return
            await asyncio.wait([grown], timeout=left_s)

    def _start(self, choice: Choice) -> tuple[int, int]:
        """Find the row where the last lines begin, and how many of its wanted lines come before. Blocks."""
        if choice.tail == 0:
            return self._file.end(), 0
        counted = 0
        for place, row in self._file.backwards() if choice.tail > 0 else ():
            counted += sum(_is_wanted(line, choice) for line in parse(row))
            if counted >= choice.tail:
                return place, counted - choice.tail
        return 0, 0

    def _read(self, place: int) -> tuple[list[Line], int]:
        """Read lines from a place on; give them and the place behind. Blocks."""
        block, after = self._file.read(place)
        lines = [line for row in block.split(b"\n") for line in parse(row)]
        if place == 0 and lines and self._file.is_cut():
            lines = [Line("stderr", lines[0].time_ns, _NOTICE), *lines]
        return lines, after

    def _row(self, stream: str, content: bytes) -> bytes:
        text = content.decode("utf-8", "surrogateescape")  # bytes that are no UTF-8 come back as they were
        row = {"log": text, "stream": stream, "time": self._clock_ns()}
        return json.dumps(row, separators=(",", ":")).encode() + b"\n"

    def _append(self, rows: bytes) -> None:
        try:
            self._file.append(rows)
        except OSError as error:  # no room: the container goes on, its output is lost
            if not self._failed:
                self._failed = True
                raise RefusalError(500, f"write the log: {(error.strerror or '').lower()}") from error
        self.wake()


def _is_wanted(line: Line, choice: Choice) -> bool:
    if not (choice.stdout if line.stream == "stdout" else choice.stderr):
        return False
    return line.time_ns >= choice.since_ns and not (choice.until_ns and line.time_ns > choice.until_ns)


def parse(row: bytes) -> list[Line]:
    """Read one row of the file, which may hold many lines; none where it is damaged, as after a crash."""
    try:
        found = json.loads(row)
        content: bytes = found["log"].encode("utf-8", "surrogateescape")
        stream, time_ns = found["stream"], int(found["time"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return []
    pieces = content.split(b"\n")
    lines = [Line(stream, time_ns, piece + b"\n") for piece in pieces[:-1]]
    return [*lines, Line(stream, time_ns, pieces[-1])] if pieces[-1] else lines


def shown(line: Line, choice: Choice) -> bytes:
    """Give what a client gets of a line."""
    return f"{written(line.time_ns)} ".encode() + line.content if choice.timestamps else line.content

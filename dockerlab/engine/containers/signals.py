"""Signals: by name or number, and to everything in a container."""

from __future__ import annotations

import contextlib
import os
import signal

from dockerlab.engine.isolate.processes import tracer
from dockerlab.engine.isolate.spec import Process
from dockerlab.engine.refusals import bad

_NAMES = {name[3:]: int(value) for name, value in signal.__dict__.items() if name[:3] == "SIG" and name[3:4] != "_"}


def number_of(name: str) -> int:
    """Give the number of a signal such as ``"TERM"``, ``"SIGTERM"`` or ``"15"``; 400 where there is none.

    Examples
    --------
    >>> number_of("sigterm"), number_of("9"), number_of("RTMIN+3")
    (15, 9, 37)
    """
    word = name.strip().upper().removeprefix("SIG")
    if word.isascii() and word.isdigit():
        if 1 <= int(word) <= 64:
            return int(word)
    elif word in _NAMES:
        return _NAMES[word]
    else:
        base, sign, offset = word.partition("+") if "+" in word else word.partition("-")
        if base in ("RTMIN", "RTMAX") and offset.isascii() and offset.isdigit() and len(offset) < 3:
            found = _NAMES[base] + int(sign + offset)
            if _NAMES["RTMIN"] <= found <= _NAMES["RTMAX"]:
                return found
    raise bad(f"Invalid signal: {name}")


def send_all(process: Process, number: int) -> None:
    """Stop or continue everything; where PRoot traces it, PRoot too: alone, it would let a stopped program go on."""
    tracers = {tracer(pid) for pid in process.pids()} - {0}
    if number == signal.SIGSTOP:
        _send(tracers, number)
    seen: set[int] = set()
    while new := set(process.pids()) - seen:  # again for what was forked meanwhile
        _send(new, number)
        seen |= new
    if number != signal.SIGSTOP:
        _send(tracers, number)


def _send(pids: set[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)

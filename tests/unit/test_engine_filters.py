"""The seccomp programs: interpreted here as the kernel does, and one of them put on a process."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import pytest

from dockerlab.engine.isolate import filters
from dockerlab.engine.isolate.filters import ALLOW, ERRNO, USER_NOTIF

MACHINES = {name: filters.machine(name) for name in ("x86_64", "aarch64")}


def run(program, call, args=(0,) * 6, audit=None):
    """Run a program of classic BPF over struct seccomp_data."""
    data = struct.pack("<IIQ6Q", call, audit, 0, *args)
    instructions = list(struct.iter_unpack("<HBBI", program))
    position = accumulator = 0
    for _ in range(len(instructions) + 1):
        code, yes, no, value = instructions[position]
        position += 1
        if code == 0x20:
            accumulator = struct.unpack_from("<I", data, value)[0]
        elif code == 0x15:
            position += yes if accumulator == value else no
        elif code == 0x06:
            return value
        else:
            pytest.fail(f"unknown instruction {code:#x}")
    return pytest.fail("the program does not end")


@pytest.mark.parametrize("name", MACHINES)
def test_only_internet_addresses_are_handed_over(name):
    numbers = MACHINES[name]
    program = filters.mediated(numbers, network=True, names=False, signals=False)
    for call in ("bind", "connect"):
        for size in (16, 28):
            assert run(program, numbers.calls[call], (3, 0, size, 0, 0, 0), numbers.audit) == USER_NOTIF
        for size in (2, 12, 110):
            assert run(program, numbers.calls[call], (3, 0, size, 0, 0, 0), numbers.audit) == ALLOW
    assert run(program, numbers.calls["uname"], audit=numbers.audit) == ALLOW
    assert run(program, numbers.calls["bind"], (3, 0, 16, 0, 0, 0), audit=0x40000003) == ALLOW  # 32 bit


@pytest.mark.parametrize("name", MACHINES)
def test_names_are_handed_over_where_that_is_asked_for(name):
    numbers = MACHINES[name]
    program = filters.mediated(numbers, network=False, names=True, signals=False)
    assert run(program, numbers.calls["uname"], audit=numbers.audit) == USER_NOTIF
    assert run(program, numbers.calls["bind"], (3, 0, 16, 0, 0, 0), numbers.audit) == ALLOW


@pytest.mark.parametrize("name", MACHINES)
def test_what_proot_does_not_translate_does_not_exist(name):
    numbers = MACHINES[name]
    program = filters.untranslated(numbers)
    for call in ("statx", "openat2", "faccessat2", "execveat", "io_uring_setup"):
        assert run(program, numbers.calls[call], audit=numbers.audit) == ERRNO | 38
    assert run(program, numbers.calls["connect"], audit=numbers.audit) == ALLOW


@pytest.mark.parametrize("name", MACHINES)
def test_changes_of_owner_are_pretended(name):
    numbers = MACHINES[name]
    program = filters.pretended(numbers)
    for call in ("fchownat", "setuid", "setgroups"):
        assert run(program, numbers.calls[call], audit=numbers.audit) == ERRNO
    assert run(program, numbers.calls["bind"], audit=numbers.audit) == ALLOW


@pytest.mark.skipif(sys.platform != "linux", reason="seccomp is of Linux")
def test_the_kernel_takes_a_program():
    code = (
        "import os; from dockerlab.engine.isolate import filters, spawner\n"
        "spawner.no_new_privileges(); spawner.install_filter(filters.pretended(filters.machine()))\n"
        "os.chown('/', 12345, 12345); print('pretended')"
    )
    before = Path("/").stat().st_uid
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "pretended\n", done.stderr
    assert Path("/").stat().st_uid == before

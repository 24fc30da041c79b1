"""The filter, run by a small interpreter of classic BPF: what it refuses, and that its numbers are the kernel's."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest

from router.sandbox.seccomp import program, supported
from router.sandbox.syscalls import NEWEST, NUMBERS

ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
ALLOW, KILL, EPERM, ENOSYS = 0x7FFF0000, 0x80000000, 0x00050001, 0x00050026
HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}


def verdict(code: bytes, arch: int, number: int, *arguments: int) -> int:
    data = struct.pack("=IIQ6Q", number, arch, 0, *[*arguments, 0, 0, 0, 0, 0, 0][:6])
    accumulator, at = 0, 0
    while True:
        operation, when_true, when_false, value = struct.unpack_from("=HBBI", code, 8 * at)
        at += 1
        if operation == 0x06:
            return int(value)
        if operation == 0x20:
            [accumulator] = struct.unpack_from("=I", data, value)
        else:
            met = {0x15: accumulator == value, 0x25: accumulator > value, 0x45: bool(accumulator & value)}[operation]
            at += when_true if met else when_false


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_every_named_call_is_refused_and_the_ordinary_ones_are_not(machine: str) -> None:
    column, arch = ARCHITECTURES[machine]
    code = program(machine)
    special = {"ioctl": ALLOW, "prlimit64": ALLOW, "clone3": ENOSYS}
    for name, numbers in NUMBERS.items():
        if (number := numbers[column]) is not None:
            assert verdict(code, arch, number) == special.get(name, EPERM), name
    ordinary = {"x86_64": (0, 1, 3, 9, 12, 60, 202, 231, 318), "aarch64": (63, 64, 57, 222, 214, 93, 98, 94, 278)}
    assert all(verdict(code, arch, number) == ALLOW for number in ordinary[machine])
    assert len(code) // 8 < 4096  # BPF_MAXINSNS


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_other_architectures_and_unknown_calls(machine: str) -> None:
    _, arch = ARCHITECTURES[machine]
    code = program(machine)
    assert verdict(code, 0x40000003, 1) == KILL  # i386
    assert verdict(code, arch, NEWEST + 1) == ENOSYS
    if machine == "x86_64":
        assert verdict(code, arch, 0x40000000 | 1) == ENOSYS  # x32


def test_arguments_decide() -> None:
    arch = ARCHITECTURES["x86_64"][1]
    code = program("x86_64")
    assert verdict(code, arch, 16, 0, 0x5412) == verdict(code, arch, 16, 0, 0x541C) == EPERM  # TIOCSTI, TIOCLINUX
    assert verdict(code, arch, 16, 0, 0x5401) == ALLOW
    assert verdict(code, arch, 302, 0) == ALLOW and verdict(code, arch, 302, 1) == EPERM
    assert verdict(code, arch, 16, 0, (7 << 32) | 0x5412) == EPERM  # the kernel reads the low half only


def test_a_program_may_start_threads_but_no_process() -> None:
    arch = ARCHITECTURES["x86_64"][1]
    code = program("x86_64", execute=True)
    assert verdict(code, arch, 59) == verdict(code, arch, 56, 0x3D0F00) == ALLOW
    assert verdict(code, arch, 57) == verdict(code, arch, 58) == EPERM
    for flag in (0, 0x4000, 0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000):
        assert verdict(code, arch, 56, flag | 0x11) == EPERM
    assert verdict(code, arch, NUMBERS["socket"][0] or 0) == EPERM


def test_supported_architectures() -> None:
    assert supported("x86_64") and supported("aarch64") and not supported("riscv64")


@pytest.mark.parametrize("machine", HEADERS)
def test_the_numbers_are_those_of_the_kernels_headers(machine: str) -> None:
    if not HEADERS[machine].is_file():
        pytest.skip(f"{HEADERS[machine]} is not installed")
    column, _ = ARCHITECTURES[machine]
    lines = re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", HEADERS[machine].read_text())
    theirs = {name: int(number) for name, number in lines}
    for name, numbers in NUMBERS.items():
        assert numbers[column] == theirs.get(name), name

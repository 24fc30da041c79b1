"""The system-call filter, as a classic BPF program for seccomp (seccomp(2), `linux/filter.h`).

A denylist, since an interpreter's own needs differ between C libraries; calls newer than the table are refused as
unknown. What is left computes, and reads the files that Landlock or the mount namespace shows.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator

from router.sandbox.syscalls import NEWEST, NUMBERS

_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column of the table, AUDIT_ARCH
_LOAD, _JUMP_EQUAL, _JUMP_ABOVE, _JUMP_ANY, _RETURN = 0x20, 0x15, 0x25, 0x45, 0x06
_ALLOW, _KILL = 0x7FFF0000, 0x80000000
_EPERM, _ENOSYS = 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
_NUMBER, _ARCH = 0, 4  # offsets in struct seccomp_data
_X32_BIT = 0x40000000
_CLONE_THREAD = 0x00010000
_TERMINAL_INJECTION = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX
_OF_PROGRAMS = frozenset({"clone", "execve", "execveat"})
_SPECIAL = frozenset({"clone3", "ioctl", "prlimit64"})


def supported(machine: str) -> bool:
    """Whether there is a filter for this architecture, by its name in `os.uname().machine`."""
    return machine in _ARCHITECTURES


def program(machine: str, *, execute: bool = False) -> bytes:
    """The filter as an array of `struct sock_filter`, 8 bytes each.

    With `execute` the process may become another program and start threads; it still starts no process.

    Raises `KeyError` for an architecture that is not `supported`.
    """
    column, arch = _ARCHITECTURES[machine]
    return b"".join(_instructions(column, arch, execute=execute))


def _instructions(column: int, arch: int, *, execute: bool) -> Iterator[bytes]:
    yield _op(_LOAD, _ARCH)
    yield _op(_JUMP_EQUAL, arch, 1, 0)
    yield _op(_RETURN, _KILL)
    yield _op(_LOAD, _NUMBER)
    if arch == _ARCHITECTURES["x86_64"][1]:
        yield from _when(_JUMP_ANY, _X32_BIT, _ENOSYS)
    yield from _when(_JUMP_ABOVE, NEWEST, _ENOSYS)
    yield from _when(_JUMP_EQUAL, _number("clone3", column), _ENOSYS)  # the C library falls back to clone
    for name, numbers in NUMBERS.items():
        if name not in _SPECIAL and not (execute and name in _OF_PROGRAMS) and numbers[column] is not None:
            yield from _when(_JUMP_EQUAL, _number(name, column), _EPERM)
    yield from _by_argument(_number("ioctl", column), 1, [(_JUMP_EQUAL, value) for value in _TERMINAL_INJECTION])
    yield from _by_argument(_number("prlimit64", column), 0, [(_JUMP_ABOVE, 0)])  # of oneself only
    if execute:
        yield from _thread_only(_number("clone", column))
    yield _op(_RETURN, _ALLOW)


def _by_argument(number: int, argument: int, refused: list[tuple[int, int]]) -> Iterator[bytes]:
    """Refuse call `number` when the low half of its argument meets one of the comparisons."""
    checks = b"".join(b"".join(_when(code, value, _EPERM)) for code, value in refused)
    body = _op(_LOAD, 16 + 8 * argument) + checks + _op(_RETURN, _ALLOW)
    yield _op(_JUMP_EQUAL, number, 0, len(body) // 8)
    yield body


def _thread_only(number: int) -> Iterator[bytes]:
    """Allow clone for a thread of this process, which dies with it, and for nothing else."""
    yield _op(_JUMP_EQUAL, number, 0, 4)
    yield _op(_LOAD, 16)
    yield _op(_JUMP_ANY, _CLONE_THREAD, 1, 0)
    yield _op(_RETURN, _EPERM)
    yield _op(_RETURN, _ALLOW)


def _when(code: int, value: int, verdict: int) -> Iterator[bytes]:
    yield _op(code, value, 0, 1)
    yield _op(_RETURN, verdict)


def _op(code: int, value: int, when_true: int = 0, when_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, when_true, when_false, value)


def _number(name: str, column: int) -> int:
    number = NUMBERS[name][column]
    assert number is not None
    return number

"""The last step before untrusted code: limits, Landlock, then the system-call filter. Nothing undoes them."""

from __future__ import annotations

import base64
import ctypes
import os
import resource
import signal
import struct
from typing import Any

SYSTEM_LIBRARIES = ("/usr/lib", "/usr/lib64", "/lib", "/lib64", "/etc/ld.so.cache", "/usr/share/zoneinfo")
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
_SECCOMP_MODE_FILTER = 2
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same numbers on every architecture
_RULE_PATH_BENEATH = 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_FILE_RIGHTS = {1: 0x1FFF, 2: 0x3FFF, 3: 0x7FFF, 4: 0x7FFF, 5: 0xFFFF}  # all rights of an ABI: REFER, TRUNCATE, IOCTL
_TCP = 3  # bind and connect, from ABI 4
_SCOPES = 3  # abstract sockets and signals, from ABI 6


class _Filter(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("program", ctypes.c_void_p)]


def landlock_abi() -> int:
    """The kernel's Landlock ABI; 0 where there is none."""
    abi: int = ctypes.CDLL(None).syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), 1)
    return max(abi, 0)


def confine(setup: dict[str, Any]) -> None:
    """Give up everything that `setup` does not grant. Raises `OSError` when the kernel refuses a step.

    `limits`: name of a resource -> value; `readable` and `executable`: paths; `landlock`: whether it must be there;
    `filter`: the BPF program, base64; `parent`: process id whose death ends this process, or null.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    for name, value in setup["limits"].items():
        resource.setrlimit(getattr(resource, name), (value, value))
    _prctl(libc, _PR_SET_NO_NEW_PRIVS, 1)
    _prctl(libc, _PR_SET_DUMPABLE, 0)
    if setup["parent"] is not None:
        _prctl(libc, _PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != setup["parent"]:  # it died before we asked
            raise SystemExit(1)
    abi = landlock_abi()
    if abi:
        _landlock(libc, abi, setup["readable"], setup["executable"])
    elif setup["landlock"]:
        raise OSError("the kernel has no Landlock")
    program = base64.b64decode(setup["filter"])
    buffer = ctypes.create_string_buffer(program, len(program))
    _prctl(
        libc,
        _PR_SET_SECCOMP,
        _SECCOMP_MODE_FILTER,
        ctypes.byref(_Filter(len(program) // 8, ctypes.addressof(buffer))),
    )


def _landlock(libc: ctypes.CDLL, abi: int, readable: list[str], executable: list[str]) -> None:
    """Refuse every file but those beneath `readable`, and all of TCP, signals and abstract sockets it can."""
    attributes = struct.pack("=Q", _FILE_RIGHTS.get(abi, _FILE_RIGHTS[5]))
    attributes += struct.pack("=Q", _TCP) if abi >= 4 else b""
    attributes += struct.pack("=Q", _SCOPES) if abi >= 6 else b""
    ruleset = _checked(libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0))
    granted = [(path, _READ_FILE | _READ_DIR) for path in readable]
    granted += [(path, _READ_FILE | _READ_DIR | _EXECUTE) for path in executable]
    granted.append((os.devnull, _READ_FILE | _WRITE_FILE))
    for path, rights in granted:
        try:
            beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        fitting = rights if os.path.isdir(path) else rights & ~_READ_DIR
        rule = struct.pack("=Qi", fitting, beneath)
        _checked(libc.syscall(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, rule, 0))
        os.close(beneath)
    _checked(libc.syscall(_RESTRICT_SELF, ruleset, 0))
    os.close(ruleset)


def _prctl(libc: ctypes.CDLL, option: int, *arguments: Any) -> None:
    padded = [*arguments, 0, 0, 0, 0][:4]
    _checked(libc.prctl(option, *(ctypes.c_ulong(each) if isinstance(each, int) else each for each in padded)))


def _checked(status: int) -> int:
    if status < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return status

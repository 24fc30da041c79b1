"""The child that runs checks: `python -I -m router.verify.worker`. It trusts no text and is trusted with nothing.

It reads jobs on stdin, writes one report a check on stdout, and ends when stdin does. The parent alone holds deadlines.
"""

from __future__ import annotations

import base64
import ctypes
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from typing import BinaryIO

import msgspec

from router.enums import Outcome
from router.peak_memory import peak_rss_reader
from router.sandbox import seccomp
from router.sandbox.inside.confine import SYSTEM_LIBRARIES, confine
from router.verify.check_type import Judgement, undecided
from router.verify.protocol import HEADER, MAX_JOB_BYTES, Job, Ready, Report, Task, frame
from router.verify.pure import PURE_TYPES
from router.verify.second.registry import SECOND_TYPES

_MAX_OPEN_FILES = 32
_MAX_DETAIL_CHARS = 300
_MIB = 1024 * 1024
_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Serve jobs until stdin ends. `arguments`: the address-space limit in MiB, the parent's process id."""
    _confine(int(arguments[0]) * _MIB)
    _end_with_parent(int(arguments[1]))
    jobs, reports = _take_pipes()
    _warm_up()
    peak_rss_bytes = peak_rss_reader()
    _wall_off()
    _send(reports, Ready())
    decoder = msgspec.json.Decoder(Job)
    while (payload := _read(jobs)) is not None:
        _serve(decoder.decode(payload), reports, peak_rss_bytes)


def judge(task: Task, text: str) -> Judgement:
    """What one check says of `text`. A failure of the check's own machinery is an error, never a fail."""
    try:
        kind = PURE_TYPES.get(task.type) or SECOND_TYPES[task.type]
        return kind.run(msgspec.convert(task.params, kind.params), text)
    except MemoryError:
        return undecided("out of memory")
    except RecursionError:
        return undecided("too deeply nested")
    except Exception as error:  # noqa: BLE001  # the process boundary: whatever a library raises ends here
        return undecided(f"internal {type(error).__name__}")


def _serve(job: Job, reports: BinaryIO, peak_rss_bytes: Callable[[], int]) -> None:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(usage.ru_utime + usage.ru_stime + job.cpu_s) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.RLIM_INFINITY))
    for index, task in enumerate(job.tasks):
        started = time.perf_counter()
        found = judge(task, job.text)
        _send(
            reports,
            Report(
                number=job.number,
                index=index,
                outcome=found.outcome,
                score=found.score,
                detail=found.detail[:_MAX_DETAIL_CHARS],
                ms=(time.perf_counter() - started) * 1000,
                peak_rss_bytes=peak_rss_bytes(),
                coverage=found.coverage,
            ),
        )


def _confine(address_space_bytes: int) -> None:
    for limit, value in (
        (resource.RLIMIT_AS, address_space_bytes),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, _MAX_OPEN_FILES),
    ):
        resource.setrlimit(limit, (value, value))


def _end_with_parent(parent: int) -> None:
    """Have the kernel kill us with our parent, even in the middle of a check (Linux; elsewhere RLIMIT_CPU does)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before we asked
            sys.exit(0)


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Our two pipes, out of reach of anything that reads fd 0 or prints to fd 1."""
    jobs, reports = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)
    return os.fdopen(jobs, "rb"), os.fdopen(reports, "wb", buffering=0)


def _warm_up() -> None:
    """Import the algebra system now, not under the first check's deadline, and see that it works."""
    if judge(Task("math", {"reference": r"2\sqrt{2}"}), r"\boxed{\sqrt{8}}").outcome is not Outcome.PASS:
        raise SystemExit("the math check does not work")


def _wall_off() -> None:
    """Give up files, sockets and processes as code in a sandbox does, where the system can (docs/sandbox.md)."""
    machine = os.uname().machine
    if sys.platform != "linux" or not seccomp.supported(machine):
        return
    confine(
        {
            "limits": {},
            "parent": None,
            "landlock": False,
            "readable": [*filter(os.path.isabs, sys.path), *SYSTEM_LIBRARIES],  # some modules are imported late
            "executable": [],
            "filter": base64.b64encode(seccomp.program(machine)).decode(),
        }
    )


def _read(pipe: BinaryIO) -> bytes | None:
    header = pipe.read(HEADER.size)
    if len(header) < HEADER.size:
        return None
    (length,) = HEADER.unpack(header)
    if length > MAX_JOB_BYTES:
        return None
    payload = pipe.read(length)
    return payload if len(payload) == length else None


def _send(pipe: BinaryIO, message: msgspec.Struct) -> None:
    pending = memoryview(frame(message))
    while pending:
        written = pipe.write(pending)
        pending = pending[written or 0 :]


if __name__ == "__main__":
    main(sys.argv[1:])

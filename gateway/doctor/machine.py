"""The machine: disk, memory of open files, cores, clock."""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from gateway.doctor.finding import Finding, failed, good, warning
from router.settings import Settings

SLOW_FSYNC_MS = 100.0  # twice the log's default commit interval: groups would queue
_GIB = 1024**3
_FILES_PER_REQUEST = 2  # the client's connection and the engine's


def examine_machine(settings: Settings) -> Iterator[Finding]:
    """What the process's machine offers it."""
    yield _folder("state", settings.state.dir, settings.log.min_free_bytes)
    yield _folder("log", settings.log.dir, settings.log.min_free_bytes)
    yield _open_files(settings)
    yield _cores(settings)


def _folder(name: str, folder: Path, least_free: int) -> Finding:
    """Whether files can be written, made durable and renamed in `folder`, or in the folder it will be made in."""
    there = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
    what = f"{name} directory"
    try:
        with tempfile.TemporaryDirectory(prefix=".doctor-", dir=there) as scratch:
            fsync_ms = _write(Path(scratch))
    except OSError as error:
        return failed(what, f"{there} cannot be written ({error.strerror})", f"set [{name}] dir to a writable folder")
    free = shutil.disk_usage(there).free
    if free < 2 * least_free:
        cure = "free space, or lower [log] min_free_bytes: below it requests are refused"
        return failed(what, f"{free / _GIB:.2f} GiB free at {there}", cure)
    if fsync_ms > SLOW_FSYNC_MS:
        cure = "put it on a local disk: every group waits for it in `sync` mode, and queues in `async`"
        return warning(what, f"an fsync at {there} takes {fsync_ms:.0f} ms", cure)
    return good(what, f"{there}: {free / _GIB:.1f} GiB free, fsync {fsync_ms:.1f} ms")


def _write(scratch: Path) -> float:
    """Milliseconds of one durable write and rename."""
    started = time.perf_counter()
    written = scratch / "written"
    with written.open("wb") as file:
        file.write(bytes(4096))
        file.flush()
        os.fsync(file.fileno())
    written.rename(scratch / "renamed")
    return (time.perf_counter() - started) * 1000


def _open_files(settings: Settings) -> Finding:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    server = settings.server
    wanted = _FILES_PER_REQUEST * (server.max_inflight + server.max_queued)
    if most < wanted:
        cure = f"raise it (`LimitNOFILE={wanted}` in systemd, `ulimit -Hn`), or lower [server] max_inflight"
        return failed("open files", f"at most {most}, and {wanted} may be needed", cure)
    return good("open files", f"at most {most}, and {wanted} may be needed")


def _cores(settings: Settings) -> Finding:
    cores, workers = len(os.sched_getaffinity(0)), settings.server.workers
    if workers > cores:
        return warning("cores", f"{workers} serving processes on {cores} cores", "lower [server] workers")
    return good("cores", f"{workers} serving and {settings.verify.workers} checking processes on {cores} cores")

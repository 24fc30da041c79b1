"""A gateway with everything it needs, each part of which can be killed, stopped or starved."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from tests.bench.processes import descendants
from tests.support.engine_process import EngineProcess
from tests.support.gateway_process import GatewayProcess
from tests.support.redis_server import RedisServer

CONFIG = '[profiles.tooled]\ntools = ["calculator"]\n'
ENV = {
    "THINKTWICE_LOG__MODE": "sync",
    "THINKTWICE_LOG__SEGMENT_BYTES": "262144",
    "THINKTWICE_SERVER__DEADLINE_S": "6",
    "THINKTWICE_SERVER__DRAIN_S": "2",
    "THINKTWICE_SERVER__KEEPALIVE_S": "1",
    "THINKTWICE_VERIFY__QUEUE": "256",
}
_NOTICED_S = 1.0  # a client may learn of a broken connection this much later
_SUCCESSOR_S = 30.0
_UNLIMITED = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


class Fault(StrEnum):
    """What is done to the plant; each is undone before the next."""

    ENGINE_KILL = "engine killed"
    ENGINES_KILL = "every engine killed"
    ENGINE_STALL = "engine stalled"
    REDIS_KILL = "Redis killed"
    REDIS_STALL = "Redis stalled"
    VERIFIER_KILL = "verification workers killed"
    GATEWAY_KILL = "gateway worker killed"
    DISK_FULL = "disk refuses writes"
    DISK_STALL = "disk stalls"


@dataclass(slots=True)
class Plant:
    """Two engines, Redis, and a gateway of two workers. `breaks` are the times (monotonic, s) when one was killed."""

    gateway: GatewayProcess
    engines: tuple[EngineProcess, EngineProcess]
    redis: RedisServer
    stalled: Path  # while this file exists, no write of the gateway reaches the disk
    breaks: list[float] = field(default_factory=list)

    async def inject(self, fault: Fault, hold_s: float) -> None:
        """Do it, hold it, undo it."""
        first, second = self.engines
        match fault:
            case Fault.ENGINE_KILL | Fault.ENGINES_KILL:
                hit = self.engines if fault is Fault.ENGINES_KILL else (first,)
                for engine in hit:
                    engine.kill()
                await asyncio.sleep(hold_s)
                await asyncio.to_thread(_start, hit)
            case Fault.ENGINE_STALL:
                second.pause()
                await asyncio.sleep(hold_s)
                second.resume()
            case Fault.REDIS_KILL:
                self.redis.kill()
                await asyncio.sleep(hold_s)
                await asyncio.to_thread(self.redis.start)
            case Fault.REDIS_STALL:
                self.redis.pause()
                await asyncio.sleep(hold_s)
                self.redis.resume()
            case Fault.VERIFIER_KILL:
                for pid in self._descendants("router.verify.worker"):
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            case Fault.GATEWAY_KILL:
                await self._kill_a_worker()
            case Fault.DISK_FULL:
                self._limit_files((1, resource.RLIM_INFINITY))
                await asyncio.sleep(hold_s)
                self._limit_files(_UNLIMITED)
            case Fault.DISK_STALL:
                self.stalled.touch()
                await asyncio.sleep(hold_s)
                self.stalled.unlink()

    def listened(self, when: float) -> bool:
        """Whether no serving process was killed just then, which breaks the connections it had."""
        return not any(broke <= when <= broke + _NOTICED_S for broke in self.breaks)

    async def _kill_a_worker(self) -> None:
        """The first serving process: its connections break; the other one serves on, and it gets a successor."""
        serving = self._descendants("spawn_main")
        os.kill(min(serving), signal.SIGKILL)
        killed = time.monotonic()
        self.breaks.append(killed)
        while len(set(self._descendants("spawn_main")) - {min(serving)}) < len(serving):
            assert time.monotonic() < killed + _SUCCESSOR_S, "nobody took the place of the killed process"
            await asyncio.sleep(0.05)

    def _limit_files(self, limits: tuple[int, int]) -> None:
        """The largest file that the serving processes may write, as the kernel enforces it."""
        for pid in self._descendants("spawn_main"):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)

    def _descendants(self, words: str) -> list[int]:
        """Processes below the gateway with these words in their command line."""
        found = [pid for pid in descendants(self.gateway.pid)[1:] if words in _command(pid)]
        assert found, f"no process below the gateway runs {words}"
        return found


def _start(engines: Sequence[EngineProcess]) -> None:
    """All at once: most of their start is imports."""
    for engine in engines:
        engine.launch()
    for engine in engines:
        engine.wait()


def _command(pid: int) -> str:
    """The command line of a process, empty once it has ended."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""


def _stalling_disk(folder: Path) -> Path:
    """The library that holds up the calls that wait for the disk."""
    library = folder / "stalling_disk.so"
    source = Path(__file__).with_name("stalling_disk.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return library


@contextmanager
def plant(home: Path) -> Iterator[Plant]:
    """All of it, running; stopped on the way out, whatever became of it."""
    engines, redis = (EngineProcess(), EngineProcess()), RedisServer()
    stalled = home / "stalled"
    env = {
        **ENV,
        "THINKTWICE_REDIS__URL": redis.url,
        "LD_PRELOAD": str(_stalling_disk(home)),
        "STALLED_WHILE": str(stalled),
    }
    urls = ",".join(engine.url for engine in engines)
    try:
        redis.start()
        _start(engines)
        with GatewayProcess(home, urls, CONFIG, env, ("--workers", "2")) as gateway:
            gateway.wait_for("/readyz", 200)
            yield Plant(gateway, engines, redis, stalled)
    finally:
        for engine in engines:
            engine.kill()
        redis.stop()

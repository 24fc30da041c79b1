"""A process that logs groups as fast as it can and prints each one's id as soon as the log says that it is on disk.

In `sync` mode that is when its append returns, in `async` mode when it has left the queue.

Arguments: directory, mode, prefix of the group ids, and the largest file it may write in bytes (0: no limit).
"""

from __future__ import annotations

import asyncio
import resource
import sys
from collections import deque
from itertools import count
from pathlib import Path
from typing import Literal

from gateway.adapters.segment_log import SegmentLog
from router.settings import LogSection
from tests.support.groups import group

CLIENTS = 8


async def main(directory: str, mode: Literal["async", "sync"], prefix: str, largest: int) -> None:
    """Log until killed, or, with a limit, until it has failed, was lifted, and everything was written."""
    section = LogSection(dir=Path(directory), mode=mode, commit_ms=20, segment_bytes=32768, min_free_bytes=0)
    log = SegmentLog.open(section)
    numbers = count()
    waiting = deque[str]()  # in the order of the log's queue
    if largest:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))

    def tell() -> None:
        while len(waiting) > log.queue_length:
            print(waiting.popleft(), flush=True)

    async def client() -> None:
        for number in numbers:
            record = group(f"{prefix}-{number}", messages=({"role": "user", "content": "x" * (number % 3000)},))
            if mode == "sync":
                await log.append(record)
                print(record.group_id, flush=True)
                continue
            waiting.append(record.group_id)
            await log.append(record)
            tell()
            await asyncio.sleep(0.001)
            if largest and number >= 100:
                return

    clients = asyncio.gather(*(client() for _ in range(CLIENTS)))
    if largest:
        while log.healthy is None:
            await asyncio.sleep(0.01)
        print("failing", log.healthy, flush=True)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await clients
    await log.close()
    tell()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], "sync" if sys.argv[2] == "sync" else "async", sys.argv[3], int(sys.argv[4])))

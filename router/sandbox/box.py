"""The parent's end of one sandbox: a process that is used once and then killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from typing import Any

from router.enums import Tier
from router.errors import SandboxUnavailable
from router.sandbox.inside.serve import MAX_REPLY_BYTES
from router.sandbox.launch import ENVIRONMENT, Launcher, Program

MAX_OUTPUT_BYTES = 64 * 1024
_START_TIMEOUT_S = 20.0
_GRACE_S = 1.0  # for bubblewrap to end after its child
_HEADER_BYTES = 4


class BoxEnded(Exception):
    """What ran inside ended its process, said something that is no frame, or printed too much."""


class Box:
    """One running sandbox. Its code may do anything to the process; all that comes out is read as hostile."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin and process.stdout and process.stderr
        self._process = process
        self._stdin, self._stdout, self._stderr = process.stdin, process.stdout, process.stderr
        # pidfd of the interpreter. Killing through `Popen` could reap the process before the event loop does.
        self._inner: int | None = None
        self._output = bytearray()
        self._draining = asyncio.create_task(self._drain())

    @classmethod
    async def start(cls, launcher: Launcher, program: Program | None = None) -> Box:
        """A sandbox that has confined itself and waits, or has become `program`. Raises `SandboxUnavailable`."""
        try:
            info, info_write = os.pipe()
        except OSError as error:
            raise SandboxUnavailable(f"a sandbox cannot be started: {error}") from error
        box = None
        try:
            process = await asyncio.create_subprocess_exec(
                *launcher.command(info_write, program),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=ENVIRONMENT,  # the only one: what starts us keeps secrets in its own
                cwd="/",
                pass_fds=(info_write,) if launcher.tier is Tier.BWRAP else (),
                start_new_session=True,
            )
            box = cls(process)
            async with asyncio.timeout(_START_TIMEOUT_S):
                await box.send(launcher.setup(program))
                if (await box.receive()).get("ready") is not True:
                    raise BoxEnded
            inside = json.loads(os.read(info, 4096))["child-pid"] if launcher.tier is Tier.BWRAP else process.pid
            with contextlib.suppress(ProcessLookupError):  # a program may have ended by now: one that is missing
                box._inner = os.pidfd_open(inside)
        except (OSError, BoxEnded, TimeoutError, ValueError, KeyError) as error:
            why = ""
            if box is not None:
                await box.close()
                why = box.output.strip().rpartition("\n")[2][:200]
            raise SandboxUnavailable(f"a sandbox cannot be started: {why or error}") from error
        except BaseException:  # cancelled while it starts
            if box is not None:
                await box.close()
            raise
        finally:
            os.close(info)
            os.close(info_write)
        return box

    @property
    def pid(self) -> int:
        """Process id of what was started: the interpreter, or the outer bubblewrap."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it has not ended, as far as we know."""
        return self._process.returncode is None

    @property
    def output(self) -> str:
        """What was printed so far, both streams as they came."""
        return self._output.decode(errors="replace")

    @property
    def overflowed(self) -> bool:
        """Whether it was ended because it printed over 64 KiB."""
        return len(self._output) > MAX_OUTPUT_BYTES

    async def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        """Send a request and wait for its reply. Raises `BoxEnded`; the caller holds the deadline."""
        await self.send(message)
        return await self.receive()

    async def send(self, message: dict[str, Any]) -> None:
        """Send one frame. Raises `BoxEnded`."""
        payload = json.dumps(message).encode()
        self._stdin.write(len(payload).to_bytes(_HEADER_BYTES, "big") + payload)
        try:
            await self._stdin.drain()
        except ConnectionError as error:
            raise BoxEnded from error

    async def receive(self) -> dict[str, Any]:
        """The next frame. Raises `BoxEnded` also for one that is too long or is not a JSON object."""
        try:
            length = int.from_bytes(await self._stdout.readexactly(_HEADER_BYTES), "big")
            if length > MAX_REPLY_BYTES:
                raise BoxEnded
            message = json.loads(await self._stdout.readexactly(length))
        except (asyncio.IncompleteReadError, ConnectionError, ValueError, RecursionError) as error:
            raise BoxEnded from error
        if not isinstance(message, dict):
            raise BoxEnded
        return message

    async def communicate(self, data: bytes) -> bytes:
        """Give a program its standard input; its standard output. Raises `BoxEnded` when it fails or is too loud."""
        self._stdin.write(data)
        with contextlib.suppress(ConnectionError):  # it need not read all of it
            await self._stdin.drain()
        self._stdin.close()
        printed = b""
        while part := await self._stdout.read(MAX_REPLY_BYTES):
            printed += part
            if len(printed) > MAX_REPLY_BYTES:
                raise BoxEnded
        if await self._process.wait() != 0:
            raise BoxEnded
        return printed

    def kill(self) -> None:
        """End everything inside, now. `close` reaps."""
        with contextlib.suppress(ProcessLookupError):
            if self._inner is not None:
                signal.pidfd_send_signal(self._inner, signal.SIGKILL)
            else:
                self._process.kill()

    async def close(self) -> None:
        """Kill and reap. Only the inner process is killed: bubblewrap reaps it and ends, so that no zombie is left."""
        self.kill()
        self._stdin.close()
        try:
            async with asyncio.timeout(_GRACE_S):
                await self._process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        await self._draining
        if self._inner is not None:
            os.close(self._inner)
            self._inner = None

    async def _drain(self) -> None:
        while part := await self._stderr.read(MAX_OUTPUT_BYTES):
            self._output += part
            if self.overflowed:
                del self._output[MAX_OUTPUT_BYTES + 1 :]
                self.kill()

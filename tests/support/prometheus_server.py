"""A real Prometheus on a loopback port, from the folder that `deploy/debian-prometheus` fills."""

from __future__ import annotations

import itertools
import json
import math
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from gateway.local.children import free_port
from tests.support.engines import cache_folder

_FILL = Path(__file__).parents[2] / "deploy" / "debian-prometheus"
_UNAVAILABLE = 3  # its exit code where Prometheus cannot be had
START_S, STOP_S = 20.0, 10.0


def prometheus_folder() -> Path:
    """Where `prometheus` and `promtool` are. Skips the test, with the reason, where they cannot be had."""
    folder = cache_folder() / "debian-prometheus"
    filled = subprocess.run([str(_FILL), str(folder)], capture_output=True, text=True, timeout=240, check=False)
    if filled.returncode == _UNAVAILABLE:
        pytest.skip(filled.stderr.strip().splitlines()[-1])
    assert filled.returncode == 0, filled.stderr
    return folder


@dataclass(frozen=True, slots=True)
class Series:
    """One series of an answer: its labels, its values, oldest first, and their Unix times in seconds."""

    labels: Mapping[str, str]
    values: tuple[float, ...]
    times: tuple[float, ...] = ()

    @property
    def finite(self) -> tuple[float, ...]:
        """The values that are numbers."""
        return tuple(value for value in self.values if math.isfinite(value))


@dataclass(slots=True)
class PrometheusServer:
    """Use as a context manager: ready on entry, ended on exit. `flags` are those of its command line."""

    folder: Path
    home: Path
    config: str
    flags: Sequence[str] = ()
    port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> PrometheusServer:
        file = self.home / "prometheus.yml"
        file.write_text(self.config)
        own = {"config.file": file, "storage.tsdb.path": self.home, "web.listen-address": f"127.0.0.1:{self.port}"}
        command = [str(self.folder / "prometheus"), *self.flags, *(f"--{name}={value}" for name, value in own.items())]
        with (self.home / "prometheus.log").open("wb") as log:
            self._process = subprocess.Popen(command, cwd=self.home, stdout=log, stderr=log)
        self._wait_until_ready()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(STOP_S)

    def instant(self, expr: str) -> list[Series]:
        """The series of an expression now. Fails when Prometheus refuses it."""
        return self._ask("query", {"query": expr})

    def over(self, expr: str, seconds: float) -> list[Series]:
        """The series of an expression over the last `seconds`, a value a second."""
        now = time.time()
        return self._ask("query_range", {"query": expr, "start": now - seconds, "end": now, "step": 1})

    def value(self, expr: str) -> float:
        """The value of an expression of one series; NaN while there is none."""
        series = self.instant(expr)
        assert len(series) < 2, f"{expr} gives {len(series)} series"
        return series[0].values[0] if series else math.nan

    def wait_for(self, expr: str, value: float, timeout_s: float = 30.0) -> None:
        """Poll an expression until it has a value."""
        deadline = time.monotonic() + timeout_s
        while self.value(expr) != value:
            assert time.monotonic() < deadline, f"{expr} is {self.value(expr)}, not {value}, after {timeout_s} s"
            time.sleep(0.1)

    def _ask(self, route: str, parameters: Mapping[str, Any]) -> list[Series]:
        data = urllib.parse.urlencode(parameters).encode()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/{route}", data, timeout=10) as response:
                answer = json.load(response)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters['query']}: {error.read().decode()}") from error
        if answer["resultType"] == "scalar":
            return [Series({}, (float(answer["result"][1]),))]
        return [
            Series(each["metric"], tuple(float(value) for _, value in points), tuple(at for at, _ in points))
            for each in answer["result"]
            for points in [each.get("values") or [each["value"]]]
        ]

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + START_S
        while True:
            assert self._process.poll() is None and time.monotonic() < deadline, self._printed()
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=5):
                    return
            except OSError:
                time.sleep(0.05)

    def _printed(self) -> str:
        return f"Prometheus did not start:\n{(self.home / 'prometheus.log').read_text()}"


def growing(names: Sequence[str]) -> Callable[[], bytes]:
    """A page where every named metric grows by 1 with each scrape."""
    scrapes = itertools.count(1)

    def page() -> bytes:
        value = next(scrapes)
        return "".join(f"{name} {value}\n" for name in names).encode()

    return page


class Exporter:
    """A /metrics page on a loopback port."""

    def __init__(self, page: Callable[[], bytes]) -> None:
        class Page(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(page())

            def log_message(self, format: str, *args: Any) -> None:
                """Print nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Exporter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(STOP_S)

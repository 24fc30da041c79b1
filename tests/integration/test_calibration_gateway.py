"""A calibration file that cannot be used: it is named once, the router stays as it was, and requests are answered."""

from __future__ import annotations

import json
import time
import urllib.request
from pathlib import Path
from typing import Any

from router.calibration.file import FILE_NAME, save_calibration
from tests.support.calibrations import calibration
from tests.support.gateway_process import GatewayProcess
from tests.support.mock_engine import MODEL, MockEngine


def difficulty(gateway: GatewayProcess) -> float:
    """Of one answered question."""
    body = {"model": "champion", "messages": [{"role": "user", "content": "What is 2 + 2?"}]}
    request = urllib.request.Request(
        f"{gateway.url}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=20) as response:
        answer: dict[str, Any] = json.load(response)
    return float(answer["verification"]["difficulty"])


def said(gateway: GatewayProcess, text: str, times: int) -> None:
    """Wait until the gateway has said it so often."""
    deadline = time.monotonic() + 20
    while gateway.output.count(text) < times:
        assert time.monotonic() < deadline, gateway.output
        time.sleep(0.05)


def test_bad_files_leave_the_router_as_it_was(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / FILE_NAME).write_text('{"schema_version": 99, "features_version": 1}')
    with MockEngine() as engine, GatewayProcess(tmp_path, engine.url) as gateway:
        gateway.wait_for("/readyz", 200)
        said(gateway, "has schema 99 and features 1", 1)
        by_heuristic = difficulty(gateway)
        save_calibration(state, calibration(policy=MODEL))
        said(gateway, "difficulty is calibrated", 1)
        assert difficulty(gateway) == 0.5 != by_heuristic
        save_calibration(state, calibration(policy="policy-1-12345678"))
        said(gateway, "is of the policy policy-1-12345678", 1)
        (state / FILE_NAME).write_text("{")
        said(gateway, "is not a calibration", 1)
        assert difficulty(gateway) == 0.5
        assert gateway.output.count("the calibration is refused") == 3
        assert gateway.stop() == 0 and "Traceback" not in gateway.output

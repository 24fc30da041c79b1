"""A gateway starts on what the oldest version of `tests/golden/upgrade` left, and goes on with it."""

from __future__ import annotations

import json
import shutil
import urllib.request
from pathlib import Path
from typing import Any

from router.registry import PolicyRegistry
from tests.support.gateway_process import GatewayProcess
from tests.support.mock_engine import MockEngine

OLDEST = Path(__file__).parents[1] / "golden" / "upgrade" / "1349998"


def test_the_champion_serves_on_and_the_log_grows(tmp_path: Path) -> None:
    home = shutil.copytree(OLDEST, tmp_path / "home")
    champion = PolicyRegistry(home / "state").champion().policy
    with MockEngine() as engine, GatewayProcess(home, engine.url) as gateway:
        gateway.wait_for("/readyz", 200)
        verification = ask(gateway)["verification"]
        assert verification["policy"] == champion and list(engine.adapters) == [champion]
        assert gateway.stop() == 0 and "Traceback" not in gateway.output
        assert [group.policy for group in gateway.groups()][-1] == champion
        assert len(gateway.groups()) == 5


def ask(gateway: GatewayProcess) -> dict[str, Any]:
    body = json.dumps({"model": "champion", "messages": [{"role": "user", "content": "Hello again."}]}).encode()
    request = urllib.request.Request(gateway.url + "/v1/chat/completions", body, {"Content-Type": "application/json"})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as response:
        answer: dict[str, Any] = json.load(response)
    return answer

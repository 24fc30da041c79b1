"""Checks that run code, through a real gateway with a sandbox and one without."""

from __future__ import annotations

import json
from pathlib import Path

import openai
import pytest

from router.enums import Tier
from tests.support.gateway_process import GatewayProcess, get, text_of
from tests.support.mock_engine import MockEngine, Script
from tests.support.sandboxes import launcher_or_skip

SECRET = 73519
GOOD = "```python\ndef answer(): return 73519\n```"
BAD = "```python\ndef answer(): return 42\n```"
CHECK = {"type": "python_tests", "entry": "answer", "cases": [{"expect": SECRET}]}


OUTPUTS = {"type": "python_outputs", "entry": "f", "args": ["int"]}
DOUBLES = ("def f(n): return 2 * n", "def f(n): return n", "def f(n): return n + n")


def ask(gateway: GatewayProcess, text: str, **verification: object) -> openai.types.chat.ChatCompletion:
    client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="none")
    with client:
        return client.chat.completions.create(
            model="champion",
            messages=[{"role": "user", "content": text}],
            extra_body={"verification": {"checks": [CHECK]} | verification},
        )


@pytest.mark.parametrize("tier", Tier)
def test_the_model_that_is_right_sometimes_is_verified(tier: Tier, tmp_path: Path) -> None:
    launcher_or_skip(tier)
    scripts = {"mixed": Script((BAD, BAD, GOOD)), "wrong": Script((BAD,)), "untested": Script(DOUBLES)}
    with (
        MockEngine(scripts) as engine,
        GatewayProcess(tmp_path, engine.url, env={"THINKTWICE_SANDBOX__BACKEND": tier.value}) as gateway,
    ):
        assert get(f"{gateway.url}/readyz")[1]["degraded"] == []
        answer = ask(gateway, "mixed")
        verification = (answer.model_extra or {})["verification"]
        assert answer.choices[0].message.content == GOOD
        assert (verification["status"], verification["escalated"], verification["samples"]) == ("verified", True, 3)
        assert (ask(gateway, "wrong").model_extra or {})["verification"]["status"] == "failed"
        for _ in range(2):  # never from the cache
            answer = ask(gateway, "untested", checks=[OUTPUTS], samples={"min": 5})
            agreed = (answer.model_extra or {})["verification"]
            assert (agreed["status"], agreed["samples"], agreed["cached"]) == ("consensus", 5, False)
            assert agreed["votes"] >= 3 and answer.choices[0].message.content != DOUBLES[1]
        assert all(str(SECRET) not in json.dumps(request) for request in engine.requests)
        assert gateway.stop() == 0


def test_without_a_sandbox_nothing_is_sampled(tmp_path: Path) -> None:
    with (
        MockEngine({"mixed": Script((GOOD,))}) as engine,
        GatewayProcess(tmp_path, engine.url, env={"THINKTWICE_SANDBOX__BACKEND": "off"}) as gateway,
    ):
        before = len(engine.requests)
        with pytest.raises(openai.InternalServerError) as caught:
            ask(gateway, "mixed")
        assert caught.value.status_code == 503 and caught.value.code == "verifier_unavailable"
        assert caught.value.response.headers["x-should-retry"] == "false"
        assert int(caught.value.response.headers["retry-after"]) > 0
        assert len(engine.requests) == before
        assert get(f"{gateway.url}/readyz")[1]["degraded"] == []


def test_a_backend_that_is_missing_is_no_reason_for_a_weaker_one(tmp_path: Path) -> None:
    """52: what remains of a machine without bubblewrap, when that is what was asked for."""
    nowhere = {"THINKTWICE_SANDBOX__BACKEND": "bwrap", "PATH": str(tmp_path)}
    with (
        MockEngine({"mixed": Script((GOOD,))}) as engine,
        GatewayProcess(tmp_path, engine.url, env=nowhere) as gateway,
    ):
        assert get(f"{gateway.url}/readyz") == (200, {"ready": True, "degraded": ["sandbox"], "backend": True})
        with pytest.raises(openai.InternalServerError) as caught:
            ask(gateway, "mixed")
        assert caught.value.code == "verifier_unavailable" and not engine.chats("mixed")
        assert 'thinktwice_verifier_up{part="sandbox"} 0.0' in text_of(f"{gateway.url}/metrics")

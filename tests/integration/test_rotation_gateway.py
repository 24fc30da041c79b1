"""A gateway in which the second verifier of a check decides: response, cache, log and audit tell its version."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import openai

from router.verify.second.registry import SECOND_TYPES
from tests.support.gateway_process import GatewayProcess, text_of
from tests.support.mock_engine import MockEngine, Script

CONFIG = "[verify]\nrotate = { regex = 1.0 }\naudit_share = 1.0\n"
VERSION = f"second-{SECOND_TYPES['second:regex'].version}"
AGREED = 'thinktwice_audits_total{result="agree",verifier="regex"} 1.0'


def ask(gateway: GatewayProcess, pattern: str) -> dict[str, Any]:
    check = {"type": "regex", "pattern": pattern, "match": "full"}
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="none") as client:
        answer = client.chat.completions.create(
            model="champion",
            messages=[{"role": "user", "content": "code?"}],
            extra_body={"verification": {"checks": [check], "samples": {"max": 1}}},
        )
    found: dict[str, Any] = (answer.model_extra or {})["verification"]
    return found


def test_the_second_verifier_decides_and_the_check_audits(tmp_path: Path) -> None:
    engine = MockEngine({"code?": Script(("abc123",))})
    with engine, GatewayProcess(tmp_path, engine.url, CONFIG) as gateway:
        right, again, wrong = ask(gateway, r"[a-z]+\d+"), ask(gateway, r"[a-z]+\d+"), ask(gateway, r"\d+")
        assert [each["status"] for each in (right, again, wrong)] == ["verified", "verified", "failed"]
        assert again["cached"] and {each["checks"][0]["version"] for each in (right, again, wrong)} == {VERSION}
        assert right["checks"][0]["type"] == "regex"
        assert ask(gateway, "[[:alnum:]]+")["checks"][0]["version"] == "1"  # the second verifier cannot judge these
        deadline = time.monotonic() + 10
        while AGREED not in text_of(f"{gateway.url}/metrics"):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert gateway.stop() == 0
        versions = [check.version for group in gateway.groups() for each in group.samples for check in each.checks]
        assert set(versions) == {VERSION, "1"}

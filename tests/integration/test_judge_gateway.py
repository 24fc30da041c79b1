"""The judge through a real gateway: used while it withstands its examination, and disabled when it does not."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.support.gateway_process import GatewayProcess, get, text_of
from tests.support.mock_engine import MockEngine, Script

CONFIG = '[judge]\nmodel = "grader"\n'


def ask(gateway: GatewayProcess, **fields: Any) -> dict[str, Any]:
    check = {"type": "judge", "rubric": "Says hello.", "timeout_s": 10} | fields
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0) as client:
        answer = client.chat.completions.create(
            model="champion",
            messages=[{"role": "user", "content": "hello"}],
            extra_body={"verification": {"checks": [check], "samples": {"max": 1}}},
        )
    found: dict[str, Any] = (answer.model_extra or {})["verification"]
    return found


@pytest.mark.parametrize(
    ("grade", "degraded", "passed", "outcome"), [("poor", [], 0, "fail"), ("good", ["judge"], 70, "error")]
)
def test_a_judge_that_passes_its_traps_is_not_used(
    tmp_path: Path, grade: str, degraded: list[str], passed: int, outcome: str
) -> None:
    engine = MockEngine(adapters={"grader": "/grader"}, of_model={"grader": Script((f'{{"grade": "{grade}"}}',))})
    with engine, GatewayProcess(tmp_path, engine.url, CONFIG) as gateway:
        deadline = time.monotonic() + 20
        shows = f"thinktwice_judge_traps_passed {passed}.0"
        while get(f"{gateway.url}/readyz")[1]["degraded"] != degraded or shows not in text_of(f"{gateway.url}/metrics"):
            assert time.monotonic() < deadline, gateway.output
            time.sleep(0.1)
        found = ask(gateway)
        assert (found["status"], found["checks"][0]["outcome"]) == ("unverified", outcome)
        if degraded:
            drawn = len(engine.requests)
            with pytest.raises(openai.InternalServerError) as refused:
                ask(gateway, required=True)
            assert refused.value.status_code == 503 and len(engine.requests) == drawn
        assert gateway.stop() == 0

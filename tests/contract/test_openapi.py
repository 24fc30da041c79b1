"""Schemathesis over our OpenAPI: what it says of a request and of an answer is so, and nothing brings a 500 about."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import schemathesis
from aiohttp import web
from hypothesis import HealthCheck, Phase, settings
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS

from gateway.call import RetryKey
from gateway.http.openapi import document
from gateway.http.passthrough import ROUTES
from gateway.http.wire import PROFILE_HEADER
from tests.support.gateway_process import GatewayProcess, get
from tests.support.mock_engine import MODEL, MockEngine, Script

CHAT = "/v1/chat/completions"
FEEDBACK = "/v1/feedback"
schema = schemathesis.openapi.from_dict(document())


@dataclass(slots=True)
class CarefulEngine(MockEngine):
    """Refuses what it cannot read, as an engine does: the gateway passes values on as they are."""

    async def _answer(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        try:
            if not isinstance(body.get("n") or 1, int) or (body.get("n") or 1) not in range(129):
                raise ValueError(body["n"])
            return await super(CarefulEngine, self)._answer(request, body)
        except (ValueError, TypeError, AttributeError, KeyError) as refused:
            error = {"message": f"unreadable: {refused!r}", "type": "BadRequestError", "param": None, "code": 400}
            return web.json_response({"error": error}, status=400)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    engine = CarefulEngine(default=Script(('{"a": 4}', "Answer: 4")))
    with engine, GatewayProcess(tmp_path_factory.mktemp("openapi"), engine.url) as running:
        yield running
        assert running.stop() == 0
    assert "Traceback" not in running.output, running.output


def test_the_description_is_served(gateway: GatewayProcess) -> None:
    assert get(f"{gateway.url}/openapi.json") == (200, document())


@schema.parametrize()
@settings(
    max_examples=60,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_as_described(case: Any, gateway: GatewayProcess) -> None:
    if isinstance(case.body, dict) and isinstance(case.body.get("model"), str):
        case.body["model"] = MODEL  # few strings are the name of a model
    if case.meta.generation.mode is GenerationMode.POSITIVE and case.path == CHAT:
        make_consistent(case)
    if case.meta.generation.mode is GenerationMode.POSITIVE and case.path == FEEDBACK:
        case.body = {name: value for name, value in case.body.items() if name not in ("score", "resolved_at")}
        case.body["rating"] = 3  # it says something, and once; no moment in the future
    names = {"ignored_auth"}  # without keys the gateway asks for none
    if case.path in ROUTES:
        names.add("positive_data_acceptance")  # their values are the engine's to judge
    if "{" in case.path or case.path == "/v1/policies/rollback":
        names.add("positive_data_acceptance")  # nobody knows a group's id, or has promoted anything
    excluded = [check for check in CHECKS.get_all() if check.__name__ in names]
    case.call_and_validate(base_url=gateway.url, excluded_checks=excluded)


def make_consistent(case: Any) -> None:
    """Keep the rules between fields, which no schema states, so that a body that fits the schema must be answered."""
    body = case.body = within_64_bits(case.body)
    verification = body.get("verification") or {}
    named = (PROFILE_HEADER, RetryKey.HEADER.lower())  # no profile is configured; a key belongs to one body
    case.headers = {name: value for name, value in (case.headers or {}).items() if name.lower() not in named}
    for name in ("max_completion_tokens", "n"):  # beside max_tokens; beside a vote
        body.pop(name, None)
    for name, needs in {"top_logprobs": "logprobs", "stream_options": "stream"}.items():
        if body.get(name) is not None:
            body[needs] = True
    if (body.get("response_format") or {}).get("type") == "json_schema":
        del body["response_format"]
    # None is configured; min above max; each has fields of its own; without checks nothing is verified.
    for name in ("profile", "samples", "checks", "on_failure"):
        verification.pop(name, None)


def within_64_bits(value: Any) -> Any:
    """A JSON value with its integers brought into the range that the gateway takes."""
    if isinstance(value, dict):
        return {name: within_64_bits(item) for name, item in value.items()}
    if isinstance(value, list):
        return [within_64_bits(item) for item in value]
    return value if isinstance(value, bool) or not isinstance(value, int) else max(-(2**63), min(value, 2**63))

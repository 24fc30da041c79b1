import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.http.openapi import document
from router.errors import BackendProtocolError, BackendTimeout, BackendUnavailable
from tests.support.asgi import Exchange, application, get, post, request, until
from tests.support.fakes import ENGINE, Line
from tests.support.serving import EASY, OPEN, Serving, serving

REQUEST_ID = "x-request-id"
INFLIGHT = "thinktwice_inflight_requests"
CANCELLED = 'thinktwice_requests_total{{code_class="4xx",outcome="cancelled",route="none",stream="{}"}}'
ERROR = 'thinktwice_requests_total{{code_class="{}",outcome="error",route="none",stream="{}"}}'


def chat(text: str = OPEN, **fields: Any) -> dict[str, Any]:
    return {"model": "champion", "messages": [{"role": "user", "content": text}], **fields}


def error_of(exchange: Exchange) -> dict[str, Any]:
    error: dict[str, Any] = exchange.json["error"]
    assert error.keys() >= {"message", "type", "param", "code"}
    return error


async def test_an_answer_with_its_headers(tmp_path: Path) -> None:
    gateway = serving(tmp_path, "a story")
    answered = await post(application(gateway), chat(), headers={"X-Request-Id": "mine-1"})
    assert answered.status == 200 and answered.json["model"] == "champion"
    assert answered.json["choices"][0]["message"]["content"] == "a story"
    headers = answered.headers
    assert headers[REQUEST_ID] == "mine-1" == gateway.log.records[0].request_id
    assert headers["x-thinktwice-group-id"] == answered.json["verification"]["group_id"]
    assert (headers["x-thinktwice-route"], headers["x-thinktwice-samples"]) == ("single", "1")
    assert headers["x-thinktwice-status"] == "unverified" and headers["x-thinktwice-policy"] == "base"
    assert float(headers["x-thinktwice-overhead-ms"]) >= 0 and "x-thinktwice-cost-usd" not in headers


@pytest.mark.parametrize(
    ("fields", "status", "code", "param"),
    [
        ({"model": "gpt-9"}, 404, "model_not_found", "model"),
        ({"verification": {"profile": "nope"}}, 400, "unknown_profile", "verification.profile"),
        ({"frobnicate": 1}, 400, "unknown_field", "frobnicate"),
        ({"n": 0}, 400, "invalid_request", "n"),
        ({"n": 2, "reasoning_effort": "high"}, 400, "invalid_request", "n"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_bad_request(
    tmp_path: Path, fields: dict[str, Any], status: int, code: str, param: str, stream: bool
) -> None:
    gateway = serving(tmp_path, "a story")
    refused = await post(application(gateway), chat() | {"stream": stream} | fields)
    assert refused.status == status and refused.headers["content-type"] == "application/json"
    error = error_of(refused)
    assert (error["code"], error["param"], error["type"]) == (code, param, "invalid_request_error")
    assert gateway.backend.draws == [] and gateway.metric(f'thinktwice_errors_total{{code="{status}"}}') == 1
    assert gateway.deps.scorecard.report()["requests"]["errors_by_code"] == {str(status): 1}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_full_log(tmp_path: Path, stream: bool) -> None:
    gateway = serving(tmp_path, "a story")
    gateway.log.full = True
    refused = await post(application(gateway), chat(stream=stream))
    assert refused.status == 503 and error_of(refused)["code"] == "log_unavailable"
    assert refused.headers["x-should-retry"] == "false" and int(refused.headers["retry-after"]) > 0
    assert gateway.metric("thinktwice_grouplog_refused_total") == 1
    assert gateway.metric(ERROR.format("5xx", str(stream).lower())) == 1


async def test_a_verifier_that_is_down(tmp_path: Path) -> None:
    gateway = serving(tmp_path, "a story")
    gateway.verifier.up = False
    checks = {"checks": [{"type": "numeric", "reference": 4}]}
    refused = await post(application(gateway), chat(EASY, verification=checks))
    assert refused.status == 503 and error_of(refused)["code"] == "verifier_unavailable"
    assert refused.headers["x-should-retry"] == "false" and int(refused.headers["retry-after"]) > 0
    assert gateway.backend.draws == []


@pytest.mark.parametrize(
    ("failure", "status", "code", "retry"),
    [
        (BackendUnavailable("down"), 503, "backend_unavailable", None),
        (BackendTimeout("late"), 504, "backend_timeout", "false"),
        (BackendProtocolError("odd"), 502, "backend_protocol_error", None),
    ],
)
async def test_an_engine_that_fails(tmp_path: Path, failure: Any, status: int, code: str, retry: str | None) -> None:
    gateway = serving(tmp_path, Line("x", error=failure))
    refused = await post(application(gateway), chat())
    assert refused.status == status and error_of(refused)["code"] == code
    assert refused.headers.get("x-should-retry") == retry
    assert gateway.metric(f'thinktwice_errors_total{{code="{status}"}}') == 1


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/v1/nothing", 404), ("PUT", "/v1/models", 405)])
async def test_routes_that_do_not_exist(tmp_path: Path, method: str, path: str, status: int) -> None:
    refused = await get(application(serving(tmp_path, "x")), path, method)
    assert refused.status == status and error_of(refused)["type"] == "invalid_request_error"
    assert error_of(refused)["code"] == {404: "not_found", 405: "method_not_allowed"}[status]
    assert refused.headers.get("allow") in ((None,) if status == 404 else ("GET, HEAD", "HEAD, GET"))
    assert refused.headers[REQUEST_ID]


async def test_the_operators_routes(tmp_path: Path) -> None:
    app = application(serving(tmp_path, "a story"))
    assert (await get(app, "/healthz")).json == {"status": "ok"}
    assert (await get(app, "/readyz")).status == 503  # nothing has looked yet
    models = (await get(app, "/v1/models")).json["data"]
    assert {card["max_model_len"] for card in models} == {ENGINE.max_model_len}
    assert [card["id"] for card in models] == ["base", "champion"]
    assert (await get(app, "/v1/scorecard")).json["requests"]["answered"] == 0
    assert b"thinktwice_inflight_requests" in (await get(app, "/metrics")).body


async def test_a_defect_of_ours_is_a_500_with_the_request_id_and_nothing_else(tmp_path: Path) -> None:
    class Broken:
        async def complete(self, draw: object) -> Mapping[str, Any]:
            raise ZeroDivisionError("the secret of the prompt")

    exchange = Exchange()
    body = json.dumps(chat()).encode()
    with pytest.raises(ZeroDivisionError):  # goes on to the server, which logs it
        await exchange.run(
            application(serving(tmp_path, "x", backend=Broken())), request("POST", "/v1/chat/completions"), body
        )
    assert exchange.status == 500 and error_of(exchange)["code"] == "internal_error"
    assert exchange.headers[REQUEST_ID] in error_of(exchange)["message"] and b"secret" not in exchange.body


# Streams are counted to their end


async def _begun(gateway: Serving, **fields: Any) -> tuple[Exchange, asyncio.Task[None]]:
    """A streamed request whose first bytes are here."""
    exchange = Exchange()
    body = json.dumps(chat(stream=True, **fields)).encode()
    app = application(gateway, keepalive_s=0.02)
    serving_it = asyncio.create_task(exchange.run(app, request("POST", "/v1/chat/completions"), body))
    await until(lambda: bool(exchange.body))
    return exchange, serving_it


@pytest.mark.parametrize("effort", ["low", "high"])
async def test_a_stream_is_in_flight_until_its_end(tmp_path: Path, effort: str) -> None:
    gateway = serving(tmp_path, Line("\\boxed{4}", delay_s=0.2))
    exchange, serving_it = await _begun(gateway, reasoning_effort=effort)
    assert gateway.metric(INFLIGHT) == 1 and not exchange.body.endswith(b"data: [DONE]\n\n")
    await serving_it
    assert exchange.ended and exchange.body.endswith(b"data: [DONE]\n\n")
    assert gateway.metric(INFLIGHT) == 0 and gateway.metric(CANCELLED.format("true")) == 0
    assert len(gateway.log.records) == 1


@pytest.mark.parametrize("effort", ["low", "high"])
async def test_a_client_that_leaves_its_stream(tmp_path: Path, effort: str) -> None:
    gateway = serving(tmp_path, Line("never", delay_s=30.0))
    exchange, serving_it = await _begun(gateway, reasoning_effort=effort)
    exchange.leave.set()
    async with asyncio.timeout(30):
        await serving_it
    assert gateway.backend.cancelled >= 1 and gateway.log.records == []
    assert gateway.metric(CANCELLED.format("true")) == 1 and gateway.metric(INFLIGHT) == 0


async def test_a_client_that_leaves_while_it_waits(tmp_path: Path) -> None:
    gateway = serving(tmp_path, Line("never", delay_s=30.0))
    exchange = Exchange()
    body = json.dumps(chat(reasoning_effort="high")).encode()
    run = exchange.run(application(gateway), request("POST", "/v1/chat/completions"), body)
    serving_it = asyncio.create_task(run)
    await until(lambda: bool(gateway.backend.draws))
    exchange.leave.set()
    async with asyncio.timeout(30):
        await serving_it
    assert exchange.status == 499 and gateway.backend.cancelled == 3
    assert gateway.metric(CANCELLED.format("false")) == 1 and gateway.metric(INFLIGHT) == 0


async def test_a_client_that_leaves_in_the_middle_of_its_body(tmp_path: Path) -> None:
    gateway = serving(tmp_path, "a story")
    for path in ("/v1/chat/completions", "/v1/completions"):
        exchange = Exchange()
        exchange.leave.set()
        await exchange.run(application(gateway), request("POST", path), b'{"model": ', whole=False)
        assert exchange.status == 499
    assert gateway.metric(CANCELLED.format("false")) == 1 and gateway.backend.draws == []


@pytest.mark.parametrize("effort", ["low", "high"])
async def test_an_engine_that_fails_in_the_middle_of_a_stream(tmp_path: Path, effort: str) -> None:
    gateway = serving(tmp_path, Line("half and half", delay_s=0.05, error=BackendUnavailable("it went away")))
    exchange, serving_it = await _begun(gateway, reasoning_effort=effort)
    await serving_it
    assert exchange.status == 200 and exchange.body.endswith(b"data: [DONE]\n\n")
    assert exchange.events[-1]["error"]["code"] == "backend_unavailable"
    assert gateway.metric(ERROR.format("5xx", "true")) == 1 and gateway.metric(INFLIGHT) == 0
    assert gateway.deps.scorecard.report()["requests"]["errors_by_code"] == {"503": 1}
    assert gateway.metric(CANCELLED.format("true")) == 0 and gateway.log.records == []


async def test_an_engine_that_fails_before_the_first_byte_keeps_its_status(tmp_path: Path) -> None:
    class Down:
        async def stream(self, draw: object) -> AsyncIterator[Mapping[str, Any]]:
            for failure in [BackendUnavailable("down")]:
                raise failure
            yield {}

    gateway = serving(tmp_path, "x", backend=Down())
    refused = await post(application(gateway), chat(stream=True))
    assert refused.status == 503 and gateway.metric(ERROR.format("5xx", "true")) == 1


async def test_a_refused_stream_at_low_effort_is_an_answer_not_an_error(tmp_path: Path) -> None:
    gateway = serving(tmp_path, "error")
    checks = {"checks": [{"type": "numeric", "reference": 4}], "on_failure": "error"}
    exchange, serving_it = await _begun(gateway, reasoning_effort="low", verification=checks)
    await serving_it
    assert exchange.events[-1]["error"]["code"] == "not_verified"
    assert gateway.metric(ERROR.format("4xx", "true")) == 0 and gateway.metric(CANCELLED.format("true")) == 0
    assert len(gateway.log.records) == 1


def test_every_route_is_in_the_openapi_description(tmp_path: Path) -> None:
    routes = application(serving(tmp_path, "a story"))._app.routes  # type: ignore[attr-defined]
    described = {(path, method.upper()) for path, methods in document()["paths"].items() for method in methods}
    assert {(route.path, method) for route in routes for method in route.methods - {"HEAD"}} == described

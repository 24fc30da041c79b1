"""The single-sample path against the engine itself: one suite of requests, sent to both, compared field by field."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.engines import MODEL, EngineKind, RunningEngine
from tests.support.fidelity import CHAT, Case, Exchange, answered, cases, comparable, exchange, same
from tests.support.gateway_process import GatewayProcess

ERROR_FIELDS = {"message", "type", "param", "code"}


@pytest.fixture(scope="module")
def gateway(engine: RunningEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    # A grammar is how the default model comes to call a tool of itself.
    env = {"THINKTWICE_BACKEND__ALLOW_FIELDS": '["structured_outputs"]'}
    with GatewayProcess(tmp_path_factory.mktemp(f"fidelity-{engine.kind}"), engine.url, env=env) as running:
        yield running
        assert running.stop() == 0
    assert "Traceback" not in running.output, running.output


@pytest.mark.parametrize("case", cases("requests.json"), ids=lambda case: case.name)
def test_an_answer_is_the_engines_own(engine: RunningEngine, gateway: GatewayProcess, case: Case) -> None:
    # The embedded engine refuses what it does not know, an effort among it; vLLM takes it.
    strict = engine.kind is EngineKind.EMBEDDED
    theirs = exchange(engine.url, case.path, case.sent(MODEL, without="reasoning_effort" if strict else None))
    if strict and case.vllm:
        assert theirs.status == 400
        return
    ours = exchange(gateway.url, case.path, case.sent(MODEL))
    assert strict or case.refused or theirs.status == case.status, theirs
    if case.refused:
        check_refusal(theirs, ours)
        assert strict or theirs.status == (200 if case.passes else ours.status), theirs
        return
    if case.path == CHAT and ours.status == 200:
        check_verdict(ours, tokens_shown=bool(case.body.get("logprobs")))
    if case.settled and theirs.status == 200:
        assert answered(theirs) == answered(ours)
        counted = {name: count for name, count in theirs.events[-1]["usage"].items() if count is not None}
        assert ours.events[-1]["usage"] == counted
        return
    differences = same(comparable(theirs), comparable(ours))
    assert not differences, "\n".join(differences)


def check_refusal(theirs: Exchange, ours: Exchange) -> None:
    """The gateway's own words, in OpenAI's form."""
    assert ours.body is not None and ours.body["error"].keys() == ERROR_FIELDS
    assert ours.content_type == "application/json" and 400 <= ours.status < 500
    assert theirs.status in (200, ours.status)


def check_verdict(ours: Exchange, *, tokens_shown: bool) -> None:
    """One sample, and its verdict on the object or on the chunk that ends the stream."""
    if ours.body is not None:
        verdicts = [ours.body["verification"]]
    else:
        verdicts = [event["verification"] for event in ours.events if "verification" in event]
        *_, last = [event for event in ours.events if event["choices"]]
        assert "verification" in last
        assert tokens_shown or not any(_says_nothing(event) for event in ours.events)
    assert [verdict["route"] for verdict in verdicts] == ["single"]


def _says_nothing(event: dict[str, object]) -> bool:
    return event["choices"] != [] and all(
        not choice["delta"] and choice["finish_reason"] is None
        for choice in event["choices"]  # type: ignore[attr-defined]
    )

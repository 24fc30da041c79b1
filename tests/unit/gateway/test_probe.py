"""What the probe makes of an engine: a scripted one that samples as engines do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import pytest

from gateway.adapters.probe import FINGERPRINT_MESSAGES, probe_engine
from router.errors import BackendProtocolError, BackendRejected, BackendUnavailable

LOGITS = (4.0, 3.0, 1.5, 0.5, 0.25, -1.0)
PROMPT_IDS = [1, 22, 333]
BASE = {"id": "base", "owned_by": "vllm", "max_model_len": 2048, "parent": None}
ADAPTER = {"id": "policy-1-00000000", "owned_by": "vllm", "parent": "base"}


@dataclass
class ScriptedEngine:
    """Draws the token `sampled` of LOGITS. `processed` divides by the temperature before the log-probabilities."""

    processed: bool = True
    token_ids: bool = True
    sampled: int = 0
    logits: tuple[float, ...] = LOGITS
    cards: list[dict[str, Any]] = field(default_factory=lambda: [ADAPTER, BASE])
    answer: Mapping[str, Any] | None = None  # instead of a completion
    refusal: Exception | None = None
    version_refused: bool = False
    posted: list[Mapping[str, Any]] = field(default_factory=list)

    async def get_json(self, path: str) -> Mapping[str, Any]:
        if path == "/version":
            if self.version_refused:
                raise BackendProtocolError("no version")
            return {"version": "0.32.0"}
        return {"/v1/models": {"object": "list", "data": self.cards}}[path]

    async def post_json(self, path: str, body: Mapping[str, Any], timeout_s: float) -> Mapping[str, Any]:
        self.posted.append(body)
        assert path == "/v1/chat/completions" and timeout_s > 0
        if self.refusal is not None:
            raise self.refusal
        return self._completion(body) if self.answer is None else self.answer

    def _completion(self, body: Mapping[str, Any]) -> dict[str, Any]:
        divisor = body["temperature"] if self.processed else 1.0
        entries = [{"token": str(index), "logprob": logit / divisor - 9.0} for index, logit in enumerate(self.logits)]
        # vLLM lists the sampled token first and cuts the list at `top_logprobs`.
        ranked = [entries[self.sampled], *(entry for index, entry in enumerate(entries) if index != self.sampled)]
        first = {**ranked[0], "top_logprobs": ranked[: body["top_logprobs"]]}
        choice: dict[str, Any] = {"index": 0, "logprobs": {"content": [first]}}
        if not self.token_ids:
            return {"choices": [choice]}
        return {"choices": [choice | {"token_ids": [7]}], "prompt_token_ids": PROMPT_IDS}


@pytest.mark.parametrize("sampled", range(len(LOGITS)))
async def test_an_engine_whose_rows_can_train(sampled: int) -> None:
    engine = ScriptedEngine(sampled=sampled)
    info = await probe_engine(engine)
    assert (info.engine, info.version, info.models) == ("vllm", "0.32.0", ("policy-1-00000000", "base"))
    assert (info.token_ids, info.logprobs_mode, info.max_model_len) == (True, "processed_logprobs", 2048)
    assert info.missing == ()
    assert info.template_fingerprint == sha256(b"1,22,333").hexdigest()
    for body in engine.posted:
        assert body["model"] == "base" and body["messages"] == list(FINGERPRINT_MESSAGES)
        assert (body["max_tokens"], body["logprobs"], body["return_token_ids"]) == (1, True, True)


@pytest.mark.parametrize("sampled", range(len(LOGITS)))
async def test_raw_log_probabilities_name_the_flag(sampled: int) -> None:
    info = await probe_engine(ScriptedEngine(processed=False, sampled=sampled))
    assert info.logprobs_mode == "raw_logprobs"
    assert info.missing == ("its logprobs mode is raw_logprobs: start it with --logprobs-mode processed_logprobs",)
    assert info.token_ids and info.template_fingerprint is not None


async def test_no_token_ids_is_a_clause_of_its_own() -> None:
    info = await probe_engine(ScriptedEngine(token_ids=False))
    assert (info.token_ids, info.template_fingerprint) == (False, None)
    assert info.missing == ("it returns no token ids (return_token_ids)",)
    both = await probe_engine(ScriptedEngine(token_ids=False, processed=False))
    assert len(both.missing) == 2


@pytest.mark.parametrize(
    "logprobs",
    [
        None,
        {"content": []},
        {"content": [{"token": "a", "logprob": -1.0, "top_logprobs": []}]},
        {"content": [{"token": "a", "logprob": -1.0, "top_logprobs": [{"token": "a", "logprob": -1.0}]}]},
        {"content": [{"token": "a", "logprob": -1.0, "top_logprobs": None}]},
    ],
)
async def test_without_alternatives_the_mode_is_unknown(logprobs: Any) -> None:
    choice = {"index": 0, "logprobs": logprobs, "token_ids": [7]}
    info = await probe_engine(ScriptedEngine(answer={"choices": [choice], "prompt_token_ids": PROMPT_IDS}))
    assert info.logprobs_mode == "unknown"
    assert info.missing == ("its logprobs mode is unknown: start it with --logprobs-mode processed_logprobs",)


async def test_an_engine_that_refuses_the_probe_still_serves() -> None:
    refusal = BackendRejected("logprobs are disabled", 400, {"error": {"message": "logprobs are disabled"}})
    info = await probe_engine(ScriptedEngine(refusal=refusal))
    assert (info.engine, info.models, info.token_ids) == ("vllm", ("policy-1-00000000", "base"), False)
    assert info.missing == ("its chat completions refused the probe: logprobs are disabled",)


@pytest.mark.parametrize("cards", [[], [ADAPTER]])
async def test_an_engine_without_a_base_model(cards: list[dict[str, Any]]) -> None:
    engine = ScriptedEngine(cards=cards)
    info = await probe_engine(engine)
    assert info.missing == ("the engine serves no base model",) and engine.posted == []


async def test_an_engine_without_a_version_route() -> None:
    info = await probe_engine(ScriptedEngine(version_refused=True))
    assert (info.version, info.missing) == ("unknown", ())


async def test_an_engine_that_is_down_is_an_error() -> None:
    class Down(ScriptedEngine):
        async def get_json(self, path: str) -> Mapping[str, Any]:
            raise BackendUnavailable("nobody there")

    with pytest.raises(BackendUnavailable):
        await probe_engine(Down())


@pytest.mark.parametrize("answer", [{}, {"choices": []}, {"choices": None}, {"choices": ["text"]}])
async def test_an_answer_that_is_no_completion_is_a_clause(answer: dict[str, Any]) -> None:
    info = await probe_engine(ScriptedEngine(answer=answer))
    assert (len(info.missing), info.token_ids, info.logprobs_mode) == (1, False, "unknown")


async def test_two_equally_likely_tokens_do_not_hide_the_mode() -> None:
    """bfloat16 logits tie often: the gap between the first two says nothing then."""
    info = await probe_engine(ScriptedEngine(logits=(4.0, 4.0, *LOGITS[2:])))
    assert info.logprobs_mode == "processed_logprobs"

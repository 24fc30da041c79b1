"""The start-up probe: what the engine is, and what keeps its rows from training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from router.domain import EngineInfo
from router.errors import BackendError
from router.fingerprint import FINGERPRINT_MESSAGES, fingerprint

PROBE_TIMEOUT_S = 60.0
_GAP_TOLERANCE = 0.02  # relative; bfloat16 logits keep about three digits


class Engine(Protocol):
    """The two calls a probe needs."""

    async def get_json(self, path: str) -> Mapping[str, Any]:
        """GET a JSON object."""
        ...

    async def post_json(self, path: str, body: Mapping[str, Any], timeout_s: float) -> Mapping[str, Any]:
        """POST a JSON object."""
        ...


async def probe_engine(engine: Engine) -> EngineInfo:
    """Ask the engine for its models and draw single tokens to learn what its answers carry.

    Whether log-probabilities are processed is measured, not asked: doubling the temperature halves the gap between the
    same two tokens exactly when they are. Raises `BackendError` when the engine does not answer.
    """
    cards = (await engine.get_json("/v1/models")).get("data") or []
    models = tuple(card["id"] for card in cards)
    base: Mapping[str, Any] = next((card for card in cards if not card.get("parent")), {})
    version = await _version(engine)
    if not base:
        return EngineInfo("unknown", version, models, False, "unknown", missing=("the engine serves no base model",))

    def unusable(why: str) -> EngineInfo:
        return EngineInfo(base.get("owned_by", "unknown"), version, models, False, "unknown", missing=(why,))

    try:
        warm = await _one_token(engine, base["id"], temperature=1.0)
        hot = await _one_token(engine, base["id"], temperature=2.0)
    except BackendError as error:
        return unusable(f"its chat completions refused the probe: {error}")
    if not all(_is_completion(answer) for answer in (warm, hot)):
        return unusable("its answer to the probe is no chat completion")
    token_ids = bool(warm["choices"][0].get("token_ids")) and bool(warm.get("prompt_token_ids"))
    mode = _logprobs_mode(_likeliest(warm), _likeliest(hot))
    faults = {
        "it returns no token ids (return_token_ids)": not token_ids,
        f"its logprobs mode is {mode}: start it with --logprobs-mode processed_logprobs": mode != "processed_logprobs",
    }
    return EngineInfo(
        engine=base.get("owned_by", "unknown"),
        version=version,
        models=models,
        token_ids=token_ids,
        logprobs_mode=mode,
        max_model_len=base.get("max_model_len"),
        missing=tuple(fault for fault, found in faults.items() if found),
        template_fingerprint=fingerprint(prompt_ids) if (prompt_ids := warm.get("prompt_token_ids")) else None,
    )


async def _version(engine: Engine) -> str:
    try:
        return str((await engine.get_json("/version")).get("version", "unknown"))
    except BackendError:
        return "unknown"


async def _one_token(engine: Engine, model: str, temperature: float) -> Mapping[str, Any]:
    body = {
        "model": model,
        "messages": list(FINGERPRINT_MESSAGES),
        "max_tokens": 1,
        "temperature": temperature,
        "top_p": 1.0,
        "top_k": -1,
        "min_p": 0.0,
        "seed": 1,
        "logprobs": True,
        "top_logprobs": 5,  # the sampled token takes one of the places
        "return_token_ids": True,
    }
    return await engine.post_json("/v1/chat/completions", body, PROBE_TIMEOUT_S)


def _is_completion(answer: Mapping[str, Any]) -> bool:
    choices = answer.get("choices")
    return isinstance(choices, list) and bool(choices) and isinstance(choices[0], dict)


def _likeliest(completion: Mapping[str, Any]) -> dict[str, float]:
    """Log-probabilities, in nats, of the first token's alternatives; empty when the engine shows none."""
    try:
        entries = completion["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        return {entry["token"]: float(entry["logprob"]) for entry in entries}
    except (KeyError, IndexError, TypeError, ValueError):
        return {}


def _logprobs_mode(warm: Mapping[str, float], hot: Mapping[str, float]) -> str:
    """What doubling the temperature does to the widest gap between two tokens that both answers show."""
    shared = sorted(warm.keys() & hot.keys(), key=lambda token: warm[token])
    if len(shared) < 2:
        return "unknown"
    least, most = shared[0], shared[-1]
    before, after = warm[most] - warm[least], hot[most] - hot[least]
    if before <= 0:
        return "unknown"
    if abs(after - before / 2) <= _GAP_TOLERANCE * before:
        return "processed_logprobs"
    return "raw_logprobs" if abs(after - before) <= _GAP_TOLERANCE * before else "unknown"

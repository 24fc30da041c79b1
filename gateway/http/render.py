"""Answers in OpenAI's form: a completion object, the chunks of a stream, and our headers."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from gateway.answer import Answer, Prepared
from gateway.call import ChatCall
from router.domain import Tokens, Verification

HEADER = "X-Thinktwice-"


def verification_json(verification: Verification) -> dict[str, Any]:
    """The response extension of DESIGN section 2."""
    return {
        "status": verification.status,
        "reason": verification.reason,
        "route": verification.route,
        "escalated": verification.escalated,
        "samples": verification.samples,
        "votes": verification.votes,
        "agreement": round(verification.agreement, 4),
        "difficulty": round(verification.difficulty, 4),
        "stopped": verification.stopped,
        "profile": verification.profile,
        "score": verification.score,
        "checks": [
            {
                "id": check.id,
                "type": check.type,
                "class": check.klass,
                "outcome": check.outcome,
                "score": check.score,
                "ms": round(check.ms, 3),
                "version": check.version,
            }
            for check in verification.checks
        ],
        "group_id": verification.group_id,
        "policy": verification.policy,
        "cost_usd": verification.cost_usd,
        "cached": verification.cached,
    }


def completion_json(answer: Answer, call: ChatCall) -> dict[str, Any]:
    """The chat completion: the engine's own object on the single path, else one choice made of the elected sample."""
    verification = verification_json(answer.verification)
    if answer.completion is not None:
        completion = _without_our_fields(answer.completion, call)
        completion["choices"] = [_without_our_fields(choice, call) for choice in answer.completion["choices"]]
        return completion | {"model": call.model, "verification": verification}
    choice = {
        "index": 0,
        "message": _message(answer),
        "logprobs": answer.raw_logprobs if call.logprobs else None,
        "finish_reason": answer.finish_reason,
        "stop_reason": answer.stop_reason,
    }
    return {
        "id": f"chatcmpl-{answer.verification.group_id}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": call.model,
        "choices": [choice],
        "usage": usage_json(answer.billed),
        "verification": verification,
    }


def live_chunk(chunk: Mapping[str, Any], call: ChatCall) -> dict[str, Any]:
    """A chunk of the engine's stream, without what only we asked for."""
    shown = _without_our_fields(chunk, call)
    shown["choices"] = [_without_our_fields(choice, call) for choice in chunk.get("choices") or ()]
    shown.pop("usage", None)
    shown["model"] = call.model
    return shown


def shows_nothing(chunk: Mapping[str, Any], call: ChatCall) -> bool:
    """Whether a chunk of the engine's stream is there only for the ids and log-probabilities that we asked for.

    vLLM sends one with an empty delta for each token that its tool and reasoning parsers hold back.
    """
    if call.logprobs or call.prompt.options.get("return_token_ids"):
        return False
    return all(not choice.get("delta") and choice.get("finish_reason") is None for choice in chunk["choices"])


def last_live_chunk(chunk: Mapping[str, Any], answer: Answer, call: ChatCall) -> dict[str, Any]:
    """The chunk that ends a live stream, with the verdict. A refusal can only be appended to what was streamed.

    An engine puts its fingerprint on its usage chunk, and on this one where that was not asked for.
    """
    shown = live_chunk(chunk, call)
    if not call.include_usage and answer.closing is not None and "system_fingerprint" in answer.closing:
        shown["system_fingerprint"] = answer.closing["system_fingerprint"]
    if answer.finish_reason == "content_filter":
        for choice in shown["choices"]:
            choice["finish_reason"] = answer.finish_reason
            choice["delta"] = {**(choice.get("delta") or {}), "refusal": answer.message.get("refusal")}
    return shown | {"verification": verification_json(answer.verification)}


def answer_chunks(answer: Answer, call: ChatCall) -> Iterator[dict[str, Any]]:
    """The chunks of an answer that was settled before its first byte: role, message, finish with the verdict."""
    delta = {name: value for name, value in _message(answer).items() if value is not None}
    delta["role"] = "assistant"
    if delta.get("tool_calls"):
        delta["tool_calls"] = [{"index": index, **tool} for index, tool in enumerate(delta["tool_calls"])]
    yield _chunk(answer, call, {**delta}, logprobs=answer.raw_logprobs if call.logprobs else None)
    ending = _chunk(answer, call, {}, finish_reason=answer.finish_reason, stop_reason=answer.stop_reason)
    yield ending | {"verification": verification_json(answer.verification)}


def usage_chunk(last: Mapping[str, Any], answer: Answer, call: ChatCall) -> dict[str, Any]:
    """The chunk that `stream_options.include_usage` asks for: the engine's own where a single sample streamed."""
    if answer.closing is not None:
        return {**answer.closing, "model": call.model}
    same = {name: last[name] for name in ("id", "object", "created", "model") if name in last}
    usage = (answer.completion or {}).get("usage") or usage_json(answer.billed)
    return same | {"choices": [], "usage": {name: count for name, count in usage.items() if count is not None}}


def usage_json(tokens: Tokens) -> dict[str, Any]:
    """OpenAI's usage object, over all samples."""
    return {
        "prompt_tokens": tokens.prompt,
        "completion_tokens": tokens.completion,
        "total_tokens": tokens.prompt + tokens.completion,
        "prompt_tokens_details": {"cached_tokens": tokens.cached_prompt} if tokens.cached_prompt else None,
    }


def early_headers(prepared: Prepared) -> dict[str, str]:
    """What is known before the first token."""
    return {
        f"{HEADER}Route": prepared.decision.route.value,
        f"{HEADER}Group-Id": prepared.group_id,
        f"{HEADER}Policy": prepared.policy.name,
    }


def answer_headers(answer: Answer) -> dict[str, str]:
    """What is known of a settled answer. No cost header without a price."""
    verification = answer.verification
    headers = {
        f"{HEADER}Status": verification.status.value,
        f"{HEADER}Route": verification.route.value,
        f"{HEADER}Samples": str(verification.samples),
        f"{HEADER}Group-Id": verification.group_id,
        f"{HEADER}Policy": verification.policy,
        f"{HEADER}Overhead-Ms": f"{answer.overhead_s * 1000:.2f}",
    }
    if verification.cost_usd is not None:
        headers[f"{HEADER}Cost-Usd"] = f"{verification.cost_usd:.8f}"
    return headers


def _message(answer: Answer) -> dict[str, Any]:
    """The elected message. Beside tool calls an empty content is null, as it is when the engine does not stream."""
    message = dict(answer.message)
    if message.get("tool_calls") and not message.get("content"):
        message["content"] = None
    return message


def _chunk(answer: Answer, call: ChatCall, delta: Mapping[str, Any], **ending: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None, **ending}
    return {
        "id": f"chatcmpl-{answer.verification.group_id}",
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": call.model,
        "choices": [choice],
    }


def _without_our_fields(part: Mapping[str, Any], call: ChatCall) -> dict[str, Any]:
    """A copy in which the ids and log-probabilities that only we asked for are null, as if we had not."""
    shown = dict(part)
    if not call.logprobs and "logprobs" in shown:
        shown["logprobs"] = None
    if not call.prompt.options.get("return_token_ids"):
        for name in ("prompt_token_ids", "token_ids"):
            if name in shown:
                shown[name] = None
    return shown

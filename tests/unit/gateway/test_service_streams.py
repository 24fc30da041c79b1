import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.answer import Answer
from gateway.call import ChatCall
from router.domain import Sampling
from router.enums import Effort, OnFailure, Route, Status, Stopped
from router.errors import (
    BackendProtocolError,
    BackendTimeout,
    BackendUnavailable,
    InvalidRequest,
    VerificationFailed,
)
from router.records import GroupRecord
from tests.support.builders import check_spec, prompt
from tests.support.fakes import Line
from tests.support.serving import EASY, OPEN, Serving, call, serving

RIGHT = check_spec("right")
HARD = (
    "A farmer has 12 cows, 15 sheep and 23 hens. How many legs are there altogether when 3 cows are sold, then 4 hens?"
)


async def ask(serving: Serving, chat: ChatCall) -> Answer:
    return await serving.service.answer(await serving.service.prepare(chat))


def only(serving: Serving) -> GroupRecord:
    [record] = serving.log.records
    return record


async def listen(serving: Serving, chat: ChatCall) -> tuple[list[Mapping[str, Any]], Answer]:
    """The chunks and the settled answer of a live stream."""
    prepared = await serving.service.prepare(chat)
    assert prepared.live
    chunks: list[Mapping[str, Any]] = []
    answers: list[Answer] = []
    async for item in serving.service.stream_live(prepared):
        if isinstance(item, Answer):
            answers.append(item)
        else:
            chunks.append(item)
    [answer] = answers
    return chunks, answer


HARD = (
    "A farmer has 12 cows, 15 sheep and 23 hens. How many legs are there altogether when 3 cows are sold, then 4 hens?"
)


async def test_n_choices_are_passed_through_however_hard_the_prompt(tmp_path: Path) -> None:
    gateway = serving(tmp_path, "one", "two", "three", audit_share=1.0)
    asked = prompt(HARD, Sampling(temperature=0.3, seed=7))
    answer = await ask(gateway, call(n=3, prompt=asked))
    assert answer.completion is not None and len(answer.completion["choices"]) == 3
    assert [(draw.n, draw.sampling) for draw in gateway.backend.draws] == [(3, asked.sampling)]
    assert answer.verification.route is Route.SINGLE and len(only(gateway).samples) == 3
    assert answer.tokens.completion == len("onetwothree")


@pytest.mark.parametrize("fields", [{"effort": Effort.HIGH}, {"min_samples": 2, "samples_given": True}])
async def test_n_choices_and_a_vote_are_refused_together(tmp_path: Path, fields: dict[str, Any]) -> None:
    gateway = serving(tmp_path, "one")
    with pytest.raises(InvalidRequest) as refused:
        await gateway.service.prepare(call(OPEN, n=2, **fields))
    assert refused.value.param == "n"


async def test_an_engine_that_fails_ends_the_request_and_logs_nothing(tmp_path: Path) -> None:
    gateway = serving(tmp_path, Line("x", error=BackendUnavailable("down")))
    for chat in (call(OPEN), call(EASY, effort=Effort.HIGH), call(EASY, RIGHT)):
        with pytest.raises(BackendUnavailable):
            await ask(gateway, chat)
    assert gateway.log.records == []


async def test_what_failed_after_a_first_sample_is_noted_and_the_rest_is_served(tmp_path: Path) -> None:
    gateway = serving(tmp_path, "wrong", Line("x", error=BackendUnavailable("down")))
    answer = await ask(gateway, call(EASY, RIGHT))
    assert answer.message["content"] == "wrong" and only(gateway).failures


async def test_the_deadline_ends_a_vote_with_what_there_is(tmp_path: Path) -> None:
    lines = Line("\\boxed{4}"), Line("\\boxed{5}", delay_s=10.0)
    gateway = serving(tmp_path, *lines, deadline_s=0.3)
    answer = await ask(gateway, call(EASY, effort=Effort.HIGH, min_samples=2))
    assert answer.verification.stopped is Stopped.DEADLINE and answer.message["content"] == "\\boxed{4}"
    gateway = serving(tmp_path, Line("never", delay_s=10.0), deadline_s=0.1)
    with pytest.raises(BackendTimeout):
        await ask(gateway, call(EASY, effort=Effort.HIGH))


@dataclass(slots=True)
class Empty:
    """An engine that answers without a choice, and ends its streams before their samples."""

    async def complete(self, draw: object) -> Mapping[str, Any]:
        return {"choices": [], "usage": {}}

    async def stream(self, draw: object) -> Any:
        yield {"choices": [{"index": 0, "delta": {"content": "half"}, "finish_reason": None}]}


async def test_an_answer_without_its_samples_is_the_engines_error(tmp_path: Path) -> None:
    gateway = serving(tmp_path, "x", backend=Empty())
    with pytest.raises(BackendProtocolError):
        await ask(gateway, call(OPEN))
    with pytest.raises(BackendProtocolError):
        await listen(gateway, call(OPEN, stream=True))
    assert gateway.log.records == []


async def test_a_live_stream_is_settled_before_its_last_chunk(tmp_path: Path) -> None:
    gateway = serving(tmp_path, "a story")
    prepared = await gateway.service.prepare(call(OPEN, stream=True))
    items = [item async for item in gateway.service.stream_live(prepared)]
    assert [isinstance(item, Answer) for item in items] == [False, False, True, False]
    assert items[-1]["choices"][0]["finish_reason"] == "stop"  # type: ignore[index]
    assert only(gateway).samples[0].message["content"] == "a story"
    assert only(gateway).completion_tokens == len("a story")


async def test_a_live_stream_of_n_choices(tmp_path: Path) -> None:
    gateway = serving(tmp_path, "one", "two")
    chunks, answer = await listen(gateway, call(n=2, stream=True, prompt=prompt(HARD, Sampling())))
    ends = [choice["index"] for chunk in chunks for choice in chunk["choices"] if choice["finish_reason"]]
    assert sorted(ends) == [0, 1] and answer.verification.samples == 2
    assert len(only(gateway).samples) == 2 and answer.tokens.completion == len("onetwo")


async def test_at_low_effort_a_checked_answer_streams_and_is_judged_at_its_end(tmp_path: Path) -> None:
    for text, status in (("right", Status.VERIFIED), ("wrong", Status.FAILED)):
        gateway = serving(tmp_path, text)
        _, answer = await listen(gateway, call(EASY, RIGHT, effort=Effort.LOW, stream=True))
        assert answer.verification.status is status
    with pytest.raises(VerificationFailed):
        await listen(gateway, call(EASY, RIGHT, effort=Effort.LOW, stream=True, on_failure=OnFailure.ERROR))
    assert len(gateway.log.records) == 2
    refused_by = 'thinktwice_requests_total{code_class="4xx",outcome="refused",route="single",stream="true"}'
    assert gateway.metric(refused_by) == 1


async def test_a_checked_answer_that_may_be_escalated_does_not_stream_live(tmp_path: Path) -> None:
    gateway = serving(tmp_path, "right")
    for chat in (call(EASY, RIGHT, stream=True), call(EASY, effort=Effort.HIGH, stream=True)):
        assert not (await gateway.service.prepare(chat)).live
    assert (await gateway.service.prepare(call(OPEN, stream=True))).live


async def test_a_stream_closed_early_is_cancelled_and_not_logged(tmp_path: Path) -> None:
    gateway = serving(tmp_path, Line("a long story", delay_s=10.0))
    stream = gateway.service.stream_live(await gateway.service.prepare(call(OPEN, stream=True)))
    await anext(stream)
    await stream.aclose()
    assert gateway.backend.cancelled == 1 and gateway.log.records == []


async def test_the_first_token_is_timed_by_content_not_by_the_role(tmp_path: Path) -> None:
    class Slow:
        async def stream(self, draw: object) -> Any:
            yield {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]}
            await asyncio.sleep(0.2)
            yield {"choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": None}]}
            yield {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}

    gateway = serving(tmp_path, "x", backend=Slow())
    await listen(gateway, call(OPEN, stream=True))
    assert gateway.metric('thinktwice_time_to_first_token_seconds_sum{route="single"}') >= 0.2

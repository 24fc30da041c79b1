import pytest

from router.domain import Tokens
from router.errors import BackendProtocolError
from router.fold import StreamFold, completion_samples, completion_tokens
from router.ports import Draw
from tests.support.builders import PLAIN, prompt
from tests.support.fakes import Line, ScriptedBackend


async def test_a_stream_and_a_completion_fold_to_the_same_samples() -> None:
    lines = [Line("one"), Line("four", "length")]
    draw = Draw(prompt(), PLAIN, "base", n=2)
    fold = StreamFold(0, PLAIN, "base", 2)
    streamed = [sample async for chunk in ScriptedBackend(lines).stream(draw) for sample in fold.feed(chunk)]
    completion = await ScriptedBackend(lines).complete(draw)
    assert streamed == completion_samples(completion, PLAIN, "base")
    assert fold.tokens() == completion_tokens(completion) == Tokens(3, 7)
    assert fold.complete and fold.prompt_token_ids == (1, 2, 3)


def test_a_cut_stream_keeps_what_had_begun_and_counts_its_tokens() -> None:
    fold = StreamFold(3, PLAIN, "base", 2)
    fold.feed({"prompt_token_ids": [1, 2], "choices": [{"index": 1, "delta": {"content": "ab"}, "token_ids": [8, 9]}]})
    [cut] = fold.begun()
    assert (cut.index, cut.text, cut.completed, cut.token_ids) == (4, "ab", False, (8, 9))
    assert fold.tokens() == Tokens(2, 2)
    assert not fold.complete


def test_tool_call_deltas_are_joined() -> None:
    fold = StreamFold(0, PLAIN, "base")
    parts = [
        {"index": 0, "id": "call_1", "type": "function", "function": {"name": "add", "arguments": ""}},
        {"index": 0, "function": {"arguments": '{"a": 1,'}},
        {"index": 0, "function": {"arguments": ' "b": 2}'}},
    ]
    for part in parts:
        fold.feed({"choices": [{"index": 0, "delta": {"tool_calls": [part]}}]})
    [sample] = fold.feed({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
    [call] = sample.message["tool_calls"]
    assert call == {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1, "b": 2}'}}


@pytest.mark.parametrize("chunk", [{"choices": [{"index": 7, "delta": {}}]}, {"choices": [3]}, {"choices": 5}])
def test_what_is_no_chunk_is_a_protocol_error(chunk: dict[str, object]) -> None:
    with pytest.raises(BackendProtocolError):
        StreamFold(0, PLAIN, "base").feed(chunk)


def test_what_is_no_completion_is_a_protocol_error() -> None:
    with pytest.raises(BackendProtocolError):
        completion_samples({"choices": [{"index": 0}]}, PLAIN, "base")

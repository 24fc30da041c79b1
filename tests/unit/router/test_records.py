"""The codec of groups: what was written once is readable for ever, and damage is an error, never a group."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.domain import Sampling
from router.enums import Purpose, Route, Status, Stopped, ToolOutcome
from router.errors import RecordError
from router.record_codec import decode_answer, decode_group, encode
from router.records import SCHEMA_VERSION, GroupRecord
from tests.support.groups import answer, group, sample

GOLDEN = Path(__file__).parents[2] / "golden" / "records"


def test_a_record_of_schema_1_is_readable_for_ever() -> None:
    record = decode_group((GOLDEN / "group-v1.bin").read_bytes())
    assert record.schema_version == 1
    assert record.group_id == "01930000-0000-7000-8000-000000000001"
    assert (record.route, record.stopped, record.status) == (Route.VOTE, Stopped.DECISIVE, Status.VERIFIED)
    assert (record.tenant, record.train_consent, record.purpose, record.heldout) == (
        "local",
        True,
        Purpose.AUDIT,
        False,
    )
    assert record.messages[0]["content"] == "What is 2 + 2? Größe: 4 €"
    assert record.verification["checks"][0]["params"] == {"reference": "4"}
    assert record.prompt_token_ids == (1, 2, 49151)
    first, second = record.samples
    assert first.sampling == Sampling(temperature=0.7, top_p=0.9, seed=11, max_tokens=64)
    assert first.behavior_logprobs == (-0.125, None, -3.5) and first.completion_token_ids == (5, 6, 7)
    assert first.checks[0].outcome == "fail" and first.reward == 0.0 and not first.selected
    assert second.censored and second.finish_reason is None and second.ineligible_reason == "no_logprobs"
    assert record.failures == ("engine: connection reset",) and record.cost_usd == 0.00012


def test_a_record_with_tool_turns_is_readable_for_ever() -> None:
    """Turns came after schema 1 was first written: records without them read as samples that took none."""
    older, newer = (decode_group((GOLDEN / name).read_bytes()) for name in ("group-v1.bin", "group-v1-tools.bin"))
    assert all(sample.turns == () and sample.prompt_token_ids is None for sample in older.samples)
    [sample] = newer.samples
    assert (sample.prompt_token_ids, sample.ineligible_reason) == ((1, 2, 7, 8), "tool_turns")
    [turn] = sample.turns
    assert (turn.finish_reason, turn.completion_token_ids, turn.behavior_logprobs) == (
        "tool_calls",
        (5, 6),
        (-0.5, None),
    )
    assert turn.prompt_token_ids is None and turn.message["content"] is None
    assert [(call.name, call.outcome) for call in turn.calls] == [
        ("calculator", ToolOutcome.OK),
        ("search_notes", ToolOutcome.TIMEOUT),
    ]
    first, _ = turn.calls
    assert (first.call_id, first.arguments, first.content, first.ms) == ("c1", '{"expression": "2+2"}', "4", 0.25)


def test_the_golden_record_names_every_field_of_its_schema() -> None:
    payload = msgspec.msgpack.decode((GOLDEN / "group-v1.bin").read_bytes()[1:])
    assert SCHEMA_VERSION == 1, "a new schema needs a golden record of its own; this one stays"
    assert set(payload) <= set(GroupRecord.__struct_fields__)


def test_a_field_added_later_has_a_default() -> None:
    older = msgspec.msgpack.decode(encode(group())[1:])
    del older["failures"]
    assert decode_group(b"P" + msgspec.msgpack.encode(older)).failures == ()


def test_a_field_of_a_later_version_is_passed_over() -> None:
    later = msgspec.msgpack.decode(encode(group())[1:]) | {"invented_later": [1]}
    assert decode_group(b"P" + msgspec.msgpack.encode(later)) == group()


def test_a_newer_schema_is_refused_rather_than_half_understood() -> None:
    with pytest.raises(RecordError, match="schema 2"):
        decode_group(encode(group(schema_version=2)))


@given(
    st.lists(st.tuples(st.integers(0, 2**31), st.none() | st.floats(-50, 0)), max_size=2000),
    st.text(st.characters(codec="utf-8")),
    st.sampled_from(list(Purpose)),
)
def test_what_is_encoded_is_what_is_decoded(
    tokens: list[tuple[int, float | None]], text: str, purpose: Purpose
) -> None:
    drawn = sample(
        message={"role": "assistant", "content": text},
        completion_token_ids=tuple(token for token, _ in tokens),
        behavior_logprobs=tuple(logprob for _, logprob in tokens),
    )
    record = group(samples=(drawn,), purpose=purpose)
    assert decode_group(encode(record)) == record


def test_a_large_record_is_compressed() -> None:
    record = group(messages=({"role": "user", "content": "word " * 5000},))
    assert encode(record)[:1] == b"Z" and len(encode(record)) < 5000
    assert decode_group(encode(record)) == record


@given(st.binary(max_size=200))
def test_noise_is_an_error(noise: bytes) -> None:
    for prefix in (b"", b"P", b"Z"):
        with pytest.raises(RecordError):
            decode_group(prefix + noise)
        with pytest.raises(RecordError):
            decode_answer(prefix + noise)


def test_a_cut_record_is_an_error() -> None:
    for record in (group(), group(messages=({"role": "user", "content": "word " * 5000},))):
        data = encode(record)
        for cut in range(0, len(data), 7):
            with pytest.raises(RecordError):
                decode_group(data[:cut])


def test_an_answer_that_was_not_verified_cannot_be_read_from_a_cache() -> None:
    _, stored = answer()
    forged = msgspec.msgpack.decode(encode(stored)[1:]) | {"status": "consensus"}
    with pytest.raises(RecordError, match="only verified answers"):
        decode_answer(b"P" + msgspec.msgpack.encode(forged))


def test_a_damaged_length_claim_is_an_error_not_an_allocation() -> None:
    claim = b"Z" + bytes.fromhex("28b52ffd") + b"\xe0" + (1 << 40).to_bytes(8, "little") + b"\x01\x00\x00"
    with pytest.raises(RecordError, match="more than a record may hold"):
        decode_answer(claim)

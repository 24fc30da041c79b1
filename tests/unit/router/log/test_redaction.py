"""What a pattern matches is in no file, and what would spell it out trains nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.adapters.segment_log import SegmentLog
from router.enums import ToolOutcome
from router.errors import ConfigError, RecordError
from router.log.groups import read_groups
from router.log.labels import Label, LabelSource
from router.log.redaction import Redactor
from router.records import GroupRecord, ToolCallRecord, TurnRecord
from router.settings import LogSection, RedactSection
from tests.support.training_log import FINGERPRINT, trained_group, trained_sample, write_log
from training.curriculum import Choice
from training.dataset import Accepts, read_dataset
from training.rows import ModelLimits

MAIL = "ada@example.org"
RULES = (
    RedactSection(pattern=r"[\w.+-]+@[\w-]+\.[\w.-]+", replacement=r"[e\1mail]"),
    RedactSection(pattern=r"(?i)launch code \d+"),
)
ASKED = ({"role": "user", "content": [{"type": "text", "text": f"Write to {MAIL}"}]},)
CALL = ToolCallRecord(
    call_id="c", name="search", arguments='{"q": "launch code 77"}', outcome=ToolOutcome.OK, content=MAIL, ms=1.0
)


def said(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def texts(record: GroupRecord) -> str:
    return repr(record)


def test_a_prompt_that_changes_takes_every_token_id_of_its_group(tmp_path: Path) -> None:
    record = Redactor(RULES).group(trained_group(messages=ASKED))
    assert record.messages[0]["content"][0]["text"] == r"Write to [e\1mail]"
    assert MAIL not in texts(record)
    assert record.prompt_token_ids is None
    for sample in record.samples:
        assert (sample.completion_token_ids, sample.behavior_logprobs, sample.rl_eligible) == (None, None, False)
        assert sample.ineligible_reason == "redacted"
    write_log(tmp_path, [record])
    dataset = read_dataset(tmp_path, Accepts(None, None, FINGERPRINT, ModelLimits(100, 16)), Choice(10))
    assert dataset.counts.dropped_rows == {"ineligible_redacted": 2}


def test_a_sample_that_changes_takes_its_own_alone() -> None:
    samples = (
        trained_sample(0, 1.0, message=said("Answer: 4"), behavior_logprobs=(float("nan"), -1.0)),
        trained_sample(1, 0.0, message=said("The Launch Code 0000"), answer_key="launch code 0000"),
        trained_sample(2, 0.0, message={**said("x"), MAIL: 1}),
    )
    record = Redactor(RULES).group(trained_group(samples=samples))
    assert record.samples[0] is samples[0] and record.prompt_token_ids is not None
    assert record.samples[1].message["content"] == "The [redacted]" and record.samples[1].answer_key == "[redacted]"
    assert [sample.ineligible_reason for sample in record.samples] == [None, "redacted", "redacted"]
    assert MAIL not in texts(record)


def test_tools_and_references_and_failures_are_read_too() -> None:
    turn = TurnRecord(
        message=said("let me look"), finish_reason="tool_calls", calls=(CALL,), completion_token_ids=(1, 2),
        prompt_token_ids=(3,), behavior_logprobs=(-1.0, -1.0),
    )  # fmt: skip
    group = trained_group(
        samples=(trained_sample(turns=(turn,)),),
        options={"tools": [{"description": MAIL}]},
        verification={"checks": [{"params": {"reference": "launch code 1"}}]},
        failures=(f"the engine said {MAIL}",),
    )
    record = Redactor(RULES).group(group)
    assert MAIL not in texts(record) and "launch code" not in texts(record).lower()
    [kept] = record.samples[0].turns
    assert (kept.prompt_token_ids, kept.completion_token_ids, kept.behavior_logprobs) == (None, None, None)
    only_reference = Redactor(RULES).group(replace(group, options={}, failures=(), samples=(trained_sample(),)))
    assert only_reference.samples[0].rl_eligible and only_reference.prompt_token_ids is not None


def test_without_rules_and_without_a_match_a_group_is_as_it_was() -> None:
    group = trained_group()
    assert Redactor(()).group(group) is group
    assert Redactor(RULES).group(group) == group


def test_a_note_of_feedback_is_read_too() -> None:
    label = Label(group_id="g", at=1.0, source=LabelSource.FEEDBACK, tenant="t", author="k", note=f"tell {MAIL}")
    assert Redactor(RULES).label(label).note == r"tell [e\1mail]"


def test_a_pattern_that_cannot_be_used_is_refused_at_the_start(tmp_path: Path) -> None:
    section = LogSection(dir=tmp_path, redact=({"pattern": "ok"}, {"pattern": r"(a)\1"}), min_free_bytes=0)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"log\.redact\.1\.pattern: is not a pattern RE2 takes"):
        SegmentLog.open(section)


async def test_what_cannot_be_searched_is_not_written(tmp_path: Path) -> None:
    log = SegmentLog.open(LogSection(dir=tmp_path, redact=RULES, mode="sync", min_free_bytes=0))
    surrogate = trained_group("bad", messages=({"role": "user", "content": f"\ud800 {MAIL}"},))
    with pytest.raises(RecordError, match="group bad cannot be stored") as found:
        await log.append(surrogate)
    assert MAIL not in str(found.value)
    await log.append(trained_group("good", messages=ASKED))
    await log.close()
    assert [record.group_id for _, record in read_groups(tmp_path)] == ["good"]
    assert not any(MAIL.encode() in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())

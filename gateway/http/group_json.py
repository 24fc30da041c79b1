"""Groups as the operators' routes show them: what was asked, drawn, checked and said since. No reference enters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import msgspec

from router.log.labels import Label
from router.log.lookups import GroupRow, ReviewRow
from router.records import CheckRecord, GroupRecord, SampleRecord

_SPEC_FIELDS = ("profile", "on_failure", "samples", "tools", "max_turns")
_CHECK_FIELDS = ("id", "type", "klass", "version", "required", "weight", "timeout_s")  # never its params
_GROUP_FIELDS = (
    "request_id", "tenant", "train_consent", "purpose", "heldout", "messages", "options", "base_model", "policy",
    "engine", "engine_version", "route", "stopped", "escalated", "audit", "planned_samples", "difficulty", "task",
    "status", "reason", "profile", "score", "votes", "failures", "prompt_tokens", "completion_tokens", "cost_usd",
)  # fmt: skip
_SAMPLE_FIELDS = (
    "index", "message", "finish_reason", "truncated", "censored", "policy", "reward", "label_source", "answer_key",
    "selected", "rl_eligible", "ineligible_reason", "turns",
)  # fmt: skip


def row_json(row: GroupRow) -> dict[str, Any]:
    """A group in a list."""
    return {"object": "group", **asdict(row)}


def review_json(row: ReviewRow) -> dict[str, Any]:
    """A group in the review queue."""
    return {**row_json(row.group), "object": "review", "why": row.why}


def group_json(record: GroupRecord, labels: Sequence[Label]) -> dict[str, Any]:
    """The whole group, without references, hidden tests, token ids and log-probabilities."""
    spec = record.verification
    return {
        "object": "group",
        "id": record.group_id,
        "created_at": record.created_at,
        **_some(record, _GROUP_FIELDS),
        "verification": {
            **{name: spec[name] for name in _SPEC_FIELDS if name in spec},
            "checks": [
                {name: check[name] for name in _CHECK_FIELDS if name in check} for check in spec.get("checks", ())
            ],
        },
        "samples": [_sample_json(sample) for sample in record.samples],
        "labels": [msgspec.to_builtins(label) for label in labels],
    }


def _sample_json(sample: SampleRecord) -> dict[str, Any]:
    turns = [{"message": turn.message, "calls": turn.calls} for turn in sample.turns]
    return _some(sample, _SAMPLE_FIELDS) | {"turns": turns, "checks": [_check_json(check) for check in sample.checks]}


def _check_json(check: CheckRecord) -> dict[str, Any]:
    return {("class" if name == "klass" else name): value for name, value in msgspec.structs.asdict(check).items()}


def _some(record: GroupRecord | SampleRecord, names: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(record, name) for name in names}

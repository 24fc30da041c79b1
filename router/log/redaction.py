"""What the operator's patterns match is replaced in a group's texts before they are written; nothing else sees less.

Token ids spell out the text, so they and their log-probabilities go with it: those of a sample whose own text changed,
and those of the whole group when its prompt did. Such samples train nothing; their reason is `redacted`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from router.errors import ConfigError
from router.log.labels import Label
from router.records import GroupRecord, SampleRecord, ToolCallRecord, TurnRecord
from router.settings import RedactSection
from router.verify.linear_regex import LinearPattern, UnsupportedPattern

T = TypeVar("T")


class Redactor:
    """The operator's rules, applied in their order. Raises `ConfigError` for a pattern that RE2 does not take."""

    def __init__(self, rules: Sequence[RedactSection]) -> None:
        self._rules: list[tuple[LinearPattern, str]] = []
        for number, rule in enumerate(rules):
            try:
                self._rules.append((LinearPattern(rule.pattern), rule.replacement))
            except UnsupportedPattern as error:
                raise ConfigError(f"configuration key log.redact.{number}.pattern: {error}") from error

    def group(self, record: GroupRecord) -> GroupRecord:
        """The group as it may be written. Raises `ValueError` for a text that cannot be searched, so that none is."""
        if not self._rules:
            return record
        messages, options = self._texts(record.messages), self._texts(record.options)
        prompt_changed = (messages, options) != (record.messages, record.options)
        return replace(
            record,
            messages=messages,
            options=options,
            verification=self._texts(record.verification),
            failures=self._texts(record.failures),
            prompt_token_ids=None if prompt_changed else record.prompt_token_ids,
            samples=tuple(self._sample(sample, prompt_changed) for sample in record.samples),
        )

    def label(self, label: Label) -> Label:
        """The label as it may be written; raises as `group`."""
        return replace(label, note=self._texts(label.note), team=self._texts(label.team))

    def _sample(self, sample: SampleRecord, prompt_changed: bool) -> SampleRecord:
        clean = replace(
            sample,
            message=self._texts(sample.message),
            stop_reason=self._texts(sample.stop_reason),
            answer_key=self._texts(sample.answer_key),
            turns=tuple(self._turn(turn) for turn in sample.turns),
        )
        # Compared as stored: a value that is not equal to itself (NaN) is no change.
        if not prompt_changed and msgspec.msgpack.encode(clean) == msgspec.msgpack.encode(sample):
            return sample
        gone = {"prompt_token_ids": None, "completion_token_ids": None, "behavior_logprobs": None}
        return replace(
            clean,
            **gone,
            loss_mask=None,
            turns=tuple(replace(turn, **gone) for turn in clean.turns),
            rl_eligible=False,
            ineligible_reason="redacted",
        )

    def _turn(self, turn: TurnRecord) -> TurnRecord:
        return replace(turn, message=self._texts(turn.message), calls=tuple(self._call(call) for call in turn.calls))

    def _call(self, call: ToolCallRecord) -> ToolCallRecord:
        return replace(call, arguments=self._texts(call.arguments), content=self._texts(call.content))

    def _texts(self, value: T) -> T:
        """The value with every text in it replaced, the names of fields too."""
        clean: Any = value
        if isinstance(value, str):
            for pattern, replacement in self._rules:
                clean = pattern.replace(clean, replacement)
        elif isinstance(value, dict):
            clean = {self._texts(name): self._texts(each) for name, each in value.items()}
        elif isinstance(value, list | tuple):
            clean = type(value)(self._texts(each) for each in value)
        return clean  # type: ignore[no-any-return]

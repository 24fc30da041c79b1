"""One logged sample as a training row, or the reason why it is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import cast

import msgspec

from router.enums import CheckClass, Outcome
from router.log.labels import LabelSource
from router.records import GroupRecord, SampleRecord
from router.sampling import LOGPROB_FLOOR


class Row(msgspec.Struct, frozen=True, gc=False):
    """One completion with what it earned. Ids are the engine's own; log-probabilities are natural, one a token."""

    index: int  # launch order within its group
    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    logprobs: tuple[float, ...]  # empty in mode `rft`, which needs none
    mask: tuple[bool, ...]  # which completion tokens are the model's own actions
    reward: float
    truncated: bool  # its end is not the model's choice: counts for its group's baseline, never for the loss
    label_source: str = "verifier"  # who said what it earned
    format_score: float | None = None  # of the check `format`; None: not asked for, or it failed to judge
    process_score: float | None = None  # of the check `arithmetic_steps`, the same

    @property
    def tokens(self) -> int:
        """Tokens of prompt and completion."""
        return len(self.prompt_ids) + len(self.completion_ids)

    @property
    def actions(self) -> int:
        """Completion tokens that the loss sees."""
        return sum(self.mask)


@dataclass(frozen=True, slots=True)
class ModelLimits:
    """What token ids and lengths the model can take."""

    vocab_size: int
    max_length: int


def verified(sample: SampleRecord) -> bool:
    """Whether a decisive check passed and no required one did otherwise; a later label's word counts instead."""
    if sample.label_source in set(LabelSource):
        return sample.reward == 1
    passed = [check for check in sample.checks if check.outcome is Outcome.PASS]
    decisive = any(check.klass == CheckClass.DECISIVE for check in passed)
    return decisive and all(check in passed for check in sample.checks if check.required)


def vetoes(sample: SampleRecord) -> frozenset[str]:
    """The ids of the required checks that it failed."""
    return frozenset(check.id for check in sample.checks if check.required and check.outcome is Outcome.FAIL)


def verified_row(record: GroupRecord, sample: SampleRecord, limits: ModelLimits) -> Row | str:
    """The row of this sample for imitation, or the reason why it is none. How it was drawn does not matter.

    A larger model's sample counts where its engine read the prompt as the same tokens: else its ids say another text.
    """
    foreign = sample.policy != record.policy and sample.prompt_token_ids != record.prompt_token_ids
    prompt, ids, mask = record.prompt_token_ids or (), sample.completion_token_ids or (), _mask(sample)
    faults = {
        "other_tokens": foreign,
        "tool_turns": bool(sample.turns),
        "censored": sample.censored,
        "truncated": cut_off(sample),
        "not_verified": not verified(sample),
        "no_tokens": not prompt or not ids,
        "length_mismatch": len(mask) != len(ids),
        **_misfits(prompt, ids, limits),
        "no_actions": not any(mask),
    }
    fault = next((name for name, found in faults.items() if found), None)
    return fault or Row(sample.index, prompt, ids, (), mask, 1.0, False, sample.label_source)


def training_row(record: GroupRecord, sample: SampleRecord, limits: ModelLimits) -> Row | str:
    """The row of this sample, or the reason, fit for a counter, why it cannot train.

    Eligibility was decided when the sample was logged; the numbers are checked again here, because a ratio made of
    wrong ones shows no sign of it.
    """
    if not sample.rl_eligible:
        return f"ineligible_{sample.ineligible_reason or 'unknown'}"
    prompt, ids, logprobs = record.prompt_token_ids or (), sample.completion_token_ids or (), sample.behavior_logprobs
    known = _finite(logprobs or ())
    mask = _mask(sample)
    faults = {
        "other_policy": sample.policy != record.policy,
        "censored": sample.censored,
        "no_reward": sample.reward is None or not isfinite(sample.reward),
        "no_tokens": not prompt or not ids,
        "length_mismatch": len(ids) != len(logprobs or ()) or len(ids) != len(mask),
        "logprob_floor": known is None,
        **_misfits(prompt, ids, limits),
        "no_actions": not any(mask),
    }
    fault = next((name for name, found in faults.items() if found), None)
    if fault is not None or known is None or sample.reward is None:
        return fault or "no_reward"
    return Row(
        index=sample.index,
        prompt_ids=prompt,
        completion_ids=ids,
        logprobs=known,
        mask=mask,
        reward=sample.reward,
        truncated=cut_off(sample),
        label_source=sample.label_source,
        format_score=_score(sample, "format"),
        process_score=_score(sample, "arithmetic_steps"),
    )


def _score(sample: SampleRecord, kind: str) -> float | None:
    """What the check of this type said, a pass without a score as 1; None without a judgement."""
    found = next((check for check in sample.checks if check.type == kind), None)
    if found is None or found.outcome not in (Outcome.PASS, Outcome.FAIL):
        return None
    return float(found.outcome is Outcome.PASS) if found.score is None else found.score


def _mask(sample: SampleRecord) -> tuple[bool, ...]:
    return sample.loss_mask if sample.loss_mask is not None else (True,) * len(sample.completion_token_ids or ())


def cut_off(sample: SampleRecord) -> bool:
    """Whether the completion ended by length, as the engine said."""
    return sample.truncated or sample.finish_reason == "length"


def _misfits(prompt: Sequence[int], ids: Sequence[int], limits: ModelLimits) -> dict[str, bool]:
    least, most = min(min(prompt, default=0), min(ids, default=0)), max(max(prompt, default=0), max(ids, default=0))
    return {
        "token_range": least < 0 or most >= limits.vocab_size,
        "too_long": len(prompt) + len(ids) > limits.max_length,
    }


def _finite(logprobs: Sequence[float | None]) -> tuple[float, ...] | None:
    """The log-probabilities, None when one of them is missing, not finite, above 0, or an engine's floor."""
    if None in logprobs:
        return None
    known = cast(tuple[float, ...], tuple(logprobs))
    within = isfinite(sum(known)) and min(known, default=0.0) >= LOGPROB_FLOOR and max(known, default=0.0) <= 0
    return known if within else None

"""Logged groups in the shapes that other trainers read; what may not train may not leave either."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from router.log.groups import OnCorrupt, Tally, read_groups
from router.log.labels import LabelSource
from router.records import GroupRecord, SampleRecord
from router.settings import Mode
from training.dataset import Accepts, Counts, group_fault, held_out, relabelled, trusted_labels
from training.groups import group_of, no_signal
from training.imitation import MAX_DISTINCT
from training.overlap import Messages
from training.rows import ModelLimits, cut_off, verified, vetoes

Line: TypeAlias = dict[str, Any]

NO_LIMIT = 2**31


class Format(StrEnum):
    """Whose shape a line has; the names of the columns are TRL's."""

    SFT = "sft"  # messages: a conversation that ends with a verified answer
    DPO = "dpo"  # prompt, chosen, rejected: a verified answer and one that failed, of the same request
    GRPO = "grpo"  # prompt, prompt_ids, completion_ids, logprobs, rewards: a group


def text_accepts(heldout_share: float, questions: tuple[Messages, ...]) -> Accepts:
    """What leaves as text: any policy, base model and template."""
    anything = ModelLimits(NO_LIMIT, NO_LIMIT)
    return Accepts(None, None, None, anything, heldout_share=heldout_share, questions=questions, mode=Mode.RFT)


def exported(log_dir: Path, kind: Format, accepts: Accepts, counts: Counts) -> Iterator[Line]:
    """The lines of one export, a group in memory at a time; groups and samples that are dropped are counted.

    The rules are the trainer's, but for `sft` and `dpo` neither policy nor sampling matters. Memory grows by a digest a
    group, and one an answer. Raises `RecordError` when the list of the forgotten is damaged.
    """
    tally = Tally()
    labels, held = trusted_labels(log_dir, tally), held_out(log_dir, accepts)
    taken: dict[str, set[bytes]] = defaultdict(set)
    make: Mapping[Format, Callable[[GroupRecord], list[Line]]] = {
        Format.SFT: lambda record: _examples(record, counts, taken),
        Format.DPO: lambda record: _pairs(record, counts, taken),
        Format.GRPO: lambda record: _group_line(record, accepts, counts),
    }
    seen: set[str] = set()
    for _, record in read_groups(log_dir, on_corrupt=OnCorrupt.SKIP, tally=tally):
        counts.groups_read += 1
        reason = "duplicate" if record.group_id in seen else group_fault(record, accepts)
        if reason is None and held.repeated_by(record.messages):
            reason = "near_heldout"
        seen.add(record.group_id)
        if reason is not None:
            counts.dropped_groups[reason] += 1
            continue
        lines = make[kind](relabelled(record, labels))
        counts.groups_kept += bool(lines)
        counts.rows_kept += len(lines)
        yield from lines
    counts.forgotten, counts.damage, counts.problems = tally.forgotten, tally.damage, tally.problems


def _examples(record: GroupRecord, counts: Counts, taken: dict[str, set[bytes]]) -> list[Line]:
    shared = {"tools": record.options["tools"]} if record.options.get("tools") else {}
    lines = []
    for sample in record.samples:
        if fault := _example_fault(sample) or _repeated(record, sample, taken):
            counts.dropped_rows[fault] += 1
        else:
            lines.append({"messages": [*record.messages, sample.message], **shared, "group_id": record.group_id})
    if not lines:
        counts.dropped_groups["no_rows"] += 1
    return lines


def _pairs(record: GroupRecord, counts: Counts, taken: dict[str, set[bytes]]) -> list[Line]:
    """Each answer is in one pair at most, and never beside itself: a check may pass and fail the same words."""
    good = [each for each in record.samples if not _example_fault(each)]
    passed = [each.message for each in good]
    bad = [each for each in record.samples if not _unfinished(each) and _failed(each) and each.message not in passed]
    if not good or not bad:
        counts.dropped_groups["no_pair"] += 1
        return []
    lines = []
    for chosen, rejected in zip(good, bad, strict=False):
        if fault := _repeated(record, chosen, taken):
            counts.dropped_rows[fault] += 1
        else:
            pair = {"chosen": [chosen.message], "rejected": [rejected.message]}
            lines.append({"prompt": list(record.messages), **pair, "group_id": record.group_id})
    return lines


def _group_line(record: GroupRecord, accepts: Accepts, counts: Counts) -> list[Line]:
    group = group_of(record, accepts.mode, accepts.limits, counts.dropped_rows)
    if (reason := no_signal(group, accepts.mode)) is not None:
        counts.dropped_groups[reason] += 1
        return []
    line = {
        "prompt": list(record.messages),
        "prompt_ids": group.rows[0].prompt_ids,
        "completion_ids": [row.completion_ids for row in group.rows],
        "logprobs": [row.logprobs for row in group.rows],
        "loss_mask": [row.mask for row in group.rows],
        "rewards": [row.reward for row in group.rows],
        "truncated": [row.truncated for row in group.rows],
        "fixed_size": group.fixed_size,
        "policy": group.policy,
        "template_fingerprint": record.template_fingerprint,
        "group_id": record.group_id,
    }
    return [line]


def _example_fault(sample: SampleRecord) -> str | None:
    return _unfinished(sample) or (None if verified(sample) else "not_verified")


def _unfinished(sample: SampleRecord) -> str | None:
    faults = {"tool_turns": bool(sample.turns), "censored": sample.censored, "truncated": cut_off(sample)}
    return next((name for name, found in faults.items() if found), None)


def _failed(sample: SampleRecord) -> bool:
    """Whether a required check failed; a later label's word counts instead. An error of ours is no failure."""
    if sample.label_source in set(LabelSource):
        return sample.reward == 0
    return bool(vetoes(sample))


def _repeated(record: GroupRecord, sample: SampleRecord, taken: dict[str, set[bytes]]) -> str | None:
    """Why this answer is one too many of its prompt; otherwise it is noted."""
    known = taken[record.prompt_hash]
    digest = blake2b(msgspec.json.encode(sample.message, order="sorted"), digest_size=16).digest()
    if digest in known:
        return "repeated"
    if len(known) == MAX_DISTINCT:
        return "over_cap"
    known.add(digest)
    return None

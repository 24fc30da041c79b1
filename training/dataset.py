"""The sealed group log to groups that may train, with every drop counted by its reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from hashlib import blake2b
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from router.enums import Purpose
from router.errors import ConfigError
from router.heldout import is_heldout
from router.log.groups import OnCorrupt, Span, Tally, joined, read_stored, whole
from router.log.labels import LABEL_FILE, TrustedLabels, read_labels
from router.log.parts import Position
from router.records import GroupHead, GroupRecord, SampleRecord
from router.settings import Mode
from training.curriculum import Choice
from training.groups import Group, group_of, no_signal
from training.overlap import Heldout, Messages
from training.rows import ModelLimits, vetoes


@dataclass(frozen=True, slots=True)
class Accepts:
    """What a group must match to train the successor of the champion."""

    champion: str | None  # None: the base model serves
    base_model: str | None  # its name at the engine; None: whichever single one the log names
    template_fingerprint: str | None  # None: any
    limits: ModelLimits
    heldout_share: float = 0.0
    questions: tuple[Messages, ...] = ()  # messages of the evaluations' held-out questions
    mode: Mode = Mode.GRPO
    older: tuple[str | None, ...] = ()  # champions before this one, whose rows may train as well


@dataclass(slots=True)
class Counts:
    """What was read and what became of it."""

    groups_read: int = 0
    groups_kept: int = 0
    rows_kept: int = 0
    dropped_groups: Counter[str] = field(default_factory=Counter)
    dropped_rows: Counter[str] = field(default_factory=Counter)  # of groups that were not dropped before
    label_sources: Counter[str] = field(default_factory=Counter)  # of the rows kept
    difficulty: Counter[str] = field(default_factory=Counter)  # of the groups kept
    positions: list[Span] = field(default_factory=list)  # what was read of the log, whatever came of it
    forgotten: int = 0
    damage: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)  # one line for each damaged segment

    def keep(self, groups: Sequence[Group]) -> None:
        """Count what stays; a truncated row trains nothing itself."""
        sources = Counter(row.label_source for group in groups for row in group.rows if not row.truncated)
        self.groups_kept, self.rows_kept, self.label_sources = len(groups), sources.total(), sources
        self.difficulty = Counter(group.difficulty.value for group in groups)

    def as_dict(self) -> dict[str, Any]:
        """Everything, as JSON values."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: dict(value) if isinstance(value, Counter) else value for name, value in values.items()}


@dataclass(frozen=True, slots=True)
class Trainable:
    """A group that may train, where it is in the log, and the name of the base model that made it."""

    position: Position
    base_model: str
    group: Group


@dataclass(frozen=True, slots=True)
class Dataset:
    """Groups in the order they were made, and the base model that made them (None when there is no group)."""

    groups: tuple[Group, ...]
    base_model: str | None
    counts: Counts


def read_dataset(
    log_dir: Path,
    accepts: Accepts,
    choice: Choice,
    on_corrupt: OnCorrupt = OnCorrupt.QUARANTINE,
    watch: Callable[[GroupRecord], None] = lambda _: None,
) -> Dataset:
    """The groups that may train and that `choice` takes; no others are kept in memory.

    A damaged file of the log is set aside, unless `on_corrupt` says otherwise. `watch` and what is raised are
    `trainable`'s.
    """
    counts = Counts()
    base_models: set[str] = set()
    for found in trainable(log_dir, accepts, counts, on_corrupt, watch):
        base_models.add(found.base_model)
        choice.offer(found.group)
    kept = choice.taken()
    if over := choice.offered - len(kept):
        counts.dropped_groups["over_limit"] = over
    truncated = sum(row.truncated for group in kept for row in group.rows)
    counts.dropped_rows.update({"truncated": truncated} if truncated else {})
    counts.keep(kept)
    return Dataset(tuple(kept), next(iter(base_models), None), counts)


def trainable(
    log_dir: Path,
    accepts: Accepts,
    counts: Counts,
    on_corrupt: OnCorrupt,
    watch: Callable[[GroupRecord], None] = lambda _: None,
) -> Iterator[Trainable]:
    """The groups of the log that may train, one in memory at a time; what is read and dropped is counted in `counts`.

    `watch` is shown every group that is read whole, with or without a gradient.
    The returned answer of a group earns what the label says that holds for it (`TrustedLabels`), where there is one.
    Memory grows by about 110 bytes a group, for the duplicates. Raises `ConfigError` when the log names several base
    models and none was chosen, `RecordError` when the list of the forgotten or the manifest is damaged.
    """
    tally, seen = Tally(), set[bytes]()
    base_models: set[str] = set()
    labels, held = trusted_labels(log_dir, tally), held_out(log_dir, accepts)
    for stored, head in read_stored(log_dir, on_corrupt=on_corrupt, tally=tally):
        counts.groups_read += 1
        digest = blake2b(head.group_id.encode(), digest_size=16).digest()
        reason = "duplicate" if digest in seen else group_fault(head, accepts)
        seen.add(digest)
        if reason is None and (record := whole(stored, tally)) is not None:
            watch(record)
            if held.repeated_by(record.messages):
                counts.dropped_groups["near_heldout"] += 1
                continue
            group = group_of(relabelled(record, labels), accepts.mode, accepts.limits, counts.dropped_rows)
            reason = no_signal(group, accepts.mode)
            if reason is None:
                base_models.add(head.base_model)
                yield Trainable(stored.position, head.base_model, group)
        if reason is not None:
            counts.dropped_groups[reason] += 1
    counts.forgotten, counts.damage, counts.problems = tally.forgotten, tally.damage, tally.problems
    counts.positions = joined(tally.spans)
    if len(base_models) > 1:
        raise ConfigError(
            f"the log holds groups of several base models ({', '.join(sorted(base_models))}): set [backend] model"
        )


def held_out(log_dir: Path, accepts: Accepts) -> Heldout:
    """The prompts of the held-out split that were logged, and the questions of evaluations. Raises as `trainable`."""
    held, tally = Heldout(), Tally()
    for messages in accepts.questions:
        held.add(messages)
    for stored, head in read_stored(log_dir, on_corrupt=OnCorrupt.SKIP, tally=tally):
        if _is_heldout(head, accepts) and (record := whole(stored, tally)) is not None:
            held.add(record.messages)
    return held


def trusted_labels(log_dir: Path, tally: Tally) -> TrustedLabels:
    """The labels of the log; damaged ones are counted in `tally`."""
    read = [label for _, label in read_labels(log_dir)]
    if damaged := sum(label is None for label in read):
        tally.damage["label"] += damaged
        tally.problems.append(f"{log_dir / LABEL_FILE}: {damaged} line(s) damaged: see `thinktwice log verify`")
    return TrustedLabels(label for label in read if label is not None)


def relabelled(record: GroupRecord, labels: TrustedLabels) -> GroupRecord:
    """The group with the reward of the answer that it returned as learnt since; a label says nothing of the others."""
    label = labels.of(record)
    returned = next((each for each in record.samples if each.selected), None)
    if label is None or returned is None:
        return record
    earned = {"reward": label.value, "label_source": label.source.value}
    samples = (replace(each, **earned) if _same_answer(each, returned) else each for each in record.samples)
    return replace(record, samples=tuple(samples))


def _same_answer(sample: SampleRecord, returned: SampleRecord) -> bool:
    """Whether what is said of the returned sample holds for this one: their words, or their final answers, are equal.

    Other words can fail a required check that the returned ones did not, of their form or length, say.
    """
    if sample.message == returned.message:
        return True
    same = returned.answer_key is not None and sample.answer_key == returned.answer_key
    return same and vetoes(sample) <= vetoes(returned)


def group_fault(record: GroupHead | GroupRecord, accepts: Accepts) -> str | None:
    """The first reason why no row of this group may train, or None."""
    faults = {
        "no_consent": not record.train_consent,
        "purpose": record.purpose in (Purpose.EVAL, Purpose.SHADOW),
        "heldout": _is_heldout(record, accepts),
        "other_model": accepts.base_model not in (None, record.base_model),
        "other_policy": accepts.mode is Mode.GRPO
        and record.policy not in {name or record.base_model for name in (accepts.champion, *accepts.older)},
        "template": accepts.template_fingerprint not in (None, record.template_fingerprint),
    }
    return next((reason for reason, found in faults.items() if found), None)


def _is_heldout(record: GroupHead | GroupRecord, accepts: Accepts) -> bool:
    return record.heldout or is_heldout(record.prompt_hash, accepts.heldout_share)

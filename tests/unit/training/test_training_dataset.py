"""Which logged groups and rows may train, and that every other one is counted under its reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from router.enums import Purpose, Stopped
from router.errors import ConfigError
from router.log.compaction import compact
from router.log.groups import OnCorrupt, Span, claim_worker
from router.log.segments import CORRUPT, frame
from router.log.tombstones import add_tombstone
from router.log.writer import SegmentWriter
from router.record_codec import encode
from router.records import GroupRecord
from tests.support.groups import CHECK, broken
from tests.support.training_log import FINGERPRINT, PROMPT, trained_group, trained_sample, write_log
from training.curriculum import Choice
from training.dataset import Accepts, Counts, Dataset, read_dataset, trainable
from training.ledger import Cycle, Ledger
from training.rows import ModelLimits, Row, verified_row

LIMITS = ModelLimits(vocab_size=100, max_length=16)
ANOTHER = ({"role": "user", "content": "Another question"},)


def read(log_dir: Path, *records: GroupRecord, max_groups: int = 1000, **accepts: Any) -> Dataset:
    write_log(log_dir, records)
    known = {"champion": None, "base_model": None, "template_fingerprint": FINGERPRINT, "limits": LIMITS}
    return read_dataset(log_dir, Accepts(**(known | accepts)), Choice(max_groups))


def ids(dataset: Dataset) -> list[str]:
    return [group.group_id for group in dataset.groups]


def test_a_sound_group_is_kept_whole(tmp_path: Path) -> None:
    dataset = read(tmp_path, trained_group("g", (1.0, 0.0, 0.5)))
    assert ids(dataset) == ["g"]
    assert dataset.base_model == "base"
    group = dataset.groups[0]
    assert group.fixed_size
    assert [row.reward for row in group.rows] == [1.0, 0.0, 0.5]
    assert group.rows[0].prompt_ids == PROMPT
    assert group.rows[0].mask == (True, True)
    assert (dataset.counts.groups_kept, dataset.counts.rows_kept) == (1, 3)
    assert not dataset.counts.dropped_groups
    assert not dataset.counts.dropped_rows


def test_near_repeats_of_what_is_held_out_do_not_train(tmp_path: Path) -> None:
    def asking(group: GroupRecord, text: str) -> GroupRecord:
        return replace(group, messages=({"role": "user", "content": text},))

    story = "A farmer has seven brown hens and buys three more on Monday. How many hens has he now?"
    question = "Which of these rivers flows into the Black Sea: the Po, the Dnieper or the Rhone?"
    dataset = read(
        tmp_path,
        asking(trained_group("held", (1.0, 0.0), heldout=True), story),
        asking(trained_group("near", (1.0, 0.0)), story.replace("Monday", "Friday")),
        asking(trained_group("asked", (1.0, 0.0)), "Think. " + question),
        asking(trained_group("free", (1.0, 0.0)), "How many hens lay how many eggs in a day, or in a week, on a farm?"),
        questions=(({"role": "user", "content": question},),),
    )
    assert ids(dataset) == ["free"]
    assert dataset.counts.dropped_groups == {"heldout": 1, "near_heldout": 2}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"train_consent": False}, "no_consent"),
        ({"purpose": Purpose.EVAL}, "purpose"),
        ({"heldout": True, "messages": ANOTHER}, "heldout"),
        ({"policy": "policy-1-00000000"}, "other_policy"),
        ({"template_fingerprint": "0" * 64}, "template"),
        ({"template_fingerprint": None}, "template"),
    ],
)
def test_a_group_that_must_not_train_is_dropped_and_counted(
    tmp_path: Path, fields: dict[str, Any], reason: str
) -> None:
    dataset = read(tmp_path, trained_group("bad", **fields), trained_group("good"))
    assert ids(dataset) == ["good"]
    assert dataset.counts.dropped_groups == {reason: 1}


def test_24_a_heldout_prompt_is_dropped_even_if_its_record_was_not_marked(tmp_path: Path) -> None:
    dataset = read(tmp_path, trained_group(prompt_hash="00" * 16), heldout_share=0.05)
    assert dataset.counts.dropped_groups == {"heldout": 1}


def test_rows_of_the_champion_train_its_successor_and_older_ones_are_stale(tmp_path: Path) -> None:
    name = "policy-1-00000000"
    fresh = trained_group(
        "new", policy=name, samples=tuple(trained_sample(i, r, policy=name) for i, r in ((0, 1), (1, 0)))
    )
    dataset = read(tmp_path, fresh, trained_group("old"), champion=name)
    assert ids(dataset) == ["new"]
    assert dataset.counts.dropped_groups == {"other_policy": 1}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"rl_eligible": False, "ineligible_reason": "sampling"}, "ineligible_sampling"),
        ({"rl_eligible": False}, "ineligible_unknown"),
        ({"policy": "other"}, "other_policy"),
        ({"censored": True}, "censored"),
        ({"reward": None}, "no_reward"),
        ({"reward": float("nan")}, "no_reward"),
        ({"completion_token_ids": ()}, "no_tokens"),
        ({"behavior_logprobs": (-0.5,)}, "length_mismatch"),
        ({"behavior_logprobs": None}, "length_mismatch"),
        ({"loss_mask": (True,)}, "length_mismatch"),
        ({"behavior_logprobs": (-0.5, -9999.0)}, "logprob_floor"),
        ({"behavior_logprobs": (-0.5, float("nan"))}, "logprob_floor"),
        ({"behavior_logprobs": (-0.5, None)}, "logprob_floor"),
        ({"behavior_logprobs": (-0.5, 0.25)}, "logprob_floor"),
        ({"completion_token_ids": (1, 100)}, "token_range"),
        ({"completion_token_ids": (1,) * 20, "behavior_logprobs": (-1.0,) * 20}, "too_long"),
        ({"loss_mask": (False, False)}, "no_actions"),
    ],
)
def test_18_a_row_that_must_not_train_is_dropped_and_counted(
    tmp_path: Path, fields: dict[str, Any], reason: str
) -> None:
    rows = (trained_sample(0, 1.0), trained_sample(1, 0.0), trained_sample(2, **({"reward": 0.5} | fields)))
    dataset = read(tmp_path, trained_group(samples=rows))
    assert [row.reward for row in dataset.groups[0].rows] == [1.0, 0.0]
    assert dataset.counts.dropped_rows == {reason: 1}


@pytest.mark.parametrize("fields", [{"finish_reason": "length"}, {"truncated": True}])
def test_13_truncation_is_what_the_engine_said_not_the_last_token(tmp_path: Path, fields: dict[str, Any]) -> None:
    stopped_by_string = trained_sample(0, 1.0, stop_reason="\n\n")  # no end token, yet not truncated
    cut = trained_sample(1, 0.0, **fields)
    dataset = read(tmp_path, trained_group(samples=(stopped_by_string, cut)))
    assert [row.truncated for row in dataset.groups[0].rows] == [False, True]
    assert dataset.counts.rows_kept == 1
    assert dataset.counts.dropped_rows == {"truncated": 1}


def test_17_rows_train_on_the_logged_ids_not_on_their_text(tmp_path: Path) -> None:
    drifting = (41, 42, 43)  # H-AV-ING, which its own tokenizer would encode as HAVING
    sample = trained_sample(0, 1.0, completion_token_ids=drifting, behavior_logprobs=(-1.0, -1.0, -1.0))
    dataset = read(tmp_path, trained_group(samples=(sample, trained_sample(1, 0.0))))
    assert dataset.groups[0].rows[0].completion_ids == drifting


def test_a_group_drawn_in_full_with_equal_rewards_is_skipped_and_counted(tmp_path: Path) -> None:
    dataset = read(tmp_path, trained_group(rewards=(1.0, 1.0)))
    assert dataset.counts.dropped_groups == {"zero_spread": 1}


@pytest.mark.parametrize("rewards", [(0.0, 0.0), (1.0,)])
def test_a_group_stopped_by_its_outcome_stays_even_if_equal_or_alone(
    tmp_path: Path, rewards: tuple[float, ...]
) -> None:
    dataset = read(tmp_path, trained_group("g", rewards, audit=False, planned_samples=5))
    assert ids(dataset) == ["g"]
    assert not dataset.groups[0].fixed_size


@pytest.mark.parametrize(
    ("fields", "fixed"),
    [
        ({"audit": True}, True),
        ({"verification": {"samples": {"min": 2, "max": 2}}}, True),
        ({"verification": {"samples": {"min": 1, "max": 2}}}, False),
        ({"audit": True, "stopped": Stopped.DEADLINE}, False),
        ({}, False),
    ],
)
def test_a_size_is_fixed_only_where_no_outcome_could_end_the_group(
    tmp_path: Path, fields: dict[str, Any], fixed: bool
) -> None:
    dataset = read(tmp_path, trained_group(**({"audit": False} | fields)))
    assert dataset.groups[0].fixed_size is fixed


def test_a_group_without_a_usable_row_is_counted(tmp_path: Path) -> None:
    dataset = read(tmp_path, trained_group(rewards=(None, None)))
    assert dataset.groups == ()
    assert dataset.base_model is None
    assert dataset.counts.dropped_groups == {"no_rows": 1}
    assert dataset.counts.dropped_rows == {"no_reward": 2}


def test_the_second_record_of_a_group_is_a_duplicate(tmp_path: Path) -> None:
    dataset = read(tmp_path, trained_group("g"), trained_group("g", (0.0, 1.0)))
    assert ids(dataset) == ["g"]
    assert dataset.groups[0].rows[0].reward == 1.0
    assert dataset.counts.dropped_groups == {"duplicate": 1}


def test_the_newest_groups_are_taken_and_the_rest_counted(tmp_path: Path) -> None:
    records = [trained_group(f"g{n}", created_at=float(n)) for n in (3, 1, 2)]
    dataset = read(tmp_path, *records, max_groups=2)
    assert ids(dataset) == ["g2", "g3"]
    assert dataset.counts.dropped_groups == {"over_limit": 1}


def test_forgotten_groups_are_passed_by_and_counted(tmp_path: Path) -> None:
    add_tombstone(tmp_path, now=0.0, group="gone")
    dataset = read(tmp_path, trained_group("gone"), trained_group("here"))
    assert ids(dataset) == ["here"]
    assert dataset.counts.forgotten == 1


@pytest.mark.parametrize("damage", ["flip", "cut"])
def test_a_damaged_segment_is_set_aside_and_the_others_are_read(tmp_path: Path, damage: str) -> None:
    path = write_log(tmp_path, [trained_group("lost")])
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data) if damage == "flip" else bytes(data[: len(data) // 2]))
    dataset = read(tmp_path, trained_group("whole"))
    assert ids(dataset) == ["whole"]
    assert dataset.counts.damage == {"segment": 1}
    assert str(path) in dataset.counts.problems[0]
    assert path.with_suffix(CORRUPT).exists()
    assert not path.exists()


def test_a_log_of_two_base_models_needs_one_named(tmp_path: Path) -> None:
    other = trained_group(
        "o", base_model="b2", policy="b2", samples=tuple(trained_sample(i, r, policy="b2") for i, r in ((0, 1), (1, 0)))
    )
    with pytest.raises(ConfigError, match=r"b2, base.*backend"):
        read(tmp_path / "a", trained_group("g"), other)
    chosen = read(tmp_path / "b", trained_group("g"), other, base_model="b2")
    assert ids(chosen) == ["o"]
    assert chosen.counts.dropped_groups == {"other_model": 1}


def test_what_is_sealed_late_is_new_though_it_is_older_than_what_was_read(tmp_path: Path) -> None:
    """Two workers: the one's segment is sealed after a cycle has read a younger group of the other."""
    slow = claim_worker(tmp_path)
    writer = SegmentWriter(slow.path, 0)
    writer.append([frame(encode(trained_group("early", created_at=1.0)))])
    write_log(tmp_path, [trained_group("younger", created_at=2.0)])
    accepts = Accepts(None, None, FINGERPRINT, LIMITS)
    before = read_dataset(tmp_path, accepts, Choice(1000))
    writer.seal()
    slow.release()

    ledger = Ledger(tmp_path)
    ledger.begin(Cycle("c", 0))
    ledger.save(Cycle("c", 0, policy="p"), before.counts.positions)
    consumed = ledger.consumed()
    new = [
        found.group.group_id
        for found in trainable(tmp_path, accepts, Counts(), OnCorrupt.SKIP)
        if not consumed.covers(found.position, (found.group.created_at, found.group.group_id))
    ]
    assert ids(before) == ["younger"] and new == ["early"]


def test_groups_beyond_the_limit_are_read_once_and_a_damaged_segment_is_not(tmp_path: Path) -> None:
    write_log(tmp_path, [trained_group(f"g{n}", created_at=float(n)) for n in range(3)])
    damaged = write_log(tmp_path, [trained_group("d")])
    damaged.write_bytes(broken(damaged))
    dataset = read(tmp_path, trained_group("g9", created_at=9.0), max_groups=2)
    assert dataset.counts.positions == [Span("w0", 0, 3), Span("w0", 4, 5)]
    assert dataset.counts.dropped_groups == {"over_limit": 2}


@pytest.mark.parametrize("kept", ["segments", "parquet"])
def test_the_dataset_is_the_same_from_segments_and_from_parquet(tmp_path: Path, kept: str) -> None:
    records = [
        trained_group("a", (1.0, 0.0)),
        trained_group("b", heldout=True, messages=ANOTHER),
        trained_group("c", (1.0, 1.0)),
        trained_group("d", purpose=Purpose.EVAL),
        trained_group("e", (0.0, 0.5, 1.0)),
    ]
    expected = read(tmp_path / "log", *records)
    if kept == "parquet":
        compact(tmp_path / "log", min_free_bytes=0)
    found = read_dataset(tmp_path / "log", Accepts(None, None, FINGERPRINT, LIMITS), Choice(1000))
    assert found.groups == expected.groups and len(found.groups) == 2
    assert found.counts == expected.counts


@pytest.mark.parametrize(("prompt_ids", "imitated"), [(PROMPT, True), ((9, 9), False), (None, False)])
def test_a_larger_models_sample_is_imitated_only_in_the_same_tokens(
    prompt_ids: tuple[int, ...] | None, imitated: bool
) -> None:
    drawn = trained_sample(5, 1.0, policy="big", prompt_token_ids=prompt_ids, checks=(CHECK,))
    found = verified_row(trained_group("g", samples=(drawn,)), drawn, LIMITS)
    assert isinstance(found, Row) if imitated else found == "other_tokens"

"""The exports: what each line holds, what never leaves, and that TRL reads them as they are."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
from trl import apply_chat_template, is_conversational
from trl.data_utils import maybe_apply_chat_template

from router.domain import Sampling
from router.enums import Outcome, Purpose
from router.errors import ConfigError
from router.log.labels import Label, LabelSource, Resolution, append_label
from router.records import CheckRecord, GroupRecord, SampleRecord
from tests.support.groups import CHECK
from tests.support.tiny_policy import tiny_tokenizer
from tests.support.training_log import PROMPT, trained_group, trained_sample, write_log
from training import export_command

FAILED = CheckRecord(
    id="c0", type="math", klass="decisive", outcome=Outcome.FAIL, score=0.0, ms=1.0, version="math@1", weight=1.0
)
OURS = CheckRecord(
    id="c0", type="math", klass="decisive", outcome=Outcome.ERROR, score=None, ms=1.0, version="math@1", weight=1.0
)


def answered(index: int, text: str, check: CheckRecord, **fields: Any) -> SampleRecord:
    reward = {Outcome.PASS: 1.0, Outcome.FAIL: 0.0}.get(check.outcome)
    message = {"role": "assistant", "content": text}
    return trained_sample(index, reward, **({"message": message, "checks": (check,)} | fields))


def mixed(group_id: str = "g0", **fields: Any) -> GroupRecord:
    samples = (answered(0, "4", CHECK), answered(1, "5", FAILED), answered(2, "?", OURS))
    return trained_group(group_id, samples=samples, **fields)


def export(
    tmp_path: Path, kind: str, *records: GroupRecord, config: str = ""
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    log_dir, out, file = tmp_path / "log", tmp_path / "out.jsonl", tmp_path / "thinktwice.toml"
    if records:
        write_log(log_dir, records)
    file.write_text(f'{config}\n[state]\ndir = "{tmp_path}/state"\n')
    parser = argparse.ArgumentParser()
    export_command.register(parser.add_subparsers())
    given = ["export", "--format", kind, "--out", out, "--dir", log_dir, "--config", file, "--json"]
    args = parser.parse_args(list(map(str, given)))
    printed: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("builtins.print", lambda text, **_: printed.append(text))
        assert args.run(args) == 0
    return [json.loads(line) for line in out.read_text().splitlines()], json.loads(printed[-1])


QUESTION = {"role": "user", "content": "What is 2 + 2?"}


def test_sft_lines_are_conversations_that_end_with_a_verified_answer(tmp_path: Path) -> None:
    hot = answered(3, "four", CHECK, sampling=Sampling(temperature=1.7), rl_eligible=False, policy="larger")
    more = trained_group("g1", policy="larger", base_model="larger", samples=(hot, answered(4, "4", CHECK)))
    lines, counts = export(tmp_path, "sft", mixed(), more)
    assert lines == [
        {"messages": [QUESTION, {"role": "assistant", "content": text}], "group_id": group}
        for text, group in (("4", "g0"), ("four", "g1"))
    ]
    assert counts["dropped_rows"] == {"not_verified": 2, "repeated": 1}
    text = apply_chat_template(lines[0], tiny_tokenizer())["text"]
    assert text == "<|start|>user:What is 2 + 2?\n<|start|>assistant:4\n"


def test_dpo_lines_pair_a_verified_answer_with_a_failed_one(tmp_path: Path) -> None:
    lines, counts = export(tmp_path, "dpo", mixed(), trained_group("g1", samples=(answered(0, "4", CHECK),)))
    assert lines == [
        {
            "prompt": [QUESTION], "chosen": [{"role": "assistant", "content": "4"}],
            "rejected": [{"role": "assistant", "content": "5"}], "group_id": "g0",
        }
    ]  # fmt: skip
    assert counts["dropped_groups"] == {"no_pair": 1}  # an error of ours is no failure
    assert is_conversational(lines[0])
    read = maybe_apply_chat_template(lines[0], tiny_tokenizer())
    assert (read["chosen"], read["rejected"]) == ("4\n", "5\n")
    assert read["prompt"] == "<|start|>user:What is 2 + 2?\n<|start|>assistant:"


def test_grpo_lines_hold_what_was_logged_of_each_eligible_row(tmp_path: Path) -> None:
    stale = trained_group("old", policy="policy-1-00000000")
    lines, counts = export(tmp_path, "grpo", mixed(), stale, trained_group("same", (1.0, 1.0)))
    (line,) = lines
    assert line["prompt"] == [QUESTION]
    assert line["prompt_ids"] == list(PROMPT)
    assert line["completion_ids"] == [[11, 12]] * 2
    assert line["logprobs"] == [[-0.25, -1.5]] * 2
    assert (line["rewards"], line["policy"], line["fixed_size"]) == ([1.0, 0.0], "base", True)
    assert counts["dropped_groups"] == {"other_policy": 1, "zero_spread": 1}
    assert counts["dropped_rows"] == {"no_reward": 1}
    assert maybe_apply_chat_template(line, tiny_tokenizer())["prompt"].endswith("<|start|>assistant:")


@pytest.mark.parametrize("kind", ["sft", "dpo", "grpo"])
def test_24_what_may_not_train_never_leaves(tmp_path: Path, kind: str) -> None:
    barred = [
        mixed("a", train_consent=False), mixed("b", heldout=True), mixed("c", purpose=Purpose.EVAL),
        mixed("d", prompt_hash="00" * 16),
    ]  # fmt: skip
    lines, counts = export(tmp_path, kind, *barred, config="[heldout]\nshare = 0.05")
    assert lines == []
    assert counts["dropped_groups"] == {"no_consent": 1, "heldout": 2, "purpose": 1}


@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_an_answer_that_a_review_rejected_is_not_exported(tmp_path: Path, kind: str) -> None:
    drawn_thrice = tuple(answered(index, "4", CHECK, selected=index == 1) for index in range(3))
    (tmp_path / "log").mkdir()
    append_label(
        tmp_path / "log",
        Label(
            group_id="g0", at=1.0, source=LabelSource.REVIEW, tenant="local", author="k", outcome=Resolution.NOT_SOLVED
        ),
    )
    lines, counts = export(tmp_path, kind, trained_group(samples=drawn_thrice))
    assert lines == []
    assert counts["dropped_rows"] == ({"not_verified": 3} if kind == "sft" else {})


def test_a_pair_is_never_of_equal_answers(tmp_path: Path) -> None:
    samples = (answered(0, "4", CHECK), answered(1, "4", FAILED), answered(2, "5", FAILED))
    [line], _ = export(tmp_path, "dpo", trained_group(samples=samples))
    assert (line["chosen"][0]["content"], line["rejected"][0]["content"]) == ("4", "5")


def test_five_answers_of_a_prompt_are_one_too_many(tmp_path: Path) -> None:
    samples = tuple(answered(index, str(index), CHECK) for index in range(5))
    lines, counts = export(tmp_path, "sft", trained_group(samples=samples))
    assert (len(lines), counts["dropped_rows"]) == (4, {"over_cap": 1})


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "out.jsonl").mkdir()
    with pytest.raises(ConfigError, match=r"cannot export to .*out\.jsonl"):
        export(tmp_path, "sft", mixed())
    assert [path.name for path in tmp_path.glob(".out*")] == []

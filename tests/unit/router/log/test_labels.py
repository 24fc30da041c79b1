"""Labels: appended whole or not at all, joined by trust, forgotten with their tenant or group."""

from __future__ import annotations

import shutil
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from router.log.audit import audit
from router.log.forget import forget
from router.log.groups import claim_worker
from router.log.labels import (
    LABEL_FILE,
    Label,
    LabelSource,
    Resolution,
    TrustedLabels,
    append_label,
    forget_labels,
    read_labels,
)
from tests.support.crash import crash_at_every_step
from tests.support.groups import group
from tests.support.training_log import write_log

SOLVED, NOT_SOLVED = Resolution.SOLVED, Resolution.NOT_SOLVED


def label(group_id: str = "a1", **fields: Any) -> Label:
    known: dict[str, Any] = {"at": 1.0, "source": LabelSource.FEEDBACK, "tenant": "a", "author": "k"}
    return Label(group_id=group_id, **(known | fields))


def labels(log_dir: Path) -> list[Label]:
    return [each for _, each in read_labels(log_dir) if each is not None]


def test_what_is_appended_is_read_in_order_and_from_an_offset(tmp_path: Path) -> None:
    told = [label(outcome=SOLVED, note="ja\nnein ✓"), label("b1", score=0.25, rating=5, team="x", minutes_saved=-2.5)]
    for each in told:
        append_label(tmp_path, each)
    assert labels(tmp_path) == told
    first_end = next(read_labels(tmp_path))[0]
    assert [each for _, each in read_labels(tmp_path, first_end)] == told[1:]
    assert (tmp_path / LABEL_FILE).stat().st_mode & 0o777 == 0o600
    assert list(read_labels(tmp_path / "nothing")) == []


def test_an_unfinished_line_is_no_label_and_does_not_spoil_the_next(tmp_path: Path) -> None:
    append_label(tmp_path, label())
    with (tmp_path / LABEL_FILE).open("ab") as file:
        file.write(b'{"group_id": "a1", "note": "' + b"x" * 5000)
    assert len(labels(tmp_path)) == 1 and audit(tmp_path).damage == {}
    append_label(tmp_path, label("a2"))
    assert [each.group_id for each in labels(tmp_path)] == ["a1", "a2"]


@pytest.mark.parametrize(
    "line",
    [b"?", b"{}", b"\xff\xfe", b'{"group_id":"a","at":1,"source":"feedback","tenant":"a","author":"k","score":2}'],
)
def test_a_damaged_line_is_found_and_passed_by(tmp_path: Path, line: bytes) -> None:
    (tmp_path / LABEL_FILE).write_bytes(line + b"\n")
    append_label(tmp_path, label())
    assert [each is None for _, each in read_labels(tmp_path)] == [True, False]
    found = audit(tmp_path)
    assert (found.labels, found.damage) == (1, {"label": 1}) and "line 1, is damaged" in found.problems[0]


def test_a_crash_at_any_step_of_an_append_loses_no_other_label(tmp_path: Path) -> None:
    def prepare() -> None:
        (tmp_path / LABEL_FILE).unlink(missing_ok=True)
        append_label(tmp_path, label("first"))
        with (tmp_path / LABEL_FILE).open("ab") as file:
            file.write(b"torn")

    for died in crash_at_every_step(prepare, lambda: append_label(tmp_path, label("second")), least=2):
        found = [each.group_id for each in labels(tmp_path)]
        assert found == ["first", "second"] or (died and found == ["first"])


def _append_many(log_dir: Path, name: str) -> None:
    for number in range(50):
        append_label(log_dir, label(f"{name}{number}"))


def test_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    writers = [get_context("fork").Process(target=_append_many, args=(tmp_path, name)) for name in "xy"]
    for writer in writers:
        writer.start()
    for _ in range(20):
        forget_labels(tmp_path, lambda each: each.group_id == "nobody")
    for writer in writers:
        writer.join()
    assert {each.group_id for each in labels(tmp_path)} == {f"{name}{number}" for name in "xy" for number in range(50)}


def test_the_most_trusted_source_wins_and_then_the_newest() -> None:
    feedback = [label(outcome=SOLVED), label(outcome=NOT_SOLVED), label(rating=5)]
    audited = label(score=0.5, source=LabelSource.AUDIT)
    review = label(outcome=SOLVED, source=LabelSource.REVIEW, tenant="ops", admin=True)
    record = group("a1", tenant="a")
    assert TrustedLabels(feedback).of(record) == feedback[1]
    assert TrustedLabels([audited, *feedback]).of(record) == audited
    assert TrustedLabels([review, audited, *feedback]).of(record) == review
    assert TrustedLabels([label(rating=5)]).of(record) is None


def test_a_strangers_label_does_not_count() -> None:
    strange = label(outcome=NOT_SOLVED, tenant="b")
    assert TrustedLabels([strange]).of(group("a1", tenant="a")) is None
    assert TrustedLabels([strange]).of(group("a1", tenant="b")) == strange
    operator = label(outcome=NOT_SOLVED, tenant="b", admin=True)
    assert TrustedLabels([operator]).of(group("a1", tenant="a")) == operator


def _fill(log_dir: Path) -> None:
    write_log(log_dir, [group(name, tenant=name[0]) for name in ("a1", "a2", "b1")])
    for name, tenant in (("a1", "a"), ("a2", "ops"), ("b1", "b"), ("b1", "ops"), ("b1", "a"), ("lost", "ops")):
        append_label(log_dir, label(name, tenant=tenant, admin=tenant == "ops", note="secret"))


def test_a_tenants_labels_and_those_of_its_groups_are_forgotten_with_it(tmp_path: Path) -> None:
    _fill(tmp_path)
    assert forget(tmp_path, tenant="a").labels == 3
    assert [(each.group_id, each.tenant) for each in labels(tmp_path)] == [("b1", "b"), ("b1", "ops"), ("lost", "ops")]


def test_a_groups_labels_are_forgotten_with_it(tmp_path: Path) -> None:
    _fill(tmp_path)
    assert forget(tmp_path, group="b1").labels == 3
    append_label(tmp_path, label("b1", tenant="b"))  # a late one
    assert forget(tmp_path, group="b1").labels == 1
    assert forget(tmp_path, group="lost").labels == 1
    assert {each.group_id for each in labels(tmp_path)} == {"a1", "a2"}


def test_a_crash_while_labels_are_forgotten_is_made_good_by_a_repeat(tmp_path: Path) -> None:
    log_dir = tmp_path / "log"

    def prepare() -> None:
        shutil.rmtree(log_dir, ignore_errors=True)
        log_dir.mkdir()
        _fill(log_dir)

    for _ in crash_at_every_step(prepare, lambda: forget(log_dir, tenant="a"), least=15):
        assert forget(log_dir, tenant="a").labels in (0, 3)
        assert [each.group_id for each in labels(log_dir)] == ["b1", "b1", "lost"]
        claim_worker(log_dir).release()
        assert not [path for path in log_dir.rglob("*") if path.suffix == ".tmp"]

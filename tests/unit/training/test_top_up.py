"""`train --top-up`: which prompts are drawn again, how they are asked for, and what ends a run."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from router.domain import Sampling
from router.enums import Purpose
from router.errors import TrainingError
from router.log.groups import claim_worker
from router.log.segments import frame
from router.log.tombstones import add_tombstone
from router.log.writer import SegmentWriter
from router.record_codec import encode
from tests.support.scripted_gateway import ScriptedGateway, completion, refused
from tests.support.training_log import FINGERPRINT, trained_group, trained_sample, write_log
from training.dataset import Accepts
from training.place import Place
from training.rows import ModelLimits
from training.top_up import Drawn, Ended, Wanted, draw, wanted

ACCEPTS = Accepts(None, "base", FINGERPRINT, ModelLimits(300, 64))
CHECK = {
    "id": "c0", "type": "exact", "klass": "decisive", "version": "exact@1", "required": True, "weight": 1.0,
    "timeout_s": 3.0, "params": {"reference": "4"},
}  # fmt: skip


def asked(number: int, rewards: tuple[float | None, ...] = (1.0,), **fields: Any) -> Any:
    """Group `g<number>` of a prompt of its own."""
    known: dict[str, Any] = {
        "created_at": 1.7e9 + number,
        "prompt_hash": f"f{number:031x}",
        "messages": ({"role": "user", "content": f"question {number}"},),
        "verification": {"checks": [CHECK], "tools": []},
    }
    return trained_group(fields.pop("group_id", f"g{number}"), rewards, **(known | fields))


def found(tmp_path: Path, *records: Any, accepts: Accepts = ACCEPTS, most: int = 10) -> list[str]:
    """The groups that a log of these leaves to draw again."""
    write_log(tmp_path, records)
    return [each.group_id for each in wanted(Place(tmp_path, tmp_path, tmp_path), accepts, 4, most)]


def test_prompts_without_a_full_group_of_the_champion_newest_first(tmp_path: Path) -> None:
    old = {"policy": "policy-1-aaaaaaaa", "template_fingerprint": "0" * 64}
    early = asked(3, (1.0, 0.0), audit=False)
    assert found(tmp_path, asked(1), asked(2, (1.0, 0.0, 0.0, 1.0)), early, most=1) == ["g3"]
    again = [asked(4, (1.0,) * 4, **old), asked(5, (1.0,), group_id="later", created_at=1.8e9)]
    assert found(tmp_path, *again, asked(5)) == ["later", "g4", "g3", "g1"]


@pytest.mark.parametrize(
    "fields",
    [
        {"train_consent": False},
        {"purpose": Purpose.EVAL},
        {"heldout": True},
        {"base_model": "other"},
        {"prompt_token_ids": None},  # redacted
        {"verification": {"checks": [], "tools": []}},
        {"verification": {"checks": [CHECK], "tools": ["calculator@1"]}},
        {"options": {"response_format": {"type": "json_object"}}},
    ],
)
def test_what_may_not_or_cannot_train_is_left(tmp_path: Path, fields: dict[str, Any]) -> None:
    assert found(tmp_path, asked(1, **fields), asked(2)) == ["g2"]


def test_neither_forgotten_nor_like_held_out(tmp_path: Path) -> None:
    words = "a train leaves the station at nine and arrives at noon with eleven people"
    near = {"messages": ({"role": "user", "content": words},)}
    add_tombstone(tmp_path, now=1.9e9, group="g1")
    assert found(tmp_path, asked(1), asked(2, heldout=True, **near), asked(3, **near), asked(4)) == ["g4"]


def test_a_prompt_is_drawn_again_once_for_a_champion(tmp_path: Path) -> None:
    undecided = {"purpose": Purpose.REPLAY, "replays": "g1"}
    again = asked(1, (None,) * 4, group_id="again", **undecided)
    worker = claim_worker(tmp_path)
    SegmentWriter(worker.path, 0).append([frame(encode(again))])  # in a segment that is not sealed yet
    assert found(tmp_path, asked(1)) == []
    worker.release()
    short = asked(2, (1.0,), group_id="short", purpose=Purpose.REPLAY, replays="g2")
    assert found(tmp_path, asked(2), short) == ["short"]


def test_a_forgotten_group_takes_its_replay_along(tmp_path: Path) -> None:
    add_tombstone(tmp_path, now=1.9e9, group="g1")
    again = asked(1, group_id="again", purpose=Purpose.REPLAY, replays="g1")
    assert found(tmp_path, again) == []


def test_the_request_is_the_logged_one_as_a_fixed_group_of_the_policy_itself(tmp_path: Path) -> None:
    drawn = trained_sample(sampling=Sampling(temperature=0.3, max_tokens=9))
    write_log(tmp_path, [asked(1, samples=(drawn,), options={"stop": ["x"]}, tenant="acme")])
    [each] = wanted(Place(tmp_path, tmp_path, tmp_path), ACCEPTS, 4, 10)
    headers = {
        "Cache-Control": "no-store", "X-Thinktwice-Purpose": "replay", "X-Thinktwice-Group": "g1",
        "X-Thinktwice-Tenant": "acme",
    }  # fmt: skip
    check = {"type": "exact", "id": "c0", "required": True, "weight": 1.0, "timeout_s": 3.0, "reference": "4"}
    assert each.body["extra_headers"] == headers
    assert each.body["extra_body"] == {
        "stop": ["x"], "temperature": 1.0, "top_p": 1.0, "top_k": -1, "min_p": 0.0, "max_tokens": 9,
        "verification": {"checks": [check], "samples": {"min": 4, "max": 4}, "on_failure": "return"},
    }  # fmt: skip
    assert each.tokens == 4 * (3 + 9) and each.policy == "base"


def run(respond: Any, prompts: int, budget: int = 1000) -> Drawn:
    """What came of drawing so many prompts of at most 60 tokens each."""
    bodies: list[Mapping[str, Any]] = [
        {"model": "champion", "messages": [{"role": "user", "content": str(number)}]} for number in range(prompts)
    ]
    with ScriptedGateway(respond) as gateway:
        given = [Wanted(f"g{number}", "base", body, 60) for number, body in enumerate(bodies)]
        return asyncio.run(draw(gateway.url, given, 4, budget, lambda _: None))


def test_all_of_them(tmp_path: Path) -> None:
    assert run(lambda _: completion("base", samples=4, tokens=40), 6) == Drawn(6, 24, 6 * 45, 0)


def test_the_budget_is_never_exceeded() -> None:
    drawn = run(lambda _: completion("base", samples=4, tokens=55), 6, budget=200)
    assert (drawn.prompts, drawn.tokens, drawn.left, drawn.ended) == (3, 180, 3, Ended.BUDGET)


def test_a_group_cut_short_ends_the_run() -> None:
    drawn = run(lambda _: completion("base", samples=2), 40)
    assert drawn.ended is Ended.BUSY and drawn.prompts == 0 and drawn.left == 40 and drawn.samples <= 8


def test_failed_requests_are_counted_with_what_they_may_have_taken() -> None:
    drawn = run(lambda _: refused(503, "backend_error"), 3)
    assert (drawn.errors, drawn.left, drawn.ended) == ({"503 backend_error": 3}, 3, Ended.DONE)
    assert (drawn.tokens, drawn.lost) == (0, 3 * 60)


def test_failed_requests_spend_the_budget() -> None:
    drawn = run(lambda _: refused(504, "deadline"), 6, budget=200)
    assert (drawn.errors, drawn.left, drawn.ended) == ({"504 deadline": 3}, 6, Ended.BUDGET)


def test_failures_in_a_row_end_the_run() -> None:
    with pytest.raises(TrainingError, match=r"8 requests in a row failed \(504 deadline 8\).*after 0 prompts"):
        run(lambda _: refused(504, "deadline"), 40, budget=10_000)


def test_failures_among_answers_do_not() -> None:
    numbers = count()
    drawn = run(lambda _: refused(504, "x") if next(numbers) % 2 else completion("base", samples=4), 40, budget=10_000)
    assert (drawn.prompts, drawn.errors.total(), drawn.ended) == (20, 20, Ended.DONE)


def test_another_champion_is_an_error() -> None:
    with pytest.raises(TrainingError, match="is policy-9, not base"):
        run(lambda _: completion("policy-9", samples=4), 2)

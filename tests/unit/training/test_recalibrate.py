"""The calibration of the scheduled cycle: whose it is, and when it is made anew."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from router.calibration.file import FILE_NAME, load_calibration
from router.calibration.fit import MIN_PROMPTS
from router.enums import Outcome, Purpose
from router.records import GroupRecord
from router.registry import PolicyRegistry
from router.settings import Settings, load_settings
from tests.support.groups import CHECK, group, sample
from tests.support.training_log import write_log
from training.recalibrate import recalibrate

SPEC = {
    "id": "c0", "type": "math", "klass": "decisive", "version": "math@1", "required": True, "weight": 1.0,
    "timeout_s": 1.0, "params": {},
}  # fmt: skip


def judged(number: int, policy: str, **fields: Any) -> GroupRecord:
    """A group of one sample; every other one solves."""
    outcome = Outcome.PASS if number % 2 else Outcome.FAIL
    check = structs.replace(CHECK, outcome=outcome, score=float(number % 2))
    known: dict[str, Any] = {
        "policy": policy,
        "messages": ({"role": "user", "content": f"What is {number} + {number % 7}?"},),
        "samples": (sample(policy=policy, checks=(check,), reward=check.score),),
        "verification": {"checks": [SPEC]},
        "task": "number",
    }
    return group(f"g{number}", **(known | fields))


@dataclass
class Home:
    """An installation with a log."""

    settings: Settings
    numbers: Iterator[int]

    def log(self, number: int, policy: str = "base", **fields: Any) -> None:
        write_log(self.settings.log.dir, [judged(next(self.numbers), policy, **fields) for _ in range(number)])

    def made(self) -> tuple[str, int] | None:
        """Whose calibration a run makes, and of how many prompts; it is the one in place then."""
        found = recalibrate(self.settings)
        assert found is None or load_calibration(self.settings.state.dir / FILE_NAME) == found
        return None if found is None else (found.policy, found.prompts)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    (tmp_path / "thinktwice.toml").write_text(f'[state]\ndir = "{tmp_path}/state"\n[log]\ndir = "{tmp_path}/log"\n')
    return Home(load_settings(tmp_path / "thinktwice.toml"), count())


def test_it_is_made_once_there_is_enough_and_again_when_there_is_twice_as_much(home: Home) -> None:
    home.log(MIN_PROMPTS - 1)
    home.log(5, purpose=Purpose.EVAL)
    home.log(5, "policy-9-00000000")
    assert home.made() is None and not home.settings.state.dir.exists()
    home.log(1)
    assert home.made() == ("base", MIN_PROMPTS)
    home.log(MIN_PROMPTS - 1)
    assert home.made() is None
    home.log(1)
    assert home.made() == ("base", 2 * MIN_PROMPTS)


def test_it_follows_a_promotion_and_a_rollback(home: Home, tmp_path: Path) -> None:
    home.log(MIN_PROMPTS)
    assert home.made() == ("base", MIN_PROMPTS)
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter.safetensors").write_text("weights")
    registry = PolicyRegistry(home.settings.state.dir)
    promoted = registry.register(tmp_path / "adapter", {})
    registry.promote(promoted, "", "")
    assert home.made() is None
    home.log(MIN_PROMPTS, promoted)
    assert home.made() == (promoted, MIN_PROMPTS)
    registry.rollback("", "")
    assert home.made() == ("base", MIN_PROMPTS)


def test_what_tells_nothing_leaves_what_was_there(home: Home) -> None:
    home.log(MIN_PROMPTS, samples=(sample(),))
    assert home.made() is None
    home.settings.state.dir.mkdir(exist_ok=True)
    (home.settings.state.dir / FILE_NAME).write_text("damaged")
    home.log(MIN_PROMPTS)
    assert home.made() == ("base", 2 * MIN_PROMPTS)

"""The held-out split: stable, of the share asked for, and blind to what does not change a problem."""

from __future__ import annotations

import math
import multiprocessing
import stat
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import ConfigError
from router.heldout import SALT_FILE, is_heldout, load_salt, normalise, prompt_hash
from tests.support.crash import crash_at_every_step

SALT = bytes(range(32))
LETTERS = st.text(string.ascii_letters + string.digits + " +-*/=?.äöüéÀÑ", max_size=60)


def ask(text: Any, **fields: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text, **fields}]


@given(LETTERS, st.sampled_from([" ", "\n", "\t \t", "\u00a0", "\u3000"]))
def test_case_and_white_space_do_not_move_a_prompt(text: str, space: str) -> None:
    expected = prompt_hash(ask(text), SALT)
    assert prompt_hash(ask(text.upper()), SALT) == expected
    assert prompt_hash(ask(space + text.replace(" ", space * 2) + space), SALT) == expected
    assert prompt_hash(ask([{"type": "text", "text": text}]), SALT) == expected


@given(st.text())
def test_normalising_twice_changes_nothing(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_another_number_is_another_problem(first: int, second: int) -> None:
    same = prompt_hash(ask(f"What is {first}?"), SALT) == prompt_hash(ask(f"What is {second}?"), SALT)
    assert same == (first == second)


def test_compatibility_forms_are_one_prompt() -> None:
    assert prompt_hash(ask("ﬁnd ²"), SALT) == prompt_hash(ask("FIND 2"), SALT)


@pytest.mark.parametrize(
    "other",
    [
        [{"role": "system", "content": "what is 2?"}],
        [*ask("what is"), *ask("2?")],
        ask("what is 2?", name="x"),
        ask([{"type": "text", "text": "what is 2?"}, {"type": "image_url", "image_url": {"url": "data:,"}}]),
    ],
)
def test_another_conversation_is_another_prompt(other: list[dict[str, Any]]) -> None:
    assert prompt_hash(other, SALT) != prompt_hash(ask("what is 2?"), SALT)


def test_the_hash_is_the_same_for_ever() -> None:
    assert prompt_hash(ask("What is 2 + 2?"), SALT) == "4f082e97b94b08002b72e48ab93c4f2f"


@pytest.mark.parametrize("share", [0.0, 0.02, 0.05, 0.5, 0.99])
def test_the_share_is_within_its_binomial_bounds(share: float) -> None:
    number = 20_000
    held = sum(is_heldout(prompt_hash(ask(f"problem {i}"), SALT), share) for i in range(number))
    assert abs(held - share * number) <= 5 * math.sqrt(number * share * (1 - share))  # 5 sigma; fixed salt: no flake


@given(st.text(), st.floats(0, 0.99), st.floats(0, 0.99))
def test_a_larger_share_keeps_what_was_held_out(text: str, one: float, other: float) -> None:
    hashed = prompt_hash(ask(text), SALT)
    assert is_heldout(hashed, max(one, other)) >= is_heldout(hashed, min(one, other))


def test_another_salt_is_another_split() -> None:
    hashes = [(prompt_hash(ask(str(i)), SALT), prompt_hash(ask(str(i)), b"other")) for i in range(200)]
    assert any(is_heldout(a, 0.5) != is_heldout(b, 0.5) for a, b in hashes)


def test_the_salt_is_made_once_and_is_private(tmp_path: Path) -> None:
    state = tmp_path / "a" / "state"
    salt = load_salt(state)
    assert len(salt) == 32 and load_salt(state) == salt
    assert stat.S_IMODE((state / SALT_FILE).stat().st_mode) == 0o600


def test_concurrent_first_starts_agree_on_the_salt(tmp_path: Path) -> None:
    with multiprocessing.get_context("fork").Pool(8) as pool:
        assert len(set(pool.map(load_salt, [tmp_path / str(i // 8) for i in range(80)]))) == 10


def test_a_crash_at_any_step_leaves_no_salt_or_a_whole_one(tmp_path: Path) -> None:
    state = tmp_path / "state"

    def prepare() -> None:
        for path in state.glob("*"):
            path.unlink()

    for died in crash_at_every_step(prepare, lambda: load_salt(state), least=4):
        assert len(load_salt(state)) == 32
        assert died or (state / SALT_FILE).exists()


@pytest.mark.parametrize("content", [b"", b"zz" * 32, b"ab" * 31, b"\xff" * 64])
def test_a_damaged_salt_is_refused_with_the_cure(tmp_path: Path, content: bytes) -> None:
    (tmp_path / SALT_FILE).write_bytes(content)
    with pytest.raises(ConfigError, match="restore it from a backup"):
        load_salt(tmp_path)


def test_a_state_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"make \[state\] dir writable"):
        load_salt(tmp_path / "file" / "state")

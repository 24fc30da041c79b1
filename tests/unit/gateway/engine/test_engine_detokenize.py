"""Text comes out whole: no broken characters, no stop string, nothing lost."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from gateway.engine.detokenize import Detokenizer, StopStrings, overlap, token_text

PIECES = st.lists(st.text(alphabet="ab#", max_size=4), max_size=8)
STOPS = st.lists(st.text(alphabet="ab#", min_size=1, max_size=3), max_size=3)


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    ids: list[int] = tokenizer.encode(text).ids
    return ids


@given(st.text(max_size=20))
def test_bytes_become_whole_characters(byte_backend: Tokenizer, text: str) -> None:
    detokenizer = Detokenizer(byte_backend, encode(byte_backend, "prompt"))
    pieces = [detokenizer.push(i) for i in encode(byte_backend, text)]
    assert "".join(pieces) == text
    assert all("�" not in piece for piece in pieces) or "�" in text


def test_an_unfinished_character_gives_no_text(byte_backend: Tokenizer) -> None:
    detokenizer = Detokenizer(byte_backend, [])
    assert [detokenizer.push(i) for i in encode(byte_backend, "é😀")] == ["", "é", "", "", "", "😀"]


def test_special_tokens_give_no_text(byte_backend: Tokenizer) -> None:
    detokenizer = Detokenizer(byte_backend, [1])
    assert [detokenizer.push(i) for i in (2, *encode(byte_backend, "a"), 0)] == ["", "a", ""]


def run(stops: Sequence[str], pieces: Sequence[str]) -> tuple[list[str], str | None]:
    holder = StopStrings(stops)
    shown = []
    for piece in pieces:
        text, stop = holder.push(piece)
        shown.append(text)
        if stop is not None:
            return shown, stop
    return [*shown, holder.flush()], None


@given(STOPS, PIECES)
def test_text_up_to_the_first_stop_string_and_not_one_character_more(stops: list[str], pieces: list[str]) -> None:
    whole = "".join(pieces)
    shown, stop = run(stops, list(whole))
    ends = [(whole.find(s) + len(s), i) for i, s in enumerate(stops) if s in whole]
    if not ends:
        assert (stop, "".join(shown)) == (None, whole)
    else:
        end, which = min(ends)
        assert (stop, "".join(shown)) == (stops[which], whole[: end - len(stops[which])])


@given(STOPS, PIECES)
def test_how_the_text_is_cut_into_pieces_does_not_leak(stops: list[str], pieces: list[str]) -> None:
    whole = "".join(pieces)
    shown, stop = run(stops, pieces)
    assert whole.startswith("".join(shown))
    assert stop is not None or "".join(shown) == whole
    assert not any(s in "".join(shown) for s in stops) or stop is not None


def test_min_tokens_lets_a_stop_string_pass_once() -> None:
    holder = StopStrings(["##", "a#"])
    assert holder.push("x##", match=False) == ("x#", None)
    assert holder.push("#") == ("", "##")


@pytest.mark.parametrize(
    ("text", "stop", "length"), [("ab", "abc", 2), ("xa", "abc", 1), ("abc", "abc", 0), ("", "a", 0)]
)
def test_overlap_is_a_proper_prefix(text: str, stop: str, length: int) -> None:
    assert overlap(text, stop) == length


def test_token_text_gives_a_character_to_the_token_that_completes_it(byte_backend: Tokenizer) -> None:
    ids = encode(byte_backend, "a😀")
    assert [token_text(byte_backend, ids[:i], ids[i]) for i in range(len(ids))] == ["a", "", "", "", "😀"]
    assert token_text(byte_backend, ids, 0) == "<|end|>"

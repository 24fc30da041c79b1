"""Letters of words: how often one is there, and the word backwards."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_lowercase

from gateway.bench.tasks.item import Draw, Item, Rng, number_item, word_item


def counting(words: Sequence[str], most: int) -> Draw:
    """How often a letter is in a word: 0 to `most` times, equally likely, so that no constant answer does well.

    Every count from 0 to `most` must occur in `words`.
    """

    def draw(rng: Rng) -> Item:
        count = rng.randint(0, most)
        found = [(word, letter) for word in words for letter in ascii_lowercase if word.count(letter) == count]
        word, letter = rng.choice(found)
        working = f'{_spelled(word)}: "{letter}" is there {count} {"time" if count == 1 else "times"}.'
        return number_item(f'How many times is the letter "{letter}" in the word "{word}"?', working, count)

    return draw


def reversal(words: Sequence[str]) -> Draw:
    """A word backwards."""

    def draw(rng: Rng) -> Item:
        word = rng.choice(words)
        backwards = word[::-1]
        working = f"{_spelled(word)} backwards is {_spelled(backwards)}."
        return word_item(f'Write the word "{word}" backwards.', working, backwards)

    return draw


def _spelled(word: str) -> str:
    return "-".join(word)

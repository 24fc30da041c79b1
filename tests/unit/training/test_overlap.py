"""Near-repeats of held-out prompts are found; what all prompts of a template share is not taken for one."""

import random

import pytest

from training.overlap import Heldout

STORY = "A farmer has seven brown hens and buys three more at the market on Monday. How many hens has he now?"


def user(text: str) -> list[dict[str, object]]:
    return [{"role": "user", "content": text}]


def holding(*texts: str) -> Heldout:
    held = Heldout()
    for text in texts:
        held.add(user(text))
    return held


@pytest.mark.parametrize(
    ("text", "leaks"),
    [
        (STORY, True),
        (STORY.upper().replace(" ", "\n "), True),  # another case, other white space
        ("Please answer. " + STORY + " Think first.", True),
        (STORY.replace("Monday", "Friday"), True),
        (STORY.replace("seven", "nine").replace("three", "five").replace("Monday", "Friday"), False),  # another problem
        ("A farmer has seven brown hens. How many legs have they?", False),
        ("What is 3 + 4?", False),
        ("", False),
    ],
)
def test_a_changed_copy_is_a_repeat_and_another_question_is_not(text: str, leaks: bool) -> None:
    assert holding(STORY).repeated_by(user(text)) is leaks
    assert not Heldout().repeated_by(user(text))


def test_a_short_prompt_repeats_only_as_a_whole() -> None:
    held = holding("What is 3?")
    assert [held.repeated_by(user(text)) for text in ("what is  3?", "What is 4?", "Well: what is 3?")] == [
        True, False, False,
    ]  # fmt: skip


def test_text_parts_are_read_and_pictures_are_not() -> None:
    parts = [{"type": "text", "text": STORY}, {"type": "image_url", "image_url": {"url": "data:,"}}]
    assert holding(STORY).repeated_by([{"role": "user", "content": parts}])


def test_only_the_question_counts_of_a_conversation() -> None:
    held = Heldout()
    examples = [{"role": "user", "content": STORY}, {"role": "assistant", "content": "10"}]
    held.add([*examples, *user("And if two of the brown hens fly away on the Tuesday?")])
    assert not held.repeated_by([*examples, *user("And if a fox comes and takes one of the hens away?")])
    assert held.repeated_by(user("And if two of the brown hens fly away on the Tuesday?"))


def test_a_template_is_not_a_repeat_however_much_of_the_prompt_it_is() -> None:
    rng = random.Random(0)
    words = [f"w{number}" for number in range(500)]

    def prompt() -> str:
        return "Put these words into the order of the alphabet, one a line: " + " ".join(rng.sample(words, 9))

    prompts = [prompt() for _ in range(30)]
    held = holding(*prompts)
    assert not any(held.repeated_by(user(prompt())) for _ in range(30))
    assert all(held.repeated_by(user(text)) for text in prompts)


def test_a_question_held_out_twice_is_no_template() -> None:
    assert holding(*[STORY] * 5).repeated_by(user("Well: " + STORY))

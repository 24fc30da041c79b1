"""A second verifier accepts nothing that its check does not: final answers."""

from __future__ import annotations

from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.strictness import EXAMPLES, completions, refute

WORDS = (
    "Paris",
    "C",
    "C++",
    "F#",
    "10²",
    "102",
    "x_1",
    "New  York",
    "B) Rome",
    "ﬁ",
    "fi",
    "É",
    "É",
    "ß",
    "ss",
    "*a*",
    "½",
)
words = st.one_of(st.sampled_from(WORDS), st.text("aAbB ()*.,+²ﬁÉ$\\{}_-'", min_size=1, max_size=5))


@EXAMPLES
@given(words, st.booleans(), completions(words))
@example("10²", True, "Answer: 102")
@example("5", True, r"\boxed{5\}}")
@example("Rome", True, "Answer: Paris\nreanswer: Rome")
def test_exact(reference: str, normalize: bool, text: str) -> None:
    refute({"type": "exact", "reference": reference, "normalize": normalize}, text)
    refute({"type": "exact", "reference": [reference, "C", "Paris"]}, text)


letters = st.sampled_from(
    (
        "A",
        "B",
        "b",
        "(B)",
        "B.",
        "B)",
        "B) Rome",
        "B: rome",
        "A or B",
        "B or C",
        "B, C",
        "Rome",
        "B Rome",
        "B) A",
        "[B",
        "BB",
        "C",
        "C++",
        "C+",
        "*B*",
    )
)


@EXAMPLES
@given(
    st.sampled_from(("B", "(b)", "Rome")),
    st.sampled_from((None, ["Paris", "Rome", "A"], ["B", "C"], {"B": "Rome", "D": "C"}, ["C++", "C", "B"])),
    completions(letters),
)
@example("B", None, "Answer: B or C")
@example("B", None, "Answer: B) Vitamin C")
@example("B", ["Paris", "Rome"], "Answer: B) Paris")
def test_choice(reference: str, options: Any, text: str) -> None:
    refute({"type": "choice", "reference": reference, "options": options}, text)


_UNITS = (
    "",
    " km",
    " m",
    "%",
    " percent",
    "°",
    " apples",
    " thousand",
    "k",
    "x",
    " dozen eggs",
    " pi",
    " or 5",
    "...",
    " cm^2",
    ".",
    "e",
    "!",
)
numbers = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(
            ("", "-", "$", "-$", "$-", "€", "+", "~", "x", "2*", "- ", "not ", "3:", "over ", "−", "\\sqrt{")
        ),
        st.sampled_from(
            (
                "5",
                "18",
                "5.0",
                ".5",
                "1,000",
                "12345,678",
                "1,00",
                "10/2",
                "1e3",
                "2 1/2",
                "٢",
                r"\frac{1}{2}",
                r"\frac12",
                "05",
            )
        ),
        st.sampled_from(_UNITS),
    ),
)
references = st.sampled_from(
    ("5", "18", "1000", "10%", "1/2", "5 km", "$5", "-5", "2.5", "5000", "90^\\circ", "12345678", "100")
)


@EXAMPLES
@given(references, st.sampled_from((None, "km", "%", "$", "apples")), completions(numbers))
@example("5", None, "Answer: 5\x0b6")
@example("18", None, "She has 18 dozen.")
@example("2", None, "y = 2x")
def test_numeric(reference: str, unit: str | None, text: str) -> None:
    refute({"type": "numeric", "reference": reference, "unit": unit}, text)


@EXAMPLES
@given(st.integers(1, 3), st.text("abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=9))
@example(1, "thousand")
def test_words_beside_a_number(digit: int, word: str) -> None:
    for text in (
        f"Answer: {digit} {word}",
        f"Answer: {word} {digit}",
        f"There are {digit} {word}.",
        f"It is {word} {digit}.",
    ):
        refute({"type": "numeric", "reference": digit}, text)


def test_words_that_change_a_number() -> None:
    from router.quantity import _NOT_UNITS  # noqa: PLC0415

    for word in sorted(_NOT_UNITS):
        for text in (
            f"Answer: 3 {word}",
            f"Answer: {word} 3",
            f"There are 3 {word}.",
            f"There are 3 nice {word}.",
            f"It is {word} 3.",
        ):
            refute({"type": "numeric", "reference": 3}, text)


formulas = st.sampled_from(
    (
        "5",
        "2+3",
        r"\sqrt{2}",
        r"\sqrt2",
        r"2\sqrt{2}",
        r"\sqrt{8}",
        "x+1",
        "1+x",
        r"\frac{x^2-1}{x-1}",
        "(1,2)",
        "(2,1)",
        "[1,2)",
        "1,2",
        r"\{1,2\}",
        "x<1",
        "1>x",
        "x=5",
        "5%",
        r"5\%",
        "x+0.333...",
        r"\pi",
        "3.14159",
        r"\frac{\pi}{4}",
        r"\pi/4",
        "2(3)",
        "6",
        "3!",
        r"\text{A}",
        "A",
        r"5\text{ cm}",
        r"\int_0^1 x dx",
        "1/2",
        "0.5",
        r"\frac12",
        "x^2+3x+2",
        "(x+1)(x+2)",
        "(x+2)(x+1)",
        "2x+x",
        "3x",
        r"\sin x",
        r"\sin(x)",
        "2^{10}",
        "i^2",
        "-1",
        r"\infty",
        r"(-\infty,1]",
        r"\pm 2",
        "2,-2",
        "x y",
        "yx",
        "1 < x < 2",
        r"\log_2 8",
    )
)


@settings(max_examples=80, deadline=None)
@given(formulas, completions(formulas))
def test_math(reference: str, text: str) -> None:
    refute({"type": "math", "reference": reference}, text)


sums = st.text("123+-*/()= x", min_size=1, max_size=9) | st.sampled_from(
    (
        "1_1",
        "2*3",
        "2(3)",
        "(1+2)(2)",
        "2**3",
        "7//2",
        r"\frac{6}{2}",
        r"2\cdot 3",
        "3+3=6",
        "0x6",
        "-(-6)",
        "6.0",
        "6%",
        "1 1",
        "+6",
        "--6",
        "2x3",
        "6 apples",
    )
)


@EXAMPLES
@given(st.lists(st.integers(1, 6), min_size=1, max_size=3), st.integers(-3, 11), st.booleans(), completions(sums))
@example([1, 1], 11, False, r"\boxed{1_1}")
def test_countdown(numbers: list[int], target: int, use_all: bool, text: str) -> None:
    refute(
        {
            "type": "constraints",
            "rules": [{"rule": "countdown", "numbers": numbers, "target": target, "use_all": use_all}],
        },
        text,
    )

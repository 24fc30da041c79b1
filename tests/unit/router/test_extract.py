from __future__ import annotations

import time

import pytest

from router.extract import MAX_ANSWER_CHARS, Missing, final_answer, last_number


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"\boxed{5}", "5"),
        (r"$\boxed{\frac{1}{2}}$", r"\frac{1}{2}"),
        (r"\boxed{\boxed{5}}", "5"),
        (r"\boxed {5}", "5"),
        (r"\boxed{\{1,2\}}", r"\{1,2\}"),
        ("Answer: 5", "5"),
        ("answer : 5", "5"),
        ("**Answer:** 5", "5"),
        ("**Final Answer: 5**", "5"),
        ("Answer:\n\n5\nbecause", "5"),
        ("#### 5", "5"),
        ("text\n  #### 5\n", "5"),
        ("#### Final Answer: 5", "5"),
        ("Answer: \\boxed{5}", "5"),
        ("Answer: $\\boxed{5}$.", "5"),
        ("Answer: 3\n\nLet me look again.\n\nAnswer: 5", "5"),
        ("\\boxed{3}\n\nThat was the first part.\n\n\\boxed{5}", "5"),
        (r"\boxed{\dfrac{1}{2}} and so \boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        ("Answer: 5\n\\boxed{5}", "5"),
        ("This could be written as 4+1, so \\boxed{5}", "5"),
        ("Answer: yes, it does", "yes, it does"),
    ],
)
def test_final_answer(text: str, answer: str) -> None:
    assert final_answer(text).text == answer


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("", Missing.UNMARKED),
        ("the answer is 5", Missing.UNMARKED),
        (r"\boxed{}", Missing.UNMARKED),
        ("Answer:", Missing.UNMARKED),
        ("##### 5", Missing.UNMARKED),
        (r"\boxed{5", Missing.UNFINISHED),
        (r"\boxed{5} \boxed{6", Missing.UNFINISHED),
        (r"\boxed{3} or \boxed{5}", Missing.AMBIGUOUS),
        (r"\boxed{3}. \boxed{5}", Missing.AMBIGUOUS),
        ("Answer: 3\nAnswer: 5", Missing.AMBIGUOUS),
        ("\\boxed{3}\n\n\nAnswer: 5", Missing.AMBIGUOUS),
        ("Answer: 3\n\\boxed{5}", Missing.AMBIGUOUS),
        ("#### 3\nAnswer: 5", Missing.AMBIGUOUS),
        (r"Maybe \boxed{5}", Missing.HEDGED),
        (r"It could be \boxed{5}", Missing.HEDGED),
        (r"\boxed{5} or 6", Missing.HEDGED),
        (r"3 or \boxed{5}", Missing.HEDGED),
        (r"I am not sure. \boxed{5}. Perhaps more.", Missing.HEDGED),
        (r"\boxed{5}. Wait, that's wrong.", Missing.HEDGED),
        ("Answer: probably 5", Missing.HEDGED),
        ("Answer: either 3 or 5", Missing.HEDGED),
        ("Answer: 3, no wait 5", Missing.HEDGED),
        ("My guess is Answer: 5", Missing.HEDGED),
        (rf"\boxed{{{'1' * (MAX_ANSWER_CHARS + 1)}}}", Missing.TOO_LONG),
    ],
)
def test_no_final_answer(text: str, missing: Missing) -> None:
    found = final_answer(text)
    assert (found.text, found.missing) == (None, missing)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("It is 5.", "5"),
        ("It is -5.", "-5"),
        ("It is $1,234.50.", "$1,234.50"),
        ("3 boxes and 12 cans", "12"),
        ("It is 50%.", "50%"),
        ("It is 50 percent", "50 percent"),
        (r"It is $\frac{3}{4}$.", r"\frac{3}{4}"),
        (r"It is \(12\).", "12"),
        ("It is **12**", "12"),
        ("2 + 3 = 5", "5"),
        ("x=5", "5"),
        ("- 5 apples", "5"),
        ("1/2", "1/2"),
        ("5cm", "5cm"),
        ("12 g of CO2", "12"),
        ("in 2019, 45, then", "45"),
    ],
)
def test_last_number(text: str, number: str) -> None:
    assert last_number(text).text == number


@pytest.mark.parametrize(
    "text",
    [
        "",
        "none",
        "x + 3",
        "x - 3",
        "x -3",
        "5 x",
        "5*x",
        "2*5",
        "f(5)",
        r"\sqrt{2}",
        r"\sqrt 2",
        r"\frac{x}{2}",
        "x^2",
        "x_2",
        "10^{5}",
        "3:45",
        "2024-05-01",
        "10-5",
        "3 plus 5",
        "divided by 5",
        "5 squared",
        "5 = x",
        "maybe 5",
        "it might be 5",
        "3 or 5",
        "5. Wait, no, that is wrong",
    ],
)
def test_no_lone_number(text: str) -> None:
    assert last_number(text).text is None


@pytest.mark.parametrize(
    "unit",
    [
        "\\boxed{",
        "\\boxed{1}",
        "Answer: 1\n",
        "answer",
        "answer   ",
        "####\n",
        "\n \n",
        "1,",
        "or ",
        "maybe ",
        "(",
        "$",
        "1 ",
    ],
)
def test_time_is_linear(unit: str) -> None:
    text = unit * (256 * 1024 // len(unit))
    started = time.process_time()
    final_answer(text)
    last_number(text)
    assert time.process_time() - started < 1.0

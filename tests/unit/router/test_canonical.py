from __future__ import annotations

import time

import pytest

from router.canonical import MAX_JSON_CHARS, answer_key, tool_calls_key
from router.enums import TaskKind
from tests.support.builders import tool_call


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("Answer: 1,234", "1234"),
        ("Answer: 0.50", "1/2"),
        ("Answer: 1/2", "1/2"),
        (r"\boxed{\frac{1}{2}}", "1/2"),
        (r"\boxed{\dfrac{2}{4}}", "1/2"),
        ("Answer: 2 1/2", "5/2"),
        ("Answer: 1.5e3", "1500"),
        ("Answer: -0", "0"),
        ("Answer: 50%", "50%"),
        (r"\boxed{50\%}", "50%"),
        ("Answer: 0.5", "1/2"),
        ("Answer: $18", "18"),
        ("Answer: 18 dollars", "18"),
        ("Answer: 18 apples", "18"),
        ("Answer: 18 cents", "18 cent"),
        ("Answer: 5 m", "5 m"),
        ("Answer: 5 meters", "5 m"),
        ("Answer: 5 cm", "5 cm"),
        ("She has 18 left.", "18"),
        ("42", "42"),
        ("  42. ", "42"),
        ("Answer: 1,23", None),
        ("Answer: 3 or 5", None),
        ("Answer: 3, no wait 5", None),
        ("Answer: 3\nAnswer: 5", None),
        ("Answer: about five", None),
        ("y = x + 3", None),
        ("", None),
        ("Answer: " + "9" * 60, None),
    ],
)
def test_numbers(text: str, key: str | None) -> None:
    assert answer_key(text, TaskKind.NUMBER) == key


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("Answer: b", "B"),
        ("B", "B"),
        ("(C)", "C"),
        ("Answer: (B) Paris", "B"),
        (r"\boxed{\text{D}}", "D"),
        ("Answer: B or C", None),
        ("Answer: B. Vitamin C", None),
        ("Answer: Bananas", None),
        ("The answer is B", None),
        ("Maybe \\boxed{B}", None),
        ("", None),
    ],
)
def test_choices(text: str, key: str | None) -> None:
    assert answer_key(text, TaskKind.CHOICE) == key


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("Paris", "paris"),
        ("Answer:  The  Nile. ", "the nile"),
        ("**Paris**", "paris"),
        (r"\boxed{\text{Paris}}", "paris"),
        ("Answer: Paris or London", None),
        ("maybe Paris", None),
        ("Paris is lovely.\nIt is the capital.", None),
        ("word " * 40, None),
        ("10²", "10²"),
        ("...", None),
    ],
)
def test_short_answers(text: str, key: str | None) -> None:
    assert answer_key(text, TaskKind.SHORT) == key


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('{"b": 1.0, "a": [1, 2]}', '{"a":[1,2],"b":1}'),
        ('```json\n{"a": 1e2}\n```', '{"a":100}'),
        ('{"a": 0.50}', '{"a":0.5}'),
        ('It is {"a": null}.', '{"a":null}'),
        ("0.1", "0.1"),
        ('"x"', '"x"'),
        ('{"a": 1, "a": 2}', None),
        ('{"a": NaN}', None),
        ('{"a": 1e999}', None),
        ('{"a": 1', None),
        ("[" * 5000 + "]" * 5000, None),
        ('"\\ud800"', None),
        ('"' + "a" * MAX_JSON_CHARS + '"', None),
        ("no json", None),
    ],
)
def test_json(text: str, key: str | None) -> None:
    assert answer_key(text, TaskKind.JSON) == key


def test_open_answers_do_not_vote() -> None:
    assert answer_key("Answer: 5", TaskKind.OPEN) is None


@pytest.mark.parametrize("kind", list(TaskKind))
@pytest.mark.parametrize("unit", ["1", "a", "{", "[1,", '{"a":', "\\boxed{1}", "$", "1,", "é", "²", "\u0301"])
def test_time_is_linear(kind: TaskKind, unit: str) -> None:
    text = unit * (256 * 1024 // len(unit))
    started = time.process_time()
    answer_key(text, kind)
    assert time.process_time() - started < 1.0


@pytest.mark.parametrize(
    "same",
    [
        [tool_call('{"a": 1, "b": [2, {"c": null}]}', call_id="other")],
        [tool_call('{"b":[2.0,{"c":null}],"a":1e0}')],
        [tool_call(' {"a": 1, "b": [2, {"c": null}]}\n') | {"index": 0}],
    ],
)
def test_tool_calls_are_compared_by_value(same: list[dict[str, object]]) -> None:
    assert tool_calls_key([tool_call('{"a": 1, "b": [2, {"c": null}]}')]) == tool_calls_key(same)


def test_parallel_tool_calls_are_a_set_with_repetitions() -> None:
    one, two = tool_call('{"a": 1}'), tool_call('{"a": 2}')
    assert tool_calls_key([one, two]) == tool_calls_key([two, one])
    assert len({tool_calls_key(calls) for calls in ([one], [two], [one, two], [one, one], [one, one, two])}) == 5


@pytest.mark.parametrize(
    "other",
    [
        tool_call('{"a": 1}', name="sub"),
        tool_call('{"a": "1"}'),
        tool_call('{"a": 1, "b": null}'),
        tool_call('[{"a": 1}]'),
    ],
)
def test_tool_calls_that_differ(other: dict[str, object]) -> None:
    assert tool_calls_key([other]) not in (None, tool_calls_key([tool_call('{"a": 1}')]))


@pytest.mark.parametrize(
    "call",
    [
        tool_call(""),
        tool_call('{"a": '),
        tool_call('{"a": 1, "a": 2}'),
        tool_call('{"a": NaN}'),
        tool_call("[" * 70 + "]" * 70),
        tool_call('"' + "x" * MAX_JSON_CHARS + '"'),
        {"id": "call-1", "type": "function", "function": {"name": "add", "arguments": {"a": 1}}},
        {"id": "call-1", "type": "custom", "custom": {"name": "add", "input": "1"}},
    ],
)
def test_tool_calls_that_do_not_vote(call: dict[str, object]) -> None:
    assert tool_calls_key([call]) is None
    assert tool_calls_key([tool_call("{}"), call]) is None

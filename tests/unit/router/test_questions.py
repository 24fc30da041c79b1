"""Data rows of `bench` and `evaluate`: both forms, and every bad row by file, line and cure."""

import json
from pathlib import Path

import pytest

from router.errors import ConfigError
from router.questions import load_questions, parse_question


def written(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize(
    ("answer", "kind", "reference"),
    [
        (42, "numeric", "42"),
        (-0.5, "numeric", "-0.5"),
        (" 1,234 ", "numeric", "1,234"),
        ("+7", "numeric", "+7"),
        (".5", "numeric", ".5"),
        ("6e23", "numeric", "6e23"),
        ("1/3", "numeric", "1/3"),
        ("12,34", "math", "12,34"),
        ("e5", "math", "e5"),
        ("-", "math", "-"),
        ("$5", "math", "$5"),
        (r"\sqrt{2}", "math", r"\sqrt{2}"),
        ("x + 1", "math", "x + 1"),
        ("5 km", "math", "5 km"),
    ],
)
def test_a_question_becomes_one_message_and_a_reference(answer: object, kind: str, reference: str) -> None:
    question = parse_question(json.dumps({"question": "How many?", "answer": answer}), 7)
    assert question.line == 7 and question.messages == ({"role": "user", "content": "How many?"},)
    assert question.verification == {"checks": [{"type": kind, "reference": reference}]}


def test_a_system_message_goes_before_questions_alone() -> None:
    system, user = parse_question('{"question": "2+2?", "answer": 4}', 1, "Be brief.").messages
    assert system == {"role": "system", "content": "Be brief."} and user["role"] == "user"
    row = {"messages": [{"role": "user", "content": "?"}], "verification": {"profile": "gsm8k@1"}}
    question = parse_question(json.dumps(row), 1, "Be brief.")
    assert list(question.messages) == row["messages"] and question.verification == row["verification"]


def test_rows_come_in_order_with_their_lines_up_to_the_limit(tmp_path: Path) -> None:
    rows = [json.dumps({"question": str(n), "answer": n, "source": "made"}) for n in range(3)]
    path = written(tmp_path, rows[0], "", rows[1], rows[2])
    assert [question.line for question in load_questions(path)] == [1, 3, 4]
    assert [question.line for question in load_questions(path, limit=2)] == [1, 3]


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ("{", "not JSON"),
        ('{"question": "a", "question": "b", "answer": 1}', "appears twice"),
        ('{"question": "a", "answer": NaN}', "not a JSON number"),
        ("[1]", "not a JSON object"),
        ('{"prompt": "a"}', "neither `question` nor `messages`"),
        ('{"question": "a", "answer": 1, "guard": ""}', "no name"),
        ('{"question": "a"}', "write the expected final answer"),
        ('{"question": "a", "answer": true}', "write the expected final answer"),
        ('{"question": "a", "answer": " "}', "write the expected final answer"),
        ('{"question": "", "answer": 1}', "write the question"),
        ('{"messages": [], "verification": {}}', "as in a chat request"),
        ('{"messages": [{"content": "a"}], "verification": {}}', "no `role`"),
        ('{"messages": [{"role": "user", "content": "a"}]}', "without a `verification` object"),
        ('{"messages": [{"role": "user", "content": "a"}], "verification": {}}', "no decisive check"),
        (
            '{"messages": [{"role": "user"}], "verification": {"checks": [{"type": "numeric"}]}}',
            "verification.checks[0].reference: a numeric check needs reference",
        ),
        (
            '{"messages": [{"role": "user"}], "verification": {"checks": [{"type": "arithmetic_steps"}]}}',
            "no decisive check",
        ),
        ('{"messages": [{"role": "user"}], "verification": {"check": []}}', "verification.check: unknown field"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(row: str, found: str, tmp_path: Path) -> None:
    path = written(tmp_path, '{"question": "2+2?", "answer": 4}', row)
    with pytest.raises(ConfigError) as error:
        load_questions(path)
    assert str(error.value).startswith(f"{path}:2: ") and found in str(error.value)


def test_a_file_without_rows_or_that_is_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no rows"):
        load_questions(written(tmp_path, "", " "))
    with pytest.raises(ConfigError, match="cannot read"):
        load_questions(tmp_path / "absent.jsonl")
    binary = tmp_path / "binary.jsonl"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="UTF-8"):
        load_questions(binary)

"""`thinktwice bench solve`: a command line or a data file that cannot be used is one line and exit 2."""

from pathlib import Path

import pytest

from router.cli import main


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "one.jsonl"
    path.write_text('{"question": "What is 1 + 1?", "answer": "2"}\n')
    return path


@pytest.mark.parametrize(
    "arguments",
    [
        ["--policies", "always-2"],
        ["--policies", ","],
        ["--limit", "0"],
        ["--limit", "many"],
        ["--concurrency", "0"],
        ["--max-tokens", "-1"],
        ["--system-file", "nowhere.txt"],
        ["--system", "a", "--system-file", "b"],
        ["--url", "nonsense"],
    ],
    ids=" ".join,
)
def test_usage_errors_are_exit_2(data: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    try:
        code = main(["bench", "solve", "--data", str(data), *arguments])
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else -1
    assert code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_bench_without_a_name_is_a_usage_error() -> None:
    with pytest.raises(SystemExit) as stop:
        main(["bench"])
    assert stop.value.code == 2


@pytest.mark.parametrize(("row", "says"), [("{", "not JSON"), ('{"question": "x"}', "write the expected final answer")])
def test_a_bad_row_is_one_line_with_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], row: str, says: str
) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text('\n{"question": "fine", "answer": "1"}\n' + row + "\n")
    assert main(["bench", "solve", "--data", str(path)]) == 2
    shown = capsys.readouterr().err
    assert f"{path}:3: " in shown
    assert says in shown
    assert shown.count("\n") == 1


@pytest.mark.parametrize("content", [None, b"", b"\n\n", b"\xff\xfe"], ids=["missing", "empty", "blank", "not text"])
def test_a_file_that_cannot_be_used_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None
) -> None:
    path = tmp_path / "data.jsonl"
    if content is not None:
        path.write_bytes(content)
    assert main(["bench", "solve", "--data", str(path)]) == 2
    shown = capsys.readouterr().err
    assert str(path) in shown
    assert shown.count("\n") == 1

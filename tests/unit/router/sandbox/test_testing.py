"""What test code sees of a candidate: its functions, under no name that is Python's own."""

from __future__ import annotations

from typing import Any

import pytest

from router.sandbox.inside.testing import run_tests
from router.sandbox.inside.values import decode


class OneFunction:
    """The way to a candidate whose every function returns 7, or whatever else the reply says."""

    def __init__(self, reply: Any = None) -> None:
        self.called: list[str] = []
        self._reply = reply or {"value": 7}

    def send(self, message: Any) -> None:
        self.called.append(message["call"])

    def receive(self) -> Any:
        return self._reply


@pytest.mark.parametrize("name", ["abs", "AssertionError", "__builtins__", "__name__", "__import__", "a b", ""])
def test_a_name_that_is_not_the_candidates_to_give_stays_what_it_was(name: str) -> None:
    line = OneFunction()
    source = "import math\nassert f(1) == 7 and abs(-2) == 2 and __name__ == 'tests'\nassert g() == 7"
    assert decode(run_tests({"source": source, "names": ["f", name, "g"], "entry": "f"}, line)["value"]) == [True]
    assert line.called == ["f", "g"]


def test_what_the_test_code_defines_or_imports_is_its_own() -> None:
    line = OneFunction()
    source = "from math import floor\ndef expected(): return 2\nassert floor(2.5) == expected() == 2"
    names = ["f", "floor", "expected", "test_mine", "check"]
    assert decode(run_tests({"source": source, "names": names, "entry": "f"}, line)["value"]) == [True]
    assert line.called == []


@pytest.mark.parametrize(("raised", "caught"), [("KeyError", True), ("StopIteration", False), ("SystemExit", False)])
def test_an_exception_arrives_as_its_class_unless_it_would_end_a_loop(raised: str, caught: bool) -> None:
    line = OneFunction({"raised": {"type": raised, "message": "no"}})
    source = "assert all(map(lambda x: f(x) == x, range(3)))"
    assert decode(run_tests({"source": source, "names": ["f"], "entry": "f"}, line)["value"]) == [False]
    source = f"try:\n    f(1)\nexcept {raised}:\n    pass"
    assert decode(run_tests({"source": source, "names": ["f"], "entry": "f"}, line)["value"]) == [caught]

"""Frames that a sandbox never sends by itself: whatever they say, each check comes to an outcome."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from router.enums import Outcome
from router.sandbox.inside.values import NotPlain, decode
from router.verify.check_type import SandboxedCheck
from router.verify.registry import SANDBOXED_TYPES
from router.verify.second.sandboxed import SECOND_SANDBOXED
from tests.support.scripted_boxes import ScriptedJob, value

KEYS = st.sampled_from(["value", "raised", "unplain", "call", "args", "kwargs", "state", "type", "message", *"fltdx"])
TEXTS = st.sampled_from(["0x1p99999", "-0x1p99999", "nan", "f", "add", "rows", "setup", "TypeError"]) | st.text(
    max_size=3
)
NUMBERS = st.integers() | st.sampled_from([10**4000, -(10**400)]) | st.floats()
LEAVES = st.none() | st.booleans() | NUMBERS | TEXTS
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=2), max_leaves=6
)
CODED = st.recursive(
    LEAVES | st.fixed_dictionaries({"f": TEXTS}),
    lambda inner: st.dictionaries(st.sampled_from("ltd"), st.lists(inner, max_size=2), min_size=1, max_size=1),
    max_leaves=6,
)
FRAMES = (
    st.dictionaries(KEYS, JSON, max_size=3)
    | st.fixed_dictionaries({"value": CODED}, optional={"state": CODED})
    | st.fixed_dictionaries({"call": JSON, "args": JSON, "kwargs": JSON})
    | st.fixed_dictionaries({"raised": st.fixed_dictionaries({"type": TEXTS, "message": TEXTS})})
)
BOXES = 16  # more than a check opens
LOADED = value(["f"])
ROWS = {"value": {"t": ["rows", {"l": [{"l": [10**400]}]}]}}
SETUPS = ["CREATE TABLE t (n); INSERT INTO t VALUES (1)", "CREATE TABLE t (n); INSERT INTO t VALUES (2)"]
CHECKS: list[tuple[str, dict[str, Any]]] = [
    ("python_tests", {"entry": "f", "cases": [{"args": [1], "expect": 0.1}, {"expect": {"a": [None]}}]}),
    ("python_tests", {"entry": "f", "code": "assert f(1) == 0.1"}),
    ("python_outputs", {"entry": "f", "args": ["int"]}),
    ("sql", {"fixtures": [{"setup": setup, "expect": [[0.1], ["x"]]} for setup in SETUPS]}),
    ("sql", {"setup": SETUPS, "reference_query": "SELECT n FROM t"}),
]


@pytest.mark.parametrize(("name", "fields"), CHECKS, ids=lambda given: given if isinstance(given, str) else "")
@settings(max_examples=50)
@given(frames=st.lists(FRAMES, min_size=1, max_size=3), loads=st.booleans())
@example(frames=[{"value": {"f": "0x1p99999"}}], loads=True)
@example(frames=[{"value": None, "state": {"f": "0x1p99999"}}], loads=True)
@example(frames=[ROWS], loads=True)
@example(frames=[{"call": [], "args": None, "kwargs": None}], loads=True)
def test_every_check_comes_to_an_outcome(
    name: str, fields: dict[str, Any], frames: list[dict[str, Any]], loads: bool
) -> None:
    for kind in filter(None, (SANDBOXED_TYPES[name], SECOND_SANDBOXED.get(f"second:{name}"))):
        found = asyncio.run(judged(kind, fields, [LOADED, *frames] if loads else frames))
        assert found in Outcome


async def judged(kind: SandboxedCheck[Any], fields: dict[str, Any], frames: Sequence[dict[str, Any]]) -> Outcome:
    job = ScriptedJob(*(itertools.chain(frames, itertools.repeat(frames[-1])) for _ in range(BOXES)))
    found = await kind.run(msgspec.convert(fields, kind.params), "text", job, 60.0)
    return found.outcome


@given(JSON | CODED)
@example({"f": "0x1p99999"})
@example({"f": 1})
@example({"d": [[{"l": []}, 1]]})
@example({"l": 10**4000})
def test_reading_a_value_gives_one_or_the_one_error(coded: Any) -> None:
    try:
        read = decode(coded)
    except NotPlain:
        return
    assert type(read) in (type(None), bool, int, float, str, list, tuple, dict)

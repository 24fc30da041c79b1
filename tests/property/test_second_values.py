"""A second verifier accepts nothing that its check does not: patterns, JSON values, plans and grids."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from router.verify.checks.python_tests import same
from router.verify.second import python_tests
from tests.support.strictness import EXAMPLES, refute

_ATOMS = (
    "a",
    "b",
    "ab",
    ".",
    r"\d",
    r"\w",
    r"\s",
    r"\S",
    r"\b",
    r"\B",
    "^",
    "$",
    "[a-c]",
    "[^a]",
    "[[:alpha:]]",
    "[[a]",
    "[]a]",
    "[a-]",
    "[-a]",
    "[a-c-e]",
    r"[\d-z]",
    r"[\w.]",
    "[a&&b]",
    "[a--b]",
    r"\.",
    r"\Z",
    r"\z",
    r"\A",
    "(",
    "(?:",
    "(?P<n>",
    ")",
    "|",
    "{",
    "}",
    "]",
    "(?i)",
    "(?s)",
    "(?m)",
    "(?i:",
    r"\x61",
    r"\07",
    r"\n",
    r"\Q",
    "é",
    "K",
    r"\pL",
    "(?-s)",
    " ",
    "#",
    "-",
)
_COUNTS = ("", "", "", "*", "+", "?", "*?", "++", "{2}", "{1,}", "{,2}", "{0,2}", "{1,2}?", "{2}+", "{2}{2}", "??")
patterns = st.lists(st.tuples(st.sampled_from(_ATOMS), st.sampled_from(_COUNTS)), min_size=1, max_size=5).map(
    lambda parts: "".join(atom + count for atom, count in parts)
)
closed = patterns.map(lambda pattern: pattern + ")" * max(0, pattern.count("(") - pattern.count(")")))
subjects = st.text("abcz.1 \n\v\t-A_{},ékK\u212a:[]&#", max_size=8)


@settings(max_examples=150, deadline=None)
@given(closed, st.sampled_from(("full", "search")), subjects)
@example("[[:alpha:]]", "search", "a]")
@example("a{,2}", "full", "aa")
@example(r"a\sb", "full", "a\vb")
@example("(?i)[^k]", "full", "\u212a")
def test_regex(pattern: str, match: str, text: str) -> None:
    refute({"type": "regex", "pattern": pattern, "match": match}, text)


_FORMATS = (
    "date",
    "date-time",
    "time",
    "email",
    "ipv4",
    "ipv6",
    "uuid",
    "uri",
    "hostname",
    "regex",
    "duration",
    "unknown",
)
_FORMATTED = (
    "2023-02-29",
    "2024-02-29",
    "0000-01-01",
    "2024-01-01T00:00:00Z",
    "2024-01-01T23:59:60Z",
    "a@b",
    "a@b.cc",
    "a..b@c.de",
    "1.2.3.4",
    "01.2.3.4",
    "::1",
    "::1%a",
    "1::2::3",
    "x",
    "",
    "12345678-1234-1234-1234-123456789012",
    "a_@-b.de",
    "2024-01-01t00:00:00+01:00",
)
parts = st.one_of(
    st.sampled_from(_FORMATTED),
    st.text("0123456789.:-TZ+@abf", max_size=14),
    st.integers(-3, 3),
    st.floats(-4, 4, width=16),
    st.booleans(),
    st.none(),
    st.sampled_from((10**20, 2**53 + 1, 1e300)),
)
values = st.recursive(
    parts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=5,
)
leaves = st.one_of(
    st.builds(lambda name: {"format": name}, st.sampled_from(_FORMATS)),
    st.builds(lambda pattern: {"pattern": pattern}, closed),
    st.builds(
        lambda name: {"type": name},
        st.sampled_from(("string", "integer", "number", "array", "object", "boolean", "null")),
    ),
    st.builds(
        lambda key, bound: {key: bound},
        st.sampled_from(("minimum", "maximum", "multipleOf", "const")),
        st.sampled_from((1, 2, 0.5, 0.1, 1.5, 2**53 + 1)),
    ),
    st.builds(
        lambda key, bound: {key: bound},
        st.sampled_from(("minLength", "maxLength", "minItems", "maxProperties")),
        st.integers(0, 3),
    ),
    st.just({"uniqueItems": True}),
    st.builds(lambda items: {"enum": items}, st.lists(values, min_size=1, max_size=3)),
)
schemas = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(lambda one, other: {**one, **other}, inner, inner),
        st.builds(lambda schema: {"items": schema}, inner),
        st.builds(lambda schema: {"properties": {"a": schema}, "required": ["a"]}, inner),
        st.builds(lambda schema: {"patternProperties": {"^[ab]$": schema}, "additionalProperties": False}, inner),
        st.builds(lambda schema: {"not": schema}, inner),
        st.builds(lambda one, other: {"anyOf": [one, other]}, inner, inner),
    ),
    max_leaves=4,
)
wrappers = st.sampled_from(
    ("%s", "```json\n%s\n```", "It is %s", "%s or {}", "```\n{}\n```\n```\n%s", "%s\n```\n%s\n```", "[%s", " %s\n")
)


@settings(max_examples=150, deadline=None)
@given(schemas, values, wrappers)
@example({"format": "email"}, "x", "%s")
@example({"pattern": "^a$"}, "a\n", "%s")
@example({"type": "object"}, {"a": 1}, '%s or {"a": 2}')
def test_json_schema(schema: dict[str, Any], value: Any, wrapper: str) -> None:
    refute({"type": "json_schema", "schema": schema}, wrapper.replace("%s", json.dumps(value)))


@EXAMPLES
@given(
    st.sampled_from(
        (
            '{"a":1,"a":2}',
            "NaN",
            "1e999",
            "[" * 65 + "]" * 65,
            "1e-400",
            "-Infinity",
            '{"a":1}{"a":1}',
            "\ufeff1",
            "01",
            '"\x01"',
        )
    )
)
def test_texts_that_are_no_json(text: str) -> None:
    refute({"type": "json_schema", "schema": True}, text)


items = st.one_of(
    st.sampled_from(("a", "A", "a.", "b", "*a*", "10²", "102", "C++", "C", r"\text{a}", "5", "", "1/2", "1_0", "٥")),
    st.integers(-2, 6),
    st.booleans(),
    st.floats(-2, 6, width=16),
    st.none(),
)
plain_items = st.one_of(st.sampled_from(("a", "b", "C", "C++", "102", "5")), st.integers(0, 5), st.booleans())
rules = st.one_of(
    st.builds(
        lambda name, listed, at: {"rule": name, "items": listed, "at": at},
        st.sampled_from(("required", "forbidden", "allowed", "order")),
        st.lists(plain_items, min_size=1, max_size=3),
        st.sampled_from(("/*", "/a/*", "/*/a", "", "/0", "/-1")),
    ),
    st.builds(lambda at: {"rule": "unique", "at": at}, st.sampled_from(("/*", "/a/*", "/*/*"))),
    st.builds(
        lambda name, low, high, at: {"rule": name, "min": low, "max": low + high, "at": at},
        st.sampled_from(("count", "range", "sum")),
        st.integers(-1, 3),
        st.integers(0, 5),
        st.sampled_from(("/*", "/a/*", "/a", "/*/a")),
    ),
)
plans = st.one_of(
    st.lists(items, max_size=4).map(json.dumps),
    st.dictionaries(st.sampled_from("ab"), st.lists(items, max_size=3) | items, max_size=2).map(json.dumps),
    st.lists(st.dictionaries(st.sampled_from("ab"), items, max_size=2), max_size=3).map(json.dumps),
    st.lists(
        st.tuples(
            st.sampled_from(("- ", "1. ", "* ", "", "-")),
            st.sampled_from(("a", "b", "5", "[1", '"a"')),
            st.sampled_from(("\n", "\n\n", "\nFinal:\n")),
        ),
        max_size=4,
    ).map(lambda lines: "".join(map("".join, lines))),
    st.sampled_from(("", " ", "]]]", "{", "none", "```\n[]\n```", '["a"] or ["b"]', '{"a": "b"}', '"ab"')),
)


@settings(max_examples=150, deadline=None)
@given(rules, plans)
@example({"rule": "forbidden", "items": ["a"]}, "")
@example({"rule": "forbidden", "items": ["a"], "at": "/*"}, '"ab"')
@example({"rule": "required", "items": ["a"]}, "Draft:\n- a\n- b\n\nFinal:\n- b\n- c")
def test_plans(rule: dict[str, Any], text: str) -> None:
    refute({"type": "constraints", "rules": [rule]}, text)


SOLVED = ("1234", "3412", "2143", "4321")


@EXAMPLES
@given(
    st.lists(
        st.sampled_from(
            (
                *SOLVED,
                "1 2 3 4",
                "3|4|1|2",
                "---",
                "",
                "1. 1234",
                "- 3412",
                "Row 1234",
                "[2,1,4,3]",
                "4321 end",
                "12345",
                "1:234",
                "```",
            )
        ),
        max_size=9,
    ),
    st.sampled_from(("\n", "\n\n", " ", "")),
)
@example(["1234", "3412", "2143", "4321"], "\n")
@example(["1234341221434321"], "\n")
def test_sudoku(lines: list[str], separator: str) -> None:
    puzzle = ["1...", "....", "....", "...."]
    rule = {"type": "constraints", "rules": [{"rule": "sudoku", "puzzle": puzzle}]}
    refute(rule, separator.join(lines))
    refute(rule, separator.join([*lines, *SOLVED]))
    refute(rule, json.dumps([list(map(int, line)) if line.isdecimal() else line for line in lines]))


@settings(max_examples=100, deadline=None)
@given(values, values)
@example([1.0], [True])
@example({"a": 0.3}, {"a": 0.1 + 0.2})
def test_results_of_python(expected: Any, value: Any) -> None:
    near = json.loads(json.dumps(expected).replace(".5", ".50000000001"))
    for found in (value, near, tuple(value) if isinstance(value, list) else expected):
        if python_tests.equal(expected, found):
            assert same(expected, found), (expected, found)

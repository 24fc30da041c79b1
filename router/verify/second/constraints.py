"""The second verifier of `constraints`: the same rules, written out over plain Python values."""

from __future__ import annotations

import ast
import itertools
import operator
import re
from collections.abc import Mapping
from fractions import Fraction
from types import MappingProxyType
from typing import Any

import msgspec

from router.verify.checks.constraints import ConstraintsParams
from router.verify.second.plain_json import NoJson, json_value
from router.verify.second.reading import Unreadable, stated
from router.verify.second.words import place, same_words

_OPERATORS: Mapping[type[ast.operator], Any] = MappingProxyType(
    {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}
)


_BESIDE = r"[\s|,'\"\[\]]+"
_LISTED = re.compile(r"[ \t]*(?:[0-9]{1,4}[.)]|[-*•])[ \t]+\S")


def constraints(params: ConstraintsParams, text: str) -> bool:
    """Whether every rule holds."""
    return all(_holds(msgspec.to_builtins(rule), text) for rule in params.rules)


def _holds(rule: dict[str, Any], text: str) -> bool:
    name = rule["rule"]
    if name == "countdown":
        return _countdown(rule, stated(text))
    if name == "sudoku":
        return _sudoku(rule["puzzle"], text)
    values = _values(_value(text), rule["at"].split("/")[1:])
    if name in ("count", "range", "sum"):
        return _bounded(rule, values)
    if name == "unique":
        return not any([_same(first, second) for first, second in itertools.combinations(values, 2)])
    places = [place(value, rule["items"], _same) for value in values]
    found = [index for index in places if index is not None]
    if name == "order":
        return all(first <= second for first, second in itertools.pairwise(found))
    present = {
        "required": set(found) == set(range(len(rule["items"]))),
        "forbidden": not found,
        "allowed": len(found) == len(places),
    }
    return present[name]


def _bounded(rule: dict[str, Any], values: list[Any]) -> bool:
    low, high = (None if rule.get(bound) is None else Fraction(str(rule[bound])) for bound in ("min", "max"))
    numbers = [Fraction(len(values))] if rule["rule"] == "count" else [_number(value) for value in values]
    tested = [sum(numbers, Fraction(0))] if rule["rule"] == "sum" else numbers
    return bool(tested) and all(
        (low is None or low <= number) and (high is None or number <= high) for number in tested
    )


def _value(text: str) -> Any:
    try:
        return json_value(text, Fraction)
    except NoJson as error:
        lines = [line for line in text.splitlines() if line.strip()]
        marked = [index for index, line in enumerate(lines) if _LISTED.match(line)]
        if not marked or marked[-1] - marked[0] >= len(marked) or re.search(r"[][{}\"`]", text):
            raise Unreadable("no JSON value and no list") from error
        return [line.split(maxsplit=1)[1].strip() for line in lines[marked[0] : marked[-1] + 1]]


def _values(value: Any, path: list[str]) -> list[Any]:
    if not path:
        return [value]
    if not isinstance(value, dict | list):
        raise Unreadable("nothing where the rule looks")
    children = list(value.values()) if isinstance(value, dict) else value
    if path[0] != "*":
        name = path[0].replace("~1", "/").replace("~0", "~")
        if isinstance(value, list) and re.fullmatch("[0-9]{1,6}", name) is None:
            raise Unreadable("nothing where the rule looks")
        children = [value[int(name)] if isinstance(value, list) else value[name]]
    return [found for child in children for found in _values(child, path[1:])]


def _number(value: Any) -> Fraction:
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,20}(?:\.[0-9]{1,20})?", value.strip()) is not None:
        return Fraction(value.strip())
    if isinstance(value, int | Fraction) and not isinstance(value, bool):
        return Fraction(value)
    raise Unreadable("something else where a number belongs")


def _same(first: Any, second: Any) -> bool:
    """Whether two JSON values are equal: numbers by value, texts by their words. Raises `Unreadable`."""
    if isinstance(first, str) and isinstance(second, str):
        return same_words(first, second)
    if {type(first), type(second)} & {str} and {type(first), type(second)} & {int, float, Fraction}:
        text, number = (first, second) if isinstance(first, str) else (second, first)
        if re.search(r"\d", text):
            raise Unreadable(f"a text where {number} may stand")
    if isinstance(first, bool) or isinstance(second, bool) or first is None or second is None:
        return first is second
    if isinstance(first, int | float | Fraction) and isinstance(second, int | float | Fraction):
        return Fraction(str(first)) == Fraction(str(second))
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all([_same(one, other) for one, other in zip(first, second, strict=True)])
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all([_same(first[name], second[name]) for name in first])
    return False


def _countdown(rule: dict[str, Any], answer: str) -> bool:
    answer = re.sub(r"\\[dtc]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}", r"((\1)/(\2))", answer)
    for spelled, sign in (
        ("\\times", "*"),
        ("\\cdot", "*"),
        ("\\div", "/"),
        ("×", "*"),
        ("÷", "/"),
        ("−", "-"),
        (")(", ")*("),
    ):
        answer = answer.replace(spelled, sign)
    sides = [side.strip(" $.") for side in answer.split("=")]
    values: list[Fraction] = []
    for side in sides:
        if re.fullmatch(r"[0-9+\-*/() ]{1,200}", side) is None or re.search(r"[-+*/] *[-+*/]", side):
            raise Unreadable("no calculation")
        try:
            values.append(_worked_out(ast.parse(side, mode="eval").body))
        except (SyntaxError, ZeroDivisionError) as error:
            raise Unreadable("no calculation") from error
    left = list(rule["numbers"])
    for digits in re.findall(r"[\d.]+", sides[0]):
        if not digits.isdecimal() or int(digits) not in left:
            return False
        left.remove(int(digits))
    return all(value == rule["target"] for value in values) and not (rule["use_all"] and left)


def _worked_out(node: ast.expr) -> Fraction:
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return Fraction(node.value)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_worked_out(node.operand)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return Fraction(_OPERATORS[type(node.op)](_worked_out(node.left), _worked_out(node.right)))
    raise Unreadable("no calculation")


def _sudoku(puzzle: list[Any], text: str) -> bool:
    size = len(puzzle)
    rows = _rows(text, size)
    givens = [0 if str(cell) in "._0" else int(cell) for row in puzzle for cell in row]
    box = 3 if size == 9 else 2
    cells = {(row, column): digit for row, digits in enumerate(rows) for column, digit in enumerate(digits)}
    seen = {
        key
        for (row, column), digit in cells.items()
        for key in (("row", row, digit), ("column", column, digit), ("box", row // box, column // box, digit))
    }
    kept = all(given in (0, digit) for given, digit in zip(givens, cells.values(), strict=True))
    return kept and len(seen) == 3 * size * size and set(cells.values()) == set(range(1, size + 1))


def _rows(text: str, size: int) -> list[list[int]]:
    """The one grid of a text: a JSON list of rows, or `size` lines one after the other. Raises `Unreadable`."""
    try:
        value = json_value(text)
    except NoJson:
        lines = [line for line in text.splitlines() if line.strip(" |+-=")]
        found = [index for index, line in enumerate(lines) if len(re.sub(_BESIDE, "", line)) == size]
        value = [lines[index] for index in found]
        if len(found) != size or found[-1] - found[0] >= size or any(map(_LISTED.match, lines)):
            raise Unreadable("no grid, or more than one") from None
    rows = [re.sub(_BESIDE, "", row) if isinstance(row, str) else row for row in value]
    grid = [[int(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]
    if len(grid) != size or any(len(row) != size or any(type(cell) is not int for cell in row) for row in grid):
        raise Unreadable("no grid")
    return grid

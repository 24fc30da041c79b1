"""The second verifier of `constraints`: the same rules, written out over plain Python values."""

from __future__ import annotations

import ast
import itertools
import json
import operator
import re
from collections.abc import Mapping
from fractions import Fraction
from types import MappingProxyType
from typing import Any

import msgspec

from router.verify.checks.constraints import ConstraintsParams
from router.verify.second.plain import folded, json_value
from router.verify.second.reading import Unreadable, stated

_OPERATORS: Mapping[type[ast.operator], Any] = MappingProxyType(
    {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}
)


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
    low, high = (rule.get(bound) for bound in ("min", "max"))
    if name in ("count", "range", "sum"):
        numbers = [Fraction(len(values))] if name == "count" else [Fraction(str(value)) for value in values]
        tested = numbers if name != "sum" else [sum(numbers, Fraction(0))]
        within = [
            (low is None or Fraction(str(low)) <= number) and (high is None or number <= Fraction(str(high)))
            for number in tested
        ]
        return bool(within) and all(within)
    plain = [_plain(value) for value in values]
    if name == "unique":
        return all(first != second for first, second in itertools.combinations(plain, 2))
    items = [_plain(item) for item in rule["items"]]
    if name == "order":
        found = [items.index(value) for value in plain if value in items]
        return all(first <= second for first, second in itertools.pairwise(found))
    present = {
        "required": all(item in plain for item in items),
        "forbidden": not any(item in plain for item in items),
        "allowed": all(value in items for value in plain),
    }
    return present[name]


def _value(text: str) -> Any:
    try:
        return json_value(text)
    except Unreadable:
        return re.findall(r"^\s*(?:\d+[.)]|[-*•])\s+(.+)$", text, re.MULTILINE)


def _values(value: Any, path: list[str]) -> list[Any]:
    if not path:
        return [value]
    children = value.values() if isinstance(value, dict) else value
    if path[0] != "*":
        name = path[0].replace("~1", "/").replace("~0", "~")
        children = [value[int(name)] if isinstance(value, list) else value[name]]
    return [found for child in children for found in _values(child, path[1:])]


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return f"text {folded(value)}"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"number {Fraction(str(value))}"
    if isinstance(value, list):
        return f"[{', '.join(map(_plain, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{json.dumps(name)}: {_plain(value[name])}' for name in sorted(value))}}}"
    return json.dumps(value)


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
    digits = [int(digit) for digit in re.findall(r"\d", text)][-size * size :]
    givens = [0 if str(cell) in "._0" else int(cell) for row in puzzle for cell in row]
    if len(digits) < size * size:
        raise Unreadable("no grid")
    box = 3 if size == 9 else 2
    cells = {(at // size, at % size): digit for at, digit in enumerate(digits)}
    seen = {
        key
        for (row, column), digit in cells.items()
        for key in (("row", row, digit), ("column", column, digit), ("box", row // box, column // box, digit))
    }
    kept = all(given in (0, digit) for given, digit in zip(givens, digits, strict=True))
    return kept and len(seen) == 3 * size * size and set(digits) == set(range(1, size + 1))

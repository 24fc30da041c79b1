"""What a rule is, and what it reads of an answer."""

from __future__ import annotations

import re
from collections.abc import Hashable
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from typing import Any

import msgspec

from router.canonical import answer_json, fold, plain_words
from router.quantity import exact_number, parse_quantity
from router.strict_json import NotJson
from router.verify.checks.policy import visible

MAX_ITEMS = 256
MAX_POINTER_CHARS = 256
ITEMS = "/*"  # the items of a list

_LIST_LINE = re.compile(r"[ \t]*(?:\d{1,4}[.)]|[-*•])[ \t]+(\S.*)")


class Unmet(Exception):
    """The rule does not hold: the answer has not what it reads. The message completes "the answer"."""


class Answer:
    """A completion as rules see it: its text, and the JSON value or list that it states."""

    def __init__(self, text: str) -> None:
        self.text = text

    @cached_property
    def value(self) -> Any:
        """The JSON value of the text, or of its last fenced block; else the lines of its last list. Raises `Unmet`."""
        try:
            return answer_json(self.text, exact_numbers=True)
        except NotJson:
            pass
        items = _last_list(self.text)
        if not items:
            raise Unmet("is no JSON value and no list")
        return items

    def at(self, pointer: str) -> list[Any]:
        """The values at a JSON pointer (RFC 6901) in which `*` stands for every item or member. Raises `Unmet`."""
        values = [self.value]
        for token in pointer.split("/")[1:]:
            name = token.replace("~1", "/").replace("~0", "~")
            values = [child for value in values for child in _children(value, name)]
        return values

    def keys_at(self, pointer: str) -> list[Hashable]:
        """`at`, as values that are equal when the answer says the same: texts folded, numbers exact."""
        return [key(value) for value in self.at(pointer)]

    def numbers_at(self, pointer: str) -> list[Fraction]:
        """`at`, as exact numbers; a text counts when it is a plain number without a unit. Raises `Unmet`."""
        return [_number(value) for value in self.at(pointer)]


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="rule"):
    """One rule. A subclass says with `tag` what it is called, and joins the union in `router.verify.rules.registry`."""

    def admit(self) -> None:
        """Raise `ValueError`, whose message completes "the rule", for a rule that cannot be judged."""

    def holds(self, answer: Answer) -> bool:
        """Whether the answer keeps the rule. Raises `Unmet` when it has not what the rule reads. Pure and bounded."""
        raise NotImplementedError


def key(value: Any) -> Hashable:
    """A value that is equal for answers that say the same."""
    if isinstance(value, str):
        return "text", fold(plain_words(visible(value)))
    if isinstance(value, list):
        return "list", tuple(key(item) for item in value)
    if isinstance(value, dict):
        return "object", frozenset((name, key(item)) for name, item in value.items())
    if isinstance(value, bool) or value is None:
        return "literal", value
    return "number", exact_number(value) if isinstance(value, float) else Fraction(value)


def keys_of(value: Any) -> set[Hashable]:
    """`key`, and for a text that is a plain number that of the number: `13` in a list of lines is 13."""
    quantity = parse_quantity(visible(value)) if isinstance(value, str) else None
    return {key(value)} | ({("number", quantity.value)} if quantity and not quantity.unit else set())


def admit_pointer(pointer: str) -> None:
    """Raise `ValueError` for what is no pointer."""
    if len(pointer) > MAX_POINTER_CHARS or (pointer and not pointer.startswith("/")):
        raise ValueError(f"needs `at` as a JSON pointer such as /steps/* of at most {MAX_POINTER_CHARS} characters")


def _children(value: Any, name: str) -> list[Any]:
    if name == "*" and isinstance(value, list):
        return value
    if name == "*" and isinstance(value, dict):
        return list(value.values())
    if isinstance(value, dict) and name in value:
        return [value[name]]
    if isinstance(value, list) and name.isdecimal() and int(name) < len(value):
        return [value[int(name)]]
    raise Unmet("has nothing where the rule looks")


def _number(value: Any) -> Fraction:
    if isinstance(value, str):
        quantity = parse_quantity(value)
        if quantity is not None and not quantity.unit:
            return quantity.value
    elif isinstance(value, int | Decimal) and not isinstance(value, bool):
        return Fraction(value)
    raise Unmet("has something else where a number belongs")


def _last_list(text: str) -> list[str]:
    """The items of the last run of numbered or bulleted lines; blank lines do not end a run."""
    items: list[str] = []
    ended = False
    for line in text.splitlines():
        found = _LIST_LINE.fullmatch(line)
        if found is not None:
            items = [*([] if ended else items), found[1].strip()]
            ended = False
        elif line.strip():
            ended = True
    return items

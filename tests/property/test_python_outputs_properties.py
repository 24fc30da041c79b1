"""What `python_outputs` calls a program with, and how it keys what comes back."""

from __future__ import annotations

from typing import Any, get_args

from hypothesis import example, given, settings
from hypothesis import strategies as st

from router.sandbox.inside.values import decode, encode
from router.verify.inputs import INPUTS, ArgumentType, generated
from router.verify.value_key import value_key

TYPES: tuple[ArgumentType, ...] = get_args(ArgumentType)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
    ),
    max_leaves=12,
)


def typed(kind: str, value: Any) -> bool:
    if kind.startswith("list["):
        return type(value) is list and all(typed(kind[5:-1], item) for item in value)
    return type(value).__name__ == kind or (kind == "size" and type(value) is int and 0 <= value <= 12)


@settings(max_examples=40)
@example("_", ["size", "size"])
@given(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), st.lists(st.sampled_from(TYPES), min_size=1, max_size=3))
def test_inputs_are_repeatable_typed_and_varied(entry: str, types: list[ArgumentType]) -> None:
    inputs = generated(entry, types)
    assert inputs == generated(entry, types) and len(inputs) == INPUTS
    assert all(typed(kind, value) for row in inputs for kind, value in zip(types, row, strict=True))
    for column in zip(*inputs, strict=True):
        assert len({value_key(value) for value in column}) > 1
    assert decode(encode(inputs)) == inputs


@given(values)
def test_a_key_survives_the_wall_and_is_one_line(value: Any) -> None:
    key = value_key(value)
    assert value_key(decode(encode(value))) == key and "\n" not in key


@given(st.dictionaries(st.text(max_size=4), scalars, max_size=6), st.randoms())
def test_the_order_of_a_dict_does_not_matter(value: dict[str, Any], rng: Any) -> None:
    items = list(value.items())
    rng.shuffle(items)
    assert value_key(dict(items)) == value_key(value)

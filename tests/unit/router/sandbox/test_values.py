from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.sandbox.inside.values import MAX_DEPTH, NotPlain, decode, encode

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
KEYS = st.booleans() | st.integers() | st.text() | st.tuples(st.integers(), st.text())
PLAIN = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(KEYS, inner),
    max_leaves=20,
)


def typed(value: Any) -> Any:
    """A value with its types, so that True is not 1 and (1,) is not [1]."""
    if isinstance(value, list | tuple):
        return type(value), [typed(item) for item in value]
    if isinstance(value, dict):
        return dict, [(typed(key), typed(item)) for key, item in value.items()]
    return type(value), value


@given(PLAIN)
def test_types_and_values_survive_the_way(value: Any) -> None:
    assert typed(decode(json.loads(json.dumps(encode(value))))) == typed(value)


def test_floats_that_json_lacks() -> None:
    assert math.isnan(decode(encode(math.nan)))
    assert decode(encode(-math.inf)) == -math.inf
    assert str(decode(encode(-0.0))) == "-0.0"


class AlwaysEqual(int):
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = int.__hash__


@pytest.mark.parametrize("value", [{1, 2}, b"x", 1j, AlwaysEqual(3), [AlwaysEqual(3)], object(), int, len, range(3)])
def test_anything_else_does_not_cross(value: Any) -> None:
    with pytest.raises(NotPlain):
        encode(value)


def test_depth_is_bounded_both_ways() -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    coded: Any = None
    for _ in range(MAX_DEPTH + 1):
        coded = {"l": [coded]}
    for function, value in ((encode, cycle), (decode, coded)):
        with pytest.raises(NotPlain):
            function(value)


FORGERIES: list[Any] = [
    [], [1], {}, {"f": 1}, {"f": "x"}, {"l": 1}, {"d": [1]}, {"d": [[{"l": []}, 1]]}, {"x": []}, {"l": [], "t": []}, 1.5
]  # fmt: skip


@pytest.mark.parametrize("coded", FORGERIES)
def test_forged_values_are_refused(coded: Any) -> None:
    with pytest.raises(NotPlain):
        decode(coded)

"""A plain Python value as text: equal for values that stand for the same result."""

from __future__ import annotations

import json
from typing import Any

_DIGITS = 9  # significant, of a float: the order of a sum does not reach them
_ZERO = 1e-12


def value_key(value: Any) -> str:
    """One line for a value of None, bool, int, float, str, list, tuple and dict (`router.sandbox.inside.values`).

    A tuple is a list, `2.0` is `2`, floats count to 9 significant digits, a dict has no order; a bool is no number.
    """
    match value:
        case None | bool():
            return str(value)
        case int():
            return f"{value:x}"  # linear in its length, which decimal digits are not
        case float():
            return _float_key(value)
        case list() | tuple():
            return f"[{','.join(map(value_key, value))}]"
        case dict():
            return f"{{{','.join(sorted(f'{value_key(key)}:{value_key(item)}' for key, item in value.items()))}}}"
    return json.dumps(value)


def _float_key(value: float) -> str:
    rounded = 0.0 if abs(value) < _ZERO else float(f"{value:.{_DIGITS}g}")
    return f"{int(rounded):x}" if rounded.is_integer() else f"f{rounded!r}"

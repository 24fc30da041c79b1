"""The check types that the workers run. A new one is a module in `checks` and a name here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from router.verify.check_type import CheckType
from router.verify.checks import (
    arithmetic_steps,
    choice,
    constraints,
    exact,
    format,
    json_schema,
    math,
    numeric,
    policy,
    regex,
)

PURE_TYPES: Mapping[str, CheckType[Any]] = MappingProxyType(
    {
        module.TYPE.name: module.TYPE
        for module in (math, numeric, exact, choice, regex, json_schema, constraints, arithmetic_steps, format, policy)
    }
)

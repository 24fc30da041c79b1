"""The check types there are. A new type is one module in `checks` and one name here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from router.verify.check_type import Admitted, CheckType, SandboxedCheck
from router.verify.checks import (
    arithmetic_steps,
    choice,
    command,
    constraints,
    exact,
    format,
    json_schema,
    math,
    numeric,
    policy,
    python_tests,
    regex,
    sql,
)

PURE_TYPES: Mapping[str, CheckType[Any]] = MappingProxyType(
    {
        module.TYPE.name: module.TYPE
        for module in (math, numeric, exact, choice, regex, json_schema, constraints, arithmetic_steps, format, policy)
    }
)
SANDBOXED_TYPES: Mapping[str, SandboxedCheck[Any]] = MappingProxyType(
    {module.TYPE.name: module.TYPE for module in (python_tests, sql, command)}
)
CHECK_TYPES: Mapping[str, Admitted[Any]] = MappingProxyType({**PURE_TYPES, **SANDBOXED_TYPES})

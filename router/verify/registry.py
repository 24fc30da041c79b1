"""All the check types there are: the pure ones, those that need the sandbox, and the judge's."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from router.verify.check_type import Admitted, SandboxedCheck
from router.verify.checks import command, judge, python_outputs, python_tests, sql
from router.verify.pure import PURE_TYPES

SANDBOXED_TYPES: Mapping[str, SandboxedCheck[Any]] = MappingProxyType(
    {module.TYPE.name: module.TYPE for module in (python_tests, python_outputs, sql, command)}
)
CHECK_TYPES: Mapping[str, Admitted[Any]] = MappingProxyType(
    {**PURE_TYPES, **SANDBOXED_TYPES, judge.TYPE.name: judge.TYPE}
)

"""The second verifiers that run code, as check types that no request can name: the sandbox runs them like any check.

`command` has none: only the operator knows another checker for what the program checks.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from router.sandbox.sandbox import Job
from router.verify.check_type import Judgement, Params, SandboxedCheck
from router.verify.checks import python_tests as first_python_tests
from router.verify.checks import sql as first_sql
from router.verify.second import python_tests, sql
from router.verify.second.registry import PREFIX


def _second(
    first: SandboxedCheck[Params], version: str, run: Callable[[Params, str, Job, float], Awaitable[Judgement]]
) -> SandboxedCheck[Params]:
    return replace(first, name=f"{PREFIX}{first.name}", version=version, run=run)


_TYPES: tuple[SandboxedCheck[Any], ...] = (
    replace(_second(first_python_tests.TYPE, "3", python_tests.run), admit=python_tests.admit),
    _second(first_sql.TYPE, "2", sql.run),
)
SECOND_SANDBOXED: Mapping[str, SandboxedCheck[Any]] = MappingProxyType({each.name: each for each in _TYPES})

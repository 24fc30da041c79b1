"""One sandboxed check at a time, through the code that serves."""

from __future__ import annotations

from typing import Any

import msgspec

from router.sandbox.sandbox import Sandbox
from router.verify.check_type import Judgement
from router.verify.registry import SANDBOXED_TYPES
from router.verify.spec import parse_checks


async def judge(sandbox: Sandbox, check: dict[str, Any], text: str, timeout_s: float = 3.0) -> Judgement:
    """What an admitted check says of `text`."""
    (spec,) = parse_checks([check], where="checks", default_timeout_s=timeout_s)
    kind = SANDBOXED_TYPES[spec.type]
    async with sandbox.job() as job:
        return await kind.run(msgspec.convert(spec.params, kind.params), text, job, spec.timeout_s)

"""One sandboxed check at a time, through the code that serves."""

from __future__ import annotations

from typing import Any

import msgspec

from router.sandbox.sandbox import Sandbox
from router.verify.check_type import Judgement
from router.verify.registry import SANDBOXED_TYPES
from router.verify.second.registry import PREFIX
from router.verify.second.sandboxed import SECOND_SANDBOXED
from router.verify.spec import parse_checks


async def judge(
    sandbox: Sandbox, check: dict[str, Any], text: str, timeout_s: float = 3.0, *, second: bool = False
) -> Judgement:
    """What an admitted check, or its second verifier, says of `text`."""
    (spec,) = parse_checks([check], where="checks", default_timeout_s=timeout_s)
    kind = SECOND_SANDBOXED[f"{PREFIX}{spec.type}"] if second else SANDBOXED_TYPES[spec.type]
    async with sandbox.job() as job:
        return await kind.run(msgspec.convert(spec.params, kind.params), text, job, spec.timeout_s)

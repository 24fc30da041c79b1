"""`judge`: a model grades the answer by a rubric. Soft: it never makes an answer `verified`.

The grading itself needs an engine, so whoever serves runs it; what is asked and read is `router.verify.judging`.
"""

from __future__ import annotations

import msgspec

from router.enums import CheckClass
from router.errors import InvalidRequest
from router.verify.check_type import Admitted
from router.verify.limits import MAX_REFERENCE_CHARS


class JudgeParams(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Fields of a `judge` check. `question` is ours to fill in: what the answer answers."""

    rubric: str
    question: str = ""


def admit(params: JudgeParams) -> None:
    """Refuse a rubric that is empty or too long, and a question of its own. Raises `InvalidRequest`."""
    if not params.rubric.strip() or len(params.rubric) > MAX_REFERENCE_CHARS:
        raise InvalidRequest(f"must be 1 to {MAX_REFERENCE_CHARS} characters long", param="rubric")
    if params.question:
        raise InvalidRequest("is the request's own last message", param="question")


TYPE = Admitted("judge", CheckClass.SOFT, "1", JudgeParams, admit)

"""The facts of one finished chat request, as the metrics and the scorecard take them."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from router.domain import Tokens, Verification
from router.enums import Purpose
from router.records import GroupRecord


class Served(Struct, frozen=True):
    """A request that ended in an answer, or in a refusal by `on_failure`. Times are in seconds."""

    verification: Verification
    spent: Mapping[str, Tokens]  # of all samples, by the model that drew them; none from the cache
    duration_s: float
    overhead_s: float  # the duration without the engine's and the verifiers' wall time
    group: GroupRecord | None = None  # None from the cache
    code: int = 200
    refused: bool = False
    stream: bool = False
    first_token_s: float | None = None  # time to the first content sent
    purpose: Purpose = Purpose.PROD

    @property
    def tokens(self) -> Tokens:
        """Tokens of all samples."""
        return sum(self.spent.values(), Tokens())

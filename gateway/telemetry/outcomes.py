"""What feedback says, for the scorecard: minutes saved, time to resolution, throughput and satisfaction, by team.

Read from the log's index, so that it covers every process and survives restarts. Over the last 30 days; every figure
carries its count and a 95 % interval: normal for a mean, order statistics for a median, Byar's for a rate, Wilson's
for a proportion.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from router.errors import LogUnavailable, RecordError
from router.log.index import GroupIndex
from router.log.outcomes import GroupOutcome, group_outcomes
from router.running import RunningRatio
from router.stats import Estimate, Rate, poisson_rate, wilson, z_value

_DAY_S = 86400.0
WINDOW_S = 30 * _DAY_S
MAX_TEAMS = 50  # by name; the rest is `other`
OTHER = "other"
SATISFIED = 4  # and above, of 5: the usual customer satisfaction score
_FRESH_S = 5.0
_MAX_KEPT = 64

Summary = Callable[[Sequence[GroupOutcome]], dict[str, Any]]


class Outcomes:
    """Reports what feedback said, at most once in five seconds for each tenant."""

    def __init__(self, index: GroupIndex, clock: Callable[[], float] = time.time) -> None:
        self._index, self._clock = index, clock
        self._one_at_a_time = asyncio.Lock()
        self._kept: OrderedDict[str | None, tuple[float, dict[str, Any]]] = OrderedDict()

    async def report(self, tenant: str | None) -> dict[str, Any]:
        """The part of the scorecard as JSON values, of one tenant's groups or (None) of all."""
        async with self._one_at_a_time:
            now = self._clock()
            made, report = self._kept.get(tenant, (-math.inf, {}))
            if not 0 <= now - made < _FRESH_S:
                report = await self._made(tenant, now)
                self._kept[tenant] = (now, report)
                self._kept.move_to_end(tenant)
                if len(self._kept) > _MAX_KEPT:
                    self._kept.popitem(last=False)
            return report

    async def _made(self, tenant: str | None, now: float) -> dict[str, Any]:
        since, fault = now - WINDOW_S, None
        try:
            found, complete = await asyncio.to_thread(self._index.read, lambda db: group_outcomes(db, since, tenant))
        except (LogUnavailable, RecordError) as error:
            found, complete, fault = [], False, str(error)
        window = {"since": since, "seconds": WINDOW_S, "complete": complete, "error": fault}
        figures = {
            "minutes_saved": _minutes_saved,
            "time_to_resolution_seconds": _resolution,
            "resolved_per_day": _throughput,
            "satisfaction": _rated,
        }
        return {name: {**summary(found), "window": window, "by_team": _by_team(found, summary)}
                for name, summary in figures.items()}  # fmt: skip


def _by_team(found: Sequence[GroupOutcome], summary: Summary) -> dict[str, Any]:
    """The figure for each team that said anything of it."""
    largest = {team for team, _ in Counter(each.team for each in found if each.team is not None).most_common(MAX_TEAMS)}
    teams: dict[str, list[GroupOutcome]] = {}
    for each in found:
        if each.team is not None:
            teams.setdefault(each.team if each.team in largest else OTHER, []).append(each)
    figures = {team: summary(outcomes) for team, outcomes in sorted(teams.items())}
    return {team: figure for team, figure in figures.items() if figure["n"]}


def _minutes_saved(found: Sequence[GroupOutcome]) -> dict[str, Any]:
    """The mean of a task, and the total."""
    values = [each.minutes_saved for each in found if each.minutes_saved is not None]
    mean = RunningRatio()
    for value in values:
        mean.add(value, 1)
    low = high = None
    if mean.value is not None and mean.standard_error is not None:
        reach = z_value() * mean.standard_error
        low, high = mean.value - reach, mean.value + reach
    return asdict(Estimate(mean.value, mean.n, low, high)) | {"total": math.fsum(values) if values else None}


def _resolution(found: Sequence[GroupOutcome]) -> dict[str, Any]:
    """The median."""
    values = sorted(each.resolution_s for each in found if each.resolution_s is not None)
    n = len(values)
    if not n:
        return asdict(Estimate(None, 0, None, None))
    reach = z_value() * math.sqrt(n) / 2  # normal approximation of the binomial rank of the median
    low, middle, high = (values[min(n, max(1, math.ceil(n / 2 + shift))) - 1] for shift in (-reach, 0, reach))
    return asdict(Estimate(middle, n, low, high))


def _rated(found: Sequence[GroupOutcome]) -> dict[str, Any]:
    """The share of ratings of 4 and 5, and the mean rating."""
    ratings = [each.rating for each in found if each.rating is not None]
    share: Rate = wilson(sum(rating >= SATISFIED for rating in ratings), len(ratings))
    return asdict(share) | {"mean_rating": math.fsum(ratings) / len(ratings) if ratings else None}


def _throughput(found: Sequence[GroupOutcome]) -> dict[str, Any]:
    """Tasks that feedback says were done, a day of the window."""
    n = sum(each.resolution_s is not None for each in found)
    return asdict(poisson_rate(n, WINDOW_S / _DAY_S) if n else Estimate(None, 0, None, None))

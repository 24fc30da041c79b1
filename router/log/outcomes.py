"""What feedback says of the work that groups were part of: time saved, time to resolution, ratings."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from router.enums import Purpose
from router.log.labels import LabelSource
from router.log.lookups import COUNTS

MAX_LABELS = 100_000  # read at a time, the newest


@dataclass(slots=True)
class GroupOutcome:
    """The newest that feedback says of one group, field by field; None where it says nothing."""

    team: str | None = None
    minutes_saved: float | None = None
    rating: int | None = None
    resolution_s: float | None = None  # from the answer to `resolved_at`, seconds


def group_outcomes(db: sqlite3.Connection, since: float, tenant: str | None) -> list[GroupOutcome]:
    """Of every group of ordinary traffic with feedback since that Unix time, and of this tenant unless it is None."""
    rows = db.execute(
        f"""SELECT group_id, team, minutes_saved, rating, resolved_at - created_at
        FROM label JOIN grp ON grp.id = label.group_id
        WHERE source = ? AND at >= ? AND purpose = ? AND (? IS NULL OR grp.tenant = ?) AND {COUNTS}
        ORDER BY end DESC LIMIT ?""",
        (LabelSource.FEEDBACK, since, Purpose.PROD, tenant, tenant, MAX_LABELS),
    )
    found: dict[str, GroupOutcome] = {}
    for group_id, team, minutes_saved, rating, resolution_s in rows:
        said = found.setdefault(group_id, GroupOutcome())
        said.team = team if said.team is None else said.team
        said.minutes_saved = minutes_saved if said.minutes_saved is None else said.minutes_saved
        said.rating = rating if said.rating is None else said.rating
        if said.resolution_s is None and resolution_s is not None and resolution_s >= 0:
            said.resolution_s = resolution_s
    return list(found.values())

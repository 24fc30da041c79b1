"""How often each check was wrong when it was last measured (`thinktwice bench verifiers --record`)."""

from __future__ import annotations

from importlib.resources import files

import msgspec


class MeasuredRate(msgspec.Struct, frozen=True):
    """Counts of one check on the reported part of the truth tables, for one version of the check."""

    version: str
    negatives: int
    false_accepts: int
    positives: int
    false_rejects: int


def measured_rates() -> dict[str, MeasuredRate]:
    """The counts by check type, as shipped."""
    content = files("router.verify").joinpath("measured.json").read_bytes()
    return msgspec.json.decode(content, type=dict[str, MeasuredRate])

"""How often each check was wrong when it was last measured (`thinktwice bench verifiers --record`)."""

from __future__ import annotations

from importlib.resources import files

import msgspec


class MeasuredSecond(msgspec.Struct, frozen=True):
    """Counts of a second verifier beside its check, on both parts of the truth tables and the gaming texts.

    `right` are the right answers that the check accepts, to checks of which the second verifier can judge answers.
    """

    version: str
    looser: int  # answers that it accepts and the check refuses, or does not judge and they are wrong
    right: int
    disputed: int  # of them
    undecided: int  # of them


class MeasuredRate(msgspec.Struct, frozen=True, omit_defaults=True):
    """Counts of one check on the reported part of the truth tables, for one version of the check."""

    version: str
    negatives: int
    false_accepts: int
    positives: int
    false_rejects: int
    second: MeasuredSecond | None = None


def measured_rates() -> dict[str, MeasuredRate]:
    """The counts by check type, as shipped."""
    content = files("router.verify").joinpath("measured.json").read_bytes()
    return msgspec.json.decode(content, type=dict[str, MeasuredRate])

"""The metrics of how far the checks themselves can be trusted."""

from __future__ import annotations

from enum import StrEnum

from gateway.telemetry.families import Families
from router.log.labels import LabelSource, Resolution

UNSAID = "none"  # the label does not say how far the task was solved


class Audit(StrEnum):
    """What a second verifier said of an answer that a decisive check accepted."""

    AGREE = "agree"
    DISAGREE = "disagree"  # a person should look at it
    ERROR = "error"  # it could not judge
    DROPPED = "dropped"  # the workers were busy


class Trust:
    """Measured error rates, and audits by second verifiers."""

    def __init__(self, families: Families, audited: tuple[str, ...]) -> None:
        labels = {"verifier": (), "bound": ()}
        self.false_accepts = families.gauge(
            "verifier_false_accept_ratio",
            "Share of wrong answers that a check accepted when it was last measured; `upper`: 95 % bound",
            labels,
        )
        self.false_rejects = families.gauge(
            "verifier_false_reject_ratio",
            "Share of right answers that a check rejected when it was last measured; `upper`: 95 % bound",
            labels,
        )
        self.audits = families.counter(
            "audits_total",
            "Accepted answers that a second verifier looked at, by check; `disagree`: one to review",
            {"verifier": audited, "result": tuple(Audit)},
        )
        self.labels = families.counter(
            "labels_total",
            "Feedback and reviews taken, by what they say of the answer",
            {"source": (LabelSource.FEEDBACK, LabelSource.REVIEW), "outcome": (*Resolution, UNSAID)},
        )
        self.judge_traps = families.gauge(
            "judge_traps_passed",
            "Master keys, injections and cut answers that the judge accepted; above 0: disabled",
        )
        self.judge_tokens = families.counter(
            "judge_tokens_total", "Tokens of grading, examinations included", {"type": ("input", "output")}
        )

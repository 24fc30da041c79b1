"""The metrics of how far the checks themselves can be trusted."""

from __future__ import annotations

from enum import StrEnum

from gateway.telemetry.families import Families
from router.log.labels import Label, LabelSource, Resolution

UNSAID = "none"  # the label does not say how far the task was solved


class Audit(StrEnum):
    """What a second verifier said of an answer that a decisive check accepted."""

    AGREE = "agree"
    DISAGREE = "disagree"  # a person should look at it
    ERROR = "error"  # it could not judge
    DROPPED = "dropped"  # the workers were busy


class Trust:
    """Measured error rates, audits by second verifiers, and what people say."""

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
        self.minutes = families.counter(
            "feedback_minutes_total", "Minutes that feedback says were saved, or lost", {"sign": ("saved", "lost")}
        )
        self.rating = families.histogram("feedback_rating", "Ratings of answers, 1 to 5", (1, 2, 3, 4, 5))
        self.judge_traps = families.gauge(
            "judge_traps_passed",
            "Master keys, injections and cut answers that the judge accepted; above 0: disabled",
        )
        self.judge_tokens = families.counter(
            "judge_tokens_total", "Tokens of grading, examinations included", {"type": ("input", "output")}
        )

    def observe_label(self, label: Label) -> None:
        """Count one feedback or review; a score of at least one half counts as solved."""
        solved = label.value is not None and label.value >= 0.5
        outcome = UNSAID if label.value is None else Resolution.SOLVED if solved else Resolution.NOT_SOLVED
        self.labels.labels(label.source, outcome).inc()
        if label.minutes_saved is not None:
            self.minutes.labels("saved" if label.minutes_saved >= 0 else "lost").inc(abs(label.minutes_saved))
        if label.rating is not None:
            self.rating.observe(label.rating)

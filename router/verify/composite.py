"""One verdict from many checks: a weighted mean that the required checks can veto."""

from __future__ import annotations

from collections.abc import Sequence

from router.domain import CheckResult, CheckSpec, Verdict
from router.enums import CheckClass, Outcome

COMPLETED = frozenset({Outcome.PASS, Outcome.FAIL})
_PRECEDENCE = (Outcome.FAIL, Outcome.ERROR, Outcome.TIMEOUT, Outcome.SKIPPED)


def compose(results: Sequence[CheckResult], specs: Sequence[CheckSpec]) -> Verdict:
    """The composite of one candidate's `results`, which answer `specs` one to one (by id, in any order).

    score = sum(w * s) / sum(w) over the completed checks; a pass without a score (`format`) earns nothing and costs
    nothing. A required fail vetoes: outcome FAIL, score 0, whatever else
    happened (Kleene's conjunction: false and unknown is false). Otherwise a required check without a verdict makes the
    composite ERROR, TIMEOUT or SKIPPED; after an error or a timeout there is no score. Raises `ValueError` when the ids
    differ.
    """
    by_id = {result.id: result for result in results}
    if len(by_id) != len(results) or by_id.keys() != {spec.id for spec in specs}:
        raise ValueError("results and checks must have the same ids, each once")
    outcome = _required_outcome([by_id[spec.id].outcome for spec in specs if spec.required])
    decisive = [result.outcome for result in results if result.klass is CheckClass.DECISIVE]
    return Verdict(
        outcome=outcome,
        score=_score(outcome, by_id, specs),
        decisive_passes=decisive.count(Outcome.PASS),
        decisive_completed=bool(decisive) and COMPLETED.issuperset(decisive),
    )


def _required_outcome(required: Sequence[Outcome]) -> Outcome:
    return next((outcome for outcome in _PRECEDENCE if outcome in required), Outcome.PASS)


def _score(outcome: Outcome, by_id: dict[str, CheckResult], specs: Sequence[CheckSpec]) -> float | None:
    if outcome is Outcome.FAIL:
        return 0.0
    if outcome in (Outcome.ERROR, Outcome.TIMEOUT):
        return None
    weighed = [
        (spec.weight, result.score)
        for spec in specs
        if (result := by_id[spec.id]).outcome in COMPLETED and result.score is not None
    ]
    largest = max((weight for weight, _ in weighed), default=0.0)
    if largest == 0.0:
        return None
    # Weights are divided by the largest first, so that neither tiny nor huge ones lose the quotient.
    total = sum(weight / largest for weight, _ in weighed)
    return min(1.0, sum(weight / largest * score for weight, score in weighed) / total)

"""The vote: which candidate is returned, and what may be claimed of it. Pure, and blind to the order of arrival."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from math import exp, log

from msgspec import Struct

from router.domain import Candidate
from router.enums import CheckClass, Outcome, Reason, Status, Stopped
from router.stopping import Seen, VoteBelief

AGREEMENT_WEIGHT = 0.1  # weight of mere agreement beside a check's score, so that votes count where no check scored
MAX_EVIDENCE = 20.0  # log-odds; beyond it the likelihood ratio of an answer says no more


class Ballot(Struct, frozen=True):
    """The elected candidate, how many samples gave its answer, and whether another answer had as good a claim."""

    winner: Candidate
    votes: int
    tie: bool


def tally_votes(candidates: Sequence[Candidate]) -> tuple[int, ...]:
    """Votes of each distinct answer, largest first; rejected answers and samples without one do not vote."""
    return tuple(count for count, _ in _standing(candidates).values())


def tally_evidence(candidates: Sequence[Candidate]) -> tuple[float, ...]:
    """Of each answer in the order of `tally_votes`: likelihood ratio of all else known of its samples."""
    return tuple(exp(min(evidence, MAX_EVIDENCE)) for _, evidence in _standing(candidates).values())


def elect(candidates: Sequence[Candidate], belief: VoteBelief | None = None) -> Ballot:
    """Choose the candidate to return.

    Verified candidates come first, then those whose answer no check rejected, then, for want of better, the rejected
    ones. Within a pool the answer of greatest weight wins. With a calibrated `belief` the weight is the chance of being
    right: it counts votes and adds what is known of each sample as log-odds. Without one, a candidate weighs its check
    score plus, for its vote, `AGREEMENT_WEIGHT`. What another model drew has no vote (`router.escalation`). Among the
    candidates of that answer: more decisive passes, higher score, higher mean log-probability, fewer tokens, lowest
    index. Raises ValueError when there is no candidate.
    """
    if not candidates:
        raise ValueError("a vote needs a candidate")
    if len(candidates) == 1:
        return Ballot(candidates[0], votes=1, tie=False)
    pool = (
        [c for c in candidates if c.verdict.verified]
        or _acceptable(candidates)
        or [c for c in candidates if c.verdict.outcome is not Outcome.FAIL]
        or list(candidates)
    )
    drawn = sum(c.vote for c in candidates)
    weights = _additive(pool) if belief is None else _calibrated(pool, belief, drawn) or _additive(pool)
    # Sums of tenths differ in their last bit with the order of addition; the vote must not.
    heaviest = round(max(weights.values()), 9)
    leading = {bucket for bucket, weight in weights.items() if round(weight, 9) == heaviest}
    winner = min((c for c in pool if _bucket(c) in leading), key=_preference)
    votes = sum(1 for c in candidates if _bucket(c) == _bucket(winner))
    return Ballot(winner, votes, tie=len(leading) > 1 and not winner.verdict.verified)


def conclude(
    candidates: Sequence[Candidate], ballot: Ballot, *, oracle: bool, stopped: Stopped
) -> tuple[Status, Reason]:
    """What may be claimed of the elected candidate (DESIGN section 2).

    `oracle` says that the request carries a decisive check. Agreement alone is never `verified`, and an error or
    timeout of our own machinery is neither a pass nor a fail.
    """
    winner = ballot.winner
    if winner.verdict.verified:
        return Status.VERIFIED, Reason.DECISIVE_PASS
    if oracle and all(c.verdict.decisive_completed and not c.verdict.decisive_passes for c in candidates):
        cut = stopped is Stopped.DEADLINE  # there were others, and what they would have said is not known
        return (Status.UNVERIFIED, Reason.DEADLINE) if cut else (Status.FAILED, Reason.ALL_FAILED)
    trouble = _trouble(candidates, winner, stopped)
    if trouble is not None:
        return Status.UNVERIFIED, trouble
    if not oracle and winner.answer_key is not None and ballot.votes >= 2 and 2 * ballot.votes > len(candidates):
        return Status.CONSENSUS, Reason.MAJORITY
    if winner.sample.finish_reason == "length":
        return Status.UNVERIFIED, Reason.TRUNCATED
    if len(candidates) > 1 and ballot.tie and any(c.answer_key for c in candidates):
        return Status.UNVERIFIED, Reason.TIE
    return Status.UNVERIFIED, Reason.NO_ORACLE


def _trouble(candidates: Sequence[Candidate], winner: Candidate, stopped: Stopped) -> Reason | None:
    """What kept a sound claim from being made, the most telling first."""
    outcomes = {c.verdict.outcome for c in candidates}
    if Outcome.TIMEOUT in outcomes:
        return Reason.VERIFIER_TIMEOUT
    if Outcome.ERROR in outcomes:
        return Reason.VERIFIER_ERROR
    if winner.verdict.outcome is Outcome.FAIL:
        return Reason.VETO
    if stopped is Stopped.DEADLINE:
        return Reason.DEADLINE
    if stopped is Stopped.BUDGET:
        return Reason.BUDGET
    return None


def _additive(pool: Sequence[Candidate]) -> dict[str, float]:
    weights: defaultdict[str, float] = defaultdict(float)
    for candidate in pool:
        weights[_bucket(candidate)] += AGREEMENT_WEIGHT * candidate.vote + (candidate.verdict.score or 0.0)
    return weights


def _calibrated(pool: Sequence[Candidate], belief: VoteBelief, drawn: int) -> dict[str, float]:
    """Log-odds of the answers of `pool`; empty when none of them voted."""
    standing = _standing(pool)
    votes = tuple(count for count, _ in standing.values())
    weights = belief.weights(Seen(votes, (1.0,) * len(votes), drawn))
    return {key: log(weight) + evidence for (key, (_, evidence)), weight in zip(standing.items(), weights, strict=True)}


def _standing(candidates: Sequence[Candidate]) -> dict[str, tuple[int, float]]:
    """Votes and log evidence of each answer that may win, most votes first."""
    counts: Counter[str] = Counter()
    evidence: defaultdict[str, float] = defaultdict(float)
    for candidate in _acceptable(candidates):
        if candidate.answer_key is not None:
            counts[candidate.answer_key] += candidate.vote
            evidence[candidate.answer_key] += candidate.evidence
    return {key: (count, evidence[key]) for key, count in counts.most_common()}


def _acceptable(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Those that no check rejected, nor whose answer a decisive check rejected in another sample."""
    rejected = {c.answer_key for c in candidates if c.answer_key is not None and _proved_wrong(c)}
    return [c for c in candidates if c.verdict.outcome is not Outcome.FAIL and c.answer_key not in rejected]


def _proved_wrong(candidate: Candidate) -> bool:
    return any(result.klass is CheckClass.DECISIVE and result.outcome is Outcome.FAIL for result in candidate.checks)


def _bucket(candidate: Candidate) -> str:
    """The answer a candidate stands for; one without a key stands for itself alone."""
    return candidate.answer_key if candidate.answer_key is not None else f"\0{candidate.sample.index}"


def _preference(candidate: Candidate) -> tuple[float, ...]:
    verdict, sample = candidate.verdict, candidate.sample
    confidence = sample.mean_logprob
    return (
        -verdict.decisive_passes,
        -(verdict.score or 0.0),
        -(confidence if confidence is not None else float("-inf")),
        len(sample.token_ids or ()),
        sample.index,
    )

"""From trials to the report of an evaluation: counts, intervals, guards and the verdict. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, TypeAlias

from router.domain import content_text
from router.errors import TrainingError
from router.questions import Question
from router.stats import NO_DATA, Estimate, Rate, bootstrap_mean, bootstrap_ratio, e_value, paired_difference, wilson
from training.evaluate import Arm, Plan, Trial
from training.gate import POWER, Decision, Evidence, decide, mcnemar_p, minimum_detectable_effect
from training.guards import Guard, error_guard, length_guard, set_guard, truncation_guard
from training.http_client import Answer

_ByArm: TypeAlias = Mapping[Arm, Mapping[int, Trial]]  # by line

_EXAMPLES, _END = 5, 2000  # of wins and of losses; characters kept of an answer


@dataclass(frozen=True, slots=True)
class ArmSummary:
    """One arm on the questions that both answered; errors are of all that were asked."""

    policy: str
    solved: Rate
    tokens_per_answer: Estimate  # completion tokens of a sample
    seconds_per_answer: Estimate
    tokens_per_solved: Estimate  # all tokens of all samples
    cost_per_solved_usd: Estimate  # no value while an answer has no price
    truncated: Rate
    errors: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Example:
    """A question that one policy solved and the other did not, with the end of both answers."""

    question: str
    candidate: str
    champion: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """The report. `both` and `neither` count the pairs that decide nothing."""

    arms: Mapping[Arm, ArmSummary]
    evidence: Evidence
    both: int
    neither: int
    difference: Estimate  # solve rate, candidate minus champion
    e_value: float
    wins: Sequence[Example]  # the first few
    losses: Sequence[Example]
    decision: Decision

    def as_dict(self) -> dict[str, Any]:
        """As one JSON object."""
        evidence = self.evidence
        discordant = evidence.n01 + evidence.n10
        return {
            "questions": evidence.asked,
            "pairs": evidence.pairs,
            "dropped": evidence.asked - evidence.pairs,
            "both": self.both,
            "neither": self.neither,
            "n01": evidence.n01,
            "n10": evidence.n10,
            "discordant_share": discordant / evidence.pairs,
            "p_value": evidence.p_value,
            "alpha": evidence.alpha,
            "difference": asdict(self.difference),
            "mde": evidence.mde,
            "power": POWER,
            "e_value": self.e_value,
            "arms": {arm.value: asdict(summary) for arm, summary in self.arms.items()},
            "wins": [asdict(example) for example in self.wins],
            "losses": [asdict(example) for example in self.losses],
            "guards": [asdict(guard) | {"holds": guard.holds} for guard in evidence.guards],
            "verdict": self.decision.verdict.value,
            "why": self.decision.why,
        }


def compare(plan: Plan, served: Mapping[Arm, str], trials: Sequence[Trial], alpha: float) -> Comparison:
    """The comparison of finished trials; questions of a guard set count for its guard and for the error guard alone.

    Raises `TrainingError` when no question outside the guard sets was answered by both arms.
    """
    by_arm = _by_arm(trials)
    tested = [question for question in plan.questions if question.guard is None]
    pairs = _pairs(tested, by_arm)
    if not pairs:
        errors = Counter(trial.error for trial in trials if trial.error)
        found = ", ".join(f"{count} x {name}" for name, count in errors.most_common()) or "only guard sets were asked"
        raise TrainingError(f"no question was answered by both policies ({found}), so there is no verdict")
    solved = _solved(pairs)
    outcomes = Counter(solved)
    n01, n10 = outcomes[True, False], outcomes[False, True]
    guards = (
        length_guard([(candidate.length, champion.length) for candidate, champion in pairs], plan.seed),
        truncation_guard([(candidate.truncated, champion.truncated) for candidate, champion in pairs]),
        error_guard([_errors(by_arm, question.line) for question in plan.questions]),
        *_set_guards(plan.questions, by_arm),
    )
    evidence = Evidence(
        asked=len(tested),
        pairs=len(pairs),
        n01=n01,
        n10=n10,
        p_value=mcnemar_p(n01, n10),
        mde=minimum_detectable_effect(len(pairs), (n01 + n10) / len(pairs), alpha),
        alpha=alpha,
        guards=guards,
    )
    return Comparison(
        arms=_summaries(plan, served, by_arm, pairs),
        evidence=evidence,
        both=outcomes[True, True],
        neither=outcomes[False, False],
        difference=paired_difference(solved),
        e_value=e_value(n01, n10),
        wins=_examples(tested, by_arm, candidate_won=True),
        losses=_examples(tested, by_arm, candidate_won=False),
        decision=decide(evidence),
    )


def summaries(plan: Plan, served: Mapping[Arm, str], trials: Sequence[Trial]) -> dict[Arm, ArmSummary]:
    """Each arm on the questions outside the guard sets that both answered."""
    by_arm = _by_arm(trials)
    pairs = _pairs([question for question in plan.questions if question.guard is None], by_arm)
    return _summaries(plan, served, by_arm, pairs)


def _summaries(
    plan: Plan, served: Mapping[Arm, str], by_arm: _ByArm, pairs: Sequence[tuple[Answer, Answer]]
) -> dict[Arm, ArmSummary]:
    errors = {arm: Counter(trial.error for trial in by_arm[arm].values() if trial.error) for arm in Arm}
    return {
        arm: _summary(served[arm], [pair[side] for pair in pairs], errors[arm], plan) for side, arm in enumerate(Arm)
    }


def _by_arm(trials: Sequence[Trial]) -> _ByArm:
    return {arm: {trial.line: trial for trial in trials if trial.arm is arm} for arm in Arm}


def _set_guards(questions: Sequence[Question], by_arm: _ByArm) -> Iterator[Guard]:
    for name in dict.fromkeys(question.guard for question in questions if question.guard is not None):
        yield set_guard(name, _solved(_pairs([each for each in questions if each.guard == name], by_arm)))


def _examples(questions: Sequence[Question], by_arm: _ByArm, *, candidate_won: bool) -> list[Example]:
    found = (
        Example(content_text(each.messages[-1].get("content")), ours.text[-_END:], theirs.text[-_END:])
        for each in questions
        for ours, theirs in _pairs([each], by_arm)
        if (ours.solved is True) is candidate_won and (theirs.solved is True) is not candidate_won
    )
    return list(islice(found, _EXAMPLES))


def _solved(pairs: Sequence[tuple[Answer, Answer]]) -> list[tuple[bool, bool]]:
    return [(candidate.solved is True, champion.solved is True) for candidate, champion in pairs]


def _pairs(questions: Sequence[Question], by_arm: _ByArm) -> list[tuple[Answer, Answer]]:
    """The answers to those of the questions that both arms answered, candidate first."""
    found = ((by_arm[Arm.CANDIDATE][each.line], by_arm[Arm.CHAMPION][each.line]) for each in questions)
    return [(ours.answer, theirs.answer) for ours, theirs in found if ours.answer and theirs.answer]


def _errors(by_arm: _ByArm, line: int) -> tuple[bool, bool]:
    return by_arm[Arm.CANDIDATE][line].answer is None, by_arm[Arm.CHAMPION][line].answer is None


def _summary(policy: str, answers: Sequence[Answer], errors: Mapping[str, int], plan: Plan) -> ArmSummary:
    solved = [float(answer.solved is True) for answer in answers]
    costs = [answer.cost_usd for answer in answers if answer.cost_usd is not None]
    priced = len(costs) == len(answers)
    return ArmSummary(
        policy=policy,
        solved=wilson(sum(answer.solved is True for answer in answers), len(answers)),
        tokens_per_answer=bootstrap_mean([answer.length for answer in answers], seed=plan.seed),
        seconds_per_answer=bootstrap_mean([answer.seconds for answer in answers], seed=plan.seed),
        tokens_per_solved=bootstrap_ratio([float(answer.tokens) for answer in answers], solved, seed=plan.seed),
        cost_per_solved_usd=bootstrap_ratio(costs, solved, seed=plan.seed) if priced else NO_DATA,
        truncated=wilson(sum(answer.truncated for answer in answers), len(answers)),
        errors=dict(errors),
    )

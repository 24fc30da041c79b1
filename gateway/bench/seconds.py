"""How the second verifiers fare on the truth tables: how often they side with their check, and how often they err."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gateway.bench.judging import REFUSED, Found
from gateway.bench.report import Table
from gateway.bench.truth import GAMING, Part
from router.enums import Outcome
from router.stats import Rate, upper_bound, wilson
from router.verify.measured import MeasuredSecond
from router.verify.second.registry import PREFIX
from router.verify.versions import SECONDS, second_judges

_DECIDED = (Outcome.PASS, Outcome.FAIL)
_COLUMNS = (
    "second verifier of",
    "part",
    "verdicts as the check's",
    "right ones disputed",
    "right ones undecided",
    "wrong ones accepted",
    "wrong ones undecided",
)


@dataclass(frozen=True, slots=True)
class Seconds:
    """One second verifier on one part of its table. What it does not decide counts as neither verdict."""

    check: str
    part: str
    agreements: Rate  # of the facts that both decide
    disputes: Rate  # of the right answers that the check accepts: what an audit would flag for nothing
    disputes_at_most: float | None  # upper 95 % bound, one-sided
    disputes_undecided: int
    false_accepts: Rate  # of all wrong answers, whatever the check says of them
    false_accepts_at_most: float | None
    negatives_undecided: int


def seconds_of(found: Iterable[Found]) -> list[Seconds]:
    """The second verifiers by table and part; gaming texts and deliberate refusals apart."""
    groups: dict[tuple[str, Part], list[Found]] = {}
    for each in found:
        admitted = REFUSED not in (each.outcome, each.fact.expect)
        if each.second is not None and admitted and each.fact.table != GAMING:
            groups.setdefault((each.fact.table, each.fact.part), []).append(each)
    return [_seconds(check, part, groups[check, part]) for check, part in sorted(groups)]


def measured_seconds(found: Iterable[Found]) -> dict[str, MeasuredSecond]:
    """What is recorded of each second verifier, by check type: all facts that it read, gaming texts among them."""
    groups: dict[str, list[Found]] = {}
    for each in found:
        if each.fact.spec is not None and each.second is not None:
            groups.setdefault(each.fact.spec.type, []).append(each)
    return {name: _measured(groups[name]) for name in sorted(groups)}


def seconds_table(seconds: Sequence[Seconds]) -> Table:
    """The table of the report."""
    rows = [
        (
            each.check,
            each.part,
            f"{each.agreements.successes} of {each.agreements.n}",
            _of(each.disputes, each.disputes_at_most),
            str(each.disputes_undecided),
            _of(each.false_accepts, each.false_accepts_at_most),
            str(each.negatives_undecided),
        )
        for each in seconds
    ]
    return Table("The second verifiers", _COLUMNS, rows)


def _looser(found: Found) -> bool:
    """Whether the second verifier accepts what is wrong, or what the check refuses."""
    wrong = found.fact.expect != Outcome.PASS or found.outcome == Outcome.FAIL
    return found.second == Outcome.PASS != found.outcome and wrong


def _measured(found: Sequence[Found]) -> MeasuredSecond:
    right = [
        each.second
        for each in found
        if each.fact.expect == each.outcome == Outcome.PASS and each.fact.spec and second_judges(each.fact.spec)
    ]
    spec = found[0].fact.spec
    version = SECONDS[f"{PREFIX}{spec.type}"].version if spec is not None else ""
    return MeasuredSecond(
        version=version,
        looser=sum(_looser(each) for each in found),
        right=len(right),
        disputed=right.count(Outcome.FAIL),
        undecided=sum(each not in _DECIDED for each in right),
    )


def _seconds(check: str, part: Part, found: Sequence[Found]) -> Seconds:
    both = [each for each in found if each.outcome in _DECIDED and each.second in _DECIDED]
    accepted = [each.second for each in found if each.fact.expect == "pass" and each.outcome == Outcome.PASS]
    negatives = [each.second for each in found if each.fact.expect == "fail"]
    disputed, wrong = accepted.count(Outcome.FAIL), negatives.count(Outcome.PASS)
    return Seconds(
        check=check,
        part=part,
        agreements=wilson(sum(each.outcome == each.second for each in both), len(both)),
        disputes=wilson(disputed, len(accepted)),
        disputes_at_most=upper_bound(disputed, len(accepted)),
        disputes_undecided=sum(each not in _DECIDED for each in accepted),
        false_accepts=wilson(wrong, len(negatives)),
        false_accepts_at_most=upper_bound(wrong, len(negatives)),
        negatives_undecided=sum(each not in _DECIDED for each in negatives),
    )


def _of(rate: Rate, at_most: float | None) -> str:
    return "-" if at_most is None else f"{rate.successes} of {rate.n} (at most {at_most:.2%})"

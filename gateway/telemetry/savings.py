"""Savings of the adaptive policy against always-1 and always-5, from randomly drawn full groups.

Audit draws a full group for a random share of the requests that could be voted, whatever the router says. Such a group
shows what one sample (its first) and five samples (all of them) would have cost and solved: the two baselines. Beside
them stands the oracle, the smallest count that solves, which no policy can know: what is "saved" against it is the
regret, below 0. The requests of the same lottery that were not drawn are the adaptive arm. The arms are disjoint random
samples of one traffic, so they are compared as independent. Cache hits are in no arm (they never reach the lottery),
and neither is a group whose checks leave open whether it was solved. A baseline pays for its prompt once, as one
upstream call would bill it; the adaptive arm pays what was really billed, so the comparison never flatters it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeAlias

from router.domain import MAX_SAMPLES, Tokens
from router.enums import CheckClass, Outcome
from router.records import GroupRecord, SampleRecord
from router.running import RunningRatio, relative_saving
from router.stats import wilson

CostOf: TypeAlias = Callable[[str, Tokens], float | None]  # (model, tokens) -> US dollars
SizeOf: TypeAlias = Callable[[Sequence[SampleRecord]], int]  # samples of a full group -> those a baseline draws


class Arm:
    """What one policy solved and spent."""

    def __init__(self) -> None:
        self.solved = self.n = 0
        self.tokens, self.cost = RunningRatio(), RunningRatio()

    def add(self, solved: bool, tokens: int, cost_usd: float | None) -> None:
        """Count one request."""
        self.n += 1
        self.solved += solved
        self.tokens.add(tokens, solved)
        if cost_usd is not None:
            self.cost.add(cost_usd, solved)

    def report(self) -> dict[str, Any]:
        """Solve rate, tokens and cost per solved."""
        return {
            "solve_rate": asdict(wilson(self.solved, self.n)),
            "tokens_per_solved": asdict(self.tokens.estimate()),
            "cost_per_solved_usd": asdict(self.cost.estimate()),
        }


class Savings:
    """The three arms."""

    def __init__(self, cost_of: CostOf) -> None:
        self._cost_of = cost_of
        self._adaptive = Arm()
        self._baselines: Mapping[str, tuple[SizeOf, Arm]] = {
            "always_1": (lambda _: 1, Arm()),
            "always_5": (lambda _: MAX_SAMPLES, Arm()),
            "oracle": (_cheapest, Arm()),
        }

    def record(self, group: GroupRecord) -> None:
        """Count a group in its arm, if it was in the lottery and it is known whether it was solved."""
        samples = sorted(group.samples, key=lambda sample: sample.index)
        if group.audit:
            self._record_full(group, samples)
        elif group.group_propensity < 1:
            solved = _solved(samples)
            if solved is not None:
                self._adaptive.add(solved, group.prompt_tokens + group.completion_tokens, group.cost_usd)

    def _record_full(self, group: GroupRecord, samples: Sequence[SampleRecord]) -> None:
        if len(samples) != MAX_SAMPLES:
            return
        known: list[tuple[Arm, bool, Tokens]] = []
        for size_of, arm in self._baselines.values():
            drawn = samples[: size_of(samples)]
            solved, tokens = _solved(drawn), _tokens(group, drawn)
            if solved is None or tokens is None:
                return  # in every baseline or in none, so that they stay the same prompts
            known.append((arm, solved, tokens))
        for arm, solved, tokens in known:
            arm.add(solved, tokens.prompt + tokens.completion, self._cost_of(group.policy, tokens))

    def arms(self) -> dict[str, Arm]:
        """Every arm by its name."""
        return {"adaptive": self._adaptive} | {name: arm for name, (_, arm) in self._baselines.items()}

    def report(self) -> dict[str, Any]:
        """Each baseline beside the adaptive arm, with `1 - adaptive / baseline` of tokens and cost per solved."""
        return {"adaptive": self._adaptive.report()} | {
            name: self._against(arm) for name, (_, arm) in self._baselines.items()
        }

    def _against(self, baseline: Arm) -> dict[str, Any]:
        reason = None
        if not baseline.n:
            reason = f"no audited group of {MAX_SAMPLES} samples with a completed decisive check yet"
        elif not self._adaptive.n:
            reason = "no request of the audit lottery was left to the router yet"
        return baseline.report() | {
            "tokens_saved": asdict(relative_saving(self._adaptive.tokens, baseline.tokens)),
            "cost_saved": asdict(relative_saving(self._adaptive.cost, baseline.cost)),
            "reason": reason,
        }


def _cheapest(samples: Sequence[SampleRecord]) -> int:
    """The smallest count that solves; one where none does."""
    return next((count for count, sample in enumerate(samples, start=1) if _verified(sample)), 1)


def _tokens(group: GroupRecord, samples: Sequence[SampleRecord]) -> Tokens | None:
    """Tokens of these samples alone; `None` where the engine gave no token ids."""
    completions = [sample.completion_token_ids for sample in samples if sample.completion_token_ids is not None]
    if group.prompt_token_ids is None or len(completions) != len(samples):
        return None
    return Tokens(len(group.prompt_token_ids), sum(map(len, completions)))


def _solved(samples: Sequence[SampleRecord]) -> bool | None:
    """Whether any sample verifies; `None` when none does and one that ran to its end was left undecided."""
    if any(_verified(sample) for sample in samples):
        return True
    judged = [sample for sample in samples if not sample.censored]
    return False if judged and all(_decided(sample) for sample in judged) else None


def _decided(sample: SampleRecord) -> bool:
    decisive = [check for check in sample.checks if check.klass == CheckClass.DECISIVE]
    return bool(decisive) and all(check.outcome in (Outcome.PASS, Outcome.FAIL) for check in decisive)


def _verified(sample: SampleRecord) -> bool:
    """The rule of DESIGN section 2: every required check passed, and at least one decisive check."""
    required_pass = all(check.outcome is Outcome.PASS for check in sample.checks if check.required)
    return required_pass and any(
        check.klass == CheckClass.DECISIVE and check.outcome is Outcome.PASS for check in sample.checks
    )

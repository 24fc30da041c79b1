"""What `GET /v1/scorecard` says: what was solved, at what cost, against answering always once and always five times.

Counted in this process since its start, in bounded memory. Every rate carries its count and a 95 % interval: Wilson's
for proportions, the delta method's for ratios (`router.running`), Byar's for throughput, order statistics for
quantiles. What is not known is null with n = 0, never zero. Requests sent for evaluation are not passed in. What comes
from feedback is `gateway.telemetry.outcomes`'.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from gateway.telemetry.bill import Bill, Component
from gateway.telemetry.savings import CostOf, Savings
from gateway.telemetry.served import Served
from router.domain import MAX_SAMPLES, Verification
from router.enums import CheckClass, Outcome, Route, Status
from router.records import CheckRecord
from router.running import QuantileSketch, RunningRatio
from router.stats import NO_DATA, poisson_rate, wilson

_UNKNOWN = asdict(NO_DATA)


class Scorecard:
    """Accumulates answered requests. `cost_of` prices tokens in US dollars, `None` without a price.

    `bill` is what this process spends beside the tokens of answers, `trained_usd` what all training has cost so far.
    """

    def __init__(
        self,
        cost_of: CostOf,
        clock: Callable[[], float] = time.time,
        bill: Bill | None = None,
        trained_usd: Callable[[], float | None] = lambda: None,
    ) -> None:
        self._clock, self._bill = clock, bill or Bill()
        self._trained_usd, self._trained_before = trained_usd, trained_usd()
        self._since = clock()
        self._statuses: Counter[Status] = Counter()
        self._routes: Counter[Route] = Counter()
        self._samples: Counter[int] = Counter()
        self._errors: Counter[int] = Counter()
        self._checks: Counter[tuple[str, Outcome]] = Counter()
        self._refusals = self._unpriced = self._checked = self._solved = self._hits = self._lookups = 0
        self._cost_usd = 0.0
        self._tokens_per_solved, self._cost_per_solved = RunningRatio(), RunningRatio()
        self._latency = QuantileSketch()
        self.savings = Savings(cost_of)

    def record(self, served: Served) -> None:
        """Count one answer, or one refusal by `on_failure`."""
        verification = served.verification
        self._statuses[verification.status] += 1
        self._routes[verification.route] += 1
        self._refusals += served.refused
        self._latency.add(served.duration_s)
        if verification.cost_usd is None:
            self._unpriced += 1
        else:
            self._cost_usd += verification.cost_usd
        if has_decisive_check(verification):
            self._record_checked(served)
        if served.group is not None:
            self._samples[verification.samples] += 1
            for sample in served.group.samples:
                self._record_checks(sample.checks)
            self.savings.record(served.group)

    def record_lookup(self, hit: bool) -> None:
        """Count one question to the answer cache that was a hit or a miss."""
        self._lookups += 1
        self._hits += hit

    def record_error(self, code: int) -> None:
        """Count a request that ended in the HTTP error `code`."""
        self._errors[code] += 1

    def report(self) -> dict[str, Any]:
        """The scorecard as JSON."""
        seconds = max(0.0, self._clock() - self._since)
        answered, errors = self._statuses.total(), self._errors.total()
        return {
            "window": {"since": self._since, "seconds": seconds},
            "requests": {
                "answered": answered,
                "refused": asdict(wilson(self._refusals, answered)),
                "errors": asdict(wilson(errors, answered + errors)),
                "errors_by_code": {str(code): count for code, count in sorted(self._errors.items())},
            },
            "solve_rate": asdict(wilson(self._solved, self._checked)),
            "tokens_per_solved": asdict(self._tokens_per_solved.estimate()),
            # A cached answer costs nothing even where its model has no price: it alone would make solving look free.
            "cost_per_solved_usd": _UNKNOWN if self._unpriced else asdict(self._cost_per_solved.estimate()),
            "all_in_cost_per_solved_usd": _UNKNOWN if self._unpriced else asdict(self._all_in().estimate()),
            "spending_usd": self._spending() | {"idle": self._bill.idle_usd()},
            "cost_usd": {"value": self._cost_usd if answered > self._unpriced else None, "unpriced": self._unpriced},
            "savings": self.savings.report(),
            "routes": {route: asdict(wilson(self._routes[route], answered)) for route in Route},
            "statuses": {status: asdict(wilson(self._statuses[status], answered)) for status in Status},
            "samples": {
                str(count): self._samples[count] for count in sorted({*range(1, MAX_SAMPLES + 1), *self._samples})
            },
            "cache": {"hit_rate": asdict(wilson(self._hits, self._lookups))},
            "latency_seconds": {
                "p50": asdict(self._latency.estimate(0.5)),
                "p95": asdict(self._latency.estimate(0.95)),
            },
            "throughput_per_minute": asdict(poisson_rate(answered, seconds / 60)),
            "verifiers": self._verifiers(),
        }

    def _record_checked(self, served: Served) -> None:
        verification = served.verification
        solved = verification.status is Status.VERIFIED
        self._checked += 1
        self._solved += solved
        self._tokens_per_solved.add(served.tokens.prompt + served.tokens.completion, solved)
        if verification.cost_usd is not None:
            self._cost_per_solved.add(verification.cost_usd, solved)

    def _spending(self) -> dict[str, float | None]:
        """Dollars by component; null without a price."""
        spent, now = self._bill.spent(), self._trained_usd()
        trained = None if now is None else now - (self._trained_before or 0.0)
        return {component.value: spent.get(component) for component in Component} | {"training": trained}

    def _all_in(self) -> RunningRatio:
        """Cost per solved with what is not tokens of answers spread over the checked requests."""
        beside = [Component.VERIFICATION, Component.AUDIT, Component.JUDGE, "training"]
        spent, ratio = self._spending(), self._cost_per_solved
        return ratio.plus(sum(spent[each] or 0.0 for each in beside) / ratio.n) if ratio.n else ratio

    def _record_checks(self, checks: tuple[CheckRecord, ...]) -> None:
        for check in checks:
            self._checks[check.type, check.outcome] += 1

    def _verifiers(self) -> dict[str, Any]:
        report = {}
        for type_ in sorted({type_ for type_, _ in self._checks}):
            passed, failed = self._checks[type_, Outcome.PASS], self._checks[type_, Outcome.FAIL]
            outcomes = {outcome: self._checks[type_, outcome] for outcome in Outcome}
            report[type_] = {"outcomes": outcomes, "pass_rate": asdict(wilson(passed, passed + failed))}
        return report


def has_decisive_check(verification: Verification) -> bool:
    """Whether a decisive check applied, so that the request can count as solved or not."""
    return any(check.klass is CheckClass.DECISIVE for check in verification.checks)

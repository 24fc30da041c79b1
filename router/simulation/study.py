"""The whole comparison on one bank: every policy, with its oracle in view and with the vote alone."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from router.calibration.fit import FOLDS, Fitted, fit
from router.calibration.measure import Bin, reliability
from router.calibration.model import Calibration
from router.domain import MAX_SAMPLES
from router.enums import Effort, Route
from router.errors import CalibrationError
from router.plan import Plan
from router.route import Learned, Router, RouterSettings
from router.simulation import baselines, scores
from router.simulation.curve import Curve, areas
from router.simulation.observe import observation
from router.simulation.problem import Problem
from router.simulation.replay import LastWave, Run, served
from router.simulation.summary import Bootstrap, Columns, Comparison, PolicySummary, Price, compare, summarise

SHARES = tuple(step / 8 for step in range(1, 8))  # of prompts that a swept router takes for hard
WORTHS = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 64.0, 256.0)  # of a solved task, in samples
LEARNED, PLAN, ESCALATE, LARGER = "learned", "plan", "escalate", "larger alone"
STEPS = len(baselines.CHECKED) + len(baselines.VOTED) + 2 * (2 + len(WORTHS))  # calls of `advance` in a study
_POLICY = "bank"


@dataclass(frozen=True, slots=True)
class LargerBank:
    """The samples of a larger model to the same problems, in the same order, and the terms of `[escalation]`."""

    problems: Sequence[Problem]
    chance: float
    value: float | None  # of a solved task, in dollars

    def last(self, number: int, order: int, price: Price | None, *, checked: bool) -> LastWave:
        """What it would add to a problem; each order of the problem's own samples meets another of its samples."""
        problem = self.problems[number] if checked else self.problems[number].unchecked()
        drawn = order % len(problem.samples)
        tokens = (price.larger or price).tokens if price else _free
        return LastWave(
            problem.samples[drawn], problem.solved[drawn], problem.prompt_tokens, self.chance, self.value, tokens
        )


@dataclass(frozen=True, slots=True)
class Options:
    """How a study is run."""

    router: RouterSettings
    orders: int = 20  # recorded order first, then random ones
    seed: int = 0
    price: Price | None = None
    larger: LargerBank | None = None


@dataclass(frozen=True, slots=True)
class View:
    """One of the two tables: tasks with a check, or with the vote alone."""

    name: str
    policies: tuple[PolicySummary, ...]
    comparisons: tuple[Comparison, ...]
    curves: tuple[Curve, ...]
    histogram: Mapping[str, Mapping[int, float]]  # policy: share of groups by samples drawn


@dataclass(frozen=True, slots=True)
class Study:
    """Everything that was found. `fitted` is None, and `unfitted` says why, when nothing could be learnt."""

    prompts: int
    samples: int
    views: tuple[View, ...]
    fitted: Fitted | None
    bins: tuple[Bin, ...]
    unfitted: str = ""


def study(problems: Sequence[Problem], options: Options, advance: Callable[[], None] = lambda: None) -> Study:
    """Replay every policy over all problems; learned routers are fitted without the fold they are tried on."""
    folds = [position % FOLDS for position in _shuffled(len(problems), options.seed)]
    try:
        fitted: Fitted | None = fit_problems(problems, options.seed)
        by_fold = [
            fit_problems([each for each, own in zip(problems, folds, strict=True) if own != fold], options.seed)
            for fold in range(FOLDS)
        ]
        learned, why = [by_fold[fold].calibration for fold in folds], ""
    except CalibrationError as error:
        fitted, learned, why = None, [], str(error)
    bench = _Bench(problems, folds, learned, options, advance)
    views = (bench.view("checked", problems), bench.view("vote", [each.unchecked() for each in problems]))
    bins: tuple[Bin, ...] = ()
    if fitted is not None:
        told = [(chance, won) for each, chance in zip(problems, fitted.held_out, strict=True) for won in each.solved]
        bins = reliability([chance for chance, _ in told], [won for _, won in told])
    return Study(len(problems), sum(len(each.samples) for each in problems), views, fitted, bins, why)


def fit_problems(problems: Sequence[Problem], seed: int = 0) -> Fitted:
    """A calibration of a bank. Raises `CalibrationError`."""
    return fit(list(map(observation, problems)), policy=_POLICY, source="bank", now=0.0, seed=seed)


class _Bench:
    """Plays the policies of one bank."""

    def __init__(
        self,
        problems: Sequence[Problem],
        folds: Sequence[int],
        learned: Sequence[Calibration],
        options: Options,
        advance: Callable[[], None],
    ) -> None:
        self._folds, self._learned, self._options, self._advance = folds, learned, options, advance
        self._bootstrap = Bootstrap(len(problems), options.seed)
        self._orders = [_orders(options.orders, len(each.samples), f"{options.seed}/{each.id}") for each in problems]

    def view(self, name: str, problems: Sequence[Problem]) -> View:
        """All policies on one view of the problems."""
        checked = name == "checked"
        plain = [
            [each.in_order(order) for order in orders] for each, orders in zip(problems, self._orders, strict=True)
        ]
        weighed = self._weighed(plain)
        router = Router(self._options.router)
        table: dict[str, list[list[Run]]] = {}
        for policy, play in (baselines.CHECKED if checked else baselines.VOTED).items():
            table[policy] = [[play(each) for each in orders] for orders in plain]
            self._advance()
        table[PLAN] = self._plays(plain, self._deciding(problems, [router] * len(problems), vote=not checked))
        if self._learned:
            table[f"{PLAN}, {LEARNED}"] = self._plays(
                weighed, self._deciding(problems, self._routers(None), vote=not checked)
            )
        if self._options.larger is not None:
            routers = self._routers(None) if self._learned else [router] * len(problems)
            table |= self._escalated(weighed or plain, self._deciding(problems, routers, vote=not checked))
        columns = {policy: self._columns(runs) for policy, runs in table.items()}
        reference = "one at a time" if checked else "Adaptive-Consistency"
        ours = [policy for policy in columns if policy.startswith(PLAN)]
        return View(
            name=name,
            policies=tuple(
                summarise(policy, each, (columns["always-1"], columns["oracle"]), self._bootstrap)
                for policy, each in columns.items()
            ),
            comparisons=tuple(
                compare((policy, against), columns[policy], columns[against], self._bootstrap)
                for policy in ours
                for against in (reference, f"always-{MAX_SAMPLES}")
            )
            + tuple(
                compare((ESCALATE, against), columns[ESCALATE], columns[against], self._bootstrap)
                for against in (PLAN, LARGER)
                if self._options.larger is not None
            ),
            curves=self._curves(problems, plain, weighed, columns),
            histogram={policy: _histogram(table[policy]) for policy in (reference, *ours)},
        )

    def _escalated(
        self, problems: Sequence[Sequence[Problem]], decided: Sequence[tuple[Route, Plan]]
    ) -> dict[str, list[list[Run]]]:
        """The plan with a larger model's sample as its last wave, and one sample of that model for everybody."""
        larger, price = self._options.larger, self._options.price
        assert larger is not None
        checked = problems[0][0].spec.has_oracle
        lasts = [
            [larger.last(number, order, price, checked=checked) for order in range(len(orders))]
            for number, orders in enumerate(problems)
        ]
        played = [
            [served(each, route, plan, last) for each, last in zip(orders, waves, strict=True)]
            for orders, waves, (route, plan) in zip(problems, lasts, decided, strict=True)
        ]
        return {ESCALATE: played, LARGER: [[last.alone() for last in waves] for waves in lasts]}

    def _curves(
        self,
        problems: Sequence[Problem],
        plain: Sequence[Sequence[Problem]],
        weighed: Sequence[Sequence[Problem]],
        columns: Mapping[str, Columns],
    ) -> tuple[Curve, ...]:
        """Every router over its threshold, and ours over the price of a solved task.

        All of them elect with the same weights, those of the calibration where there is one: only the routing differs.
        """
        one, full = columns["always-1"], columns.get(f"{PLAN}, {LEARNED}", columns[PLAN])
        checked = problems[0].spec.has_oracle
        ranked = {
            "random": scores.by_chance(problems, self._options.seed),
            "prompt length": scores.by_length(problems),
            "heuristic": scores.by_heuristic(problems),
            "kNN": scores.by_neighbours(problems, self._folds),
        }
        families = {
            name: [one.where(_taken(ranking, share, hard_first=not checked), full) for share in SHARES]
            for name, ranking in ranked.items()
        }
        if self._learned:
            families[LEARNED] = [
                self._columns(self._plays(weighed, self._deciding(problems, self._routers(worth)))) for worth in WORTHS
            ]
        below = {name: areas(members, (one, full), self._bootstrap) for name, members in families.items()}
        return tuple(
            Curve(
                name=name,
                tokens=tuple(self._bootstrap.estimate(self._bootstrap.means(each.tokens)) for each in members),
                solve_rates=tuple(self._bootstrap.estimate(self._bootstrap.means(each.solved)) for each in members),
                area=self._bootstrap.estimate(below[name]),
                lead=self._bootstrap.estimate(below[LEARNED] - below[name]) if LEARNED in below else None,
            )
            for name, members in families.items()
        )

    def _routers(self, worth: float | None) -> list[Router]:
        """Calibrated routers, one a problem; `worth` is the value of a solved task in mean samples."""
        router = Router(self._options.router)
        values = [None if worth is None else worth * calibration.tokens.mean for calibration in self._learned]
        return [router.learning(Learned(*each)) for each in zip(self._learned, values, strict=True)]

    def _deciding(
        self, problems: Sequence[Problem], routers: Sequence[Router], *, vote: bool = False
    ) -> list[tuple[Route, Plan]]:
        """What each router says; with `vote`, of a request that asks for one."""
        effort = Effort.HIGH if vote else Effort.MEDIUM
        decided = []
        for problem, router in zip(problems, routers, strict=True):
            decision, plan = router.decide(problem.prompt, problem.spec, effort, None, _POLICY, problem.tenant)
            decided.append((decision.route, plan))
        return decided

    def _plays(self, problems: Sequence[Sequence[Problem]], decided: Sequence[tuple[Route, Plan]]) -> list[list[Run]]:
        self._advance()
        return [
            [served(each, route, plan) for each in orders]
            for orders, (route, plan) in zip(problems, decided, strict=True)
        ]

    def _weighed(self, problems: Sequence[Sequence[Problem]]) -> list[list[Problem]]:
        """The problems with the evidence that a calibration of the other folds sees in each sample."""
        return [
            [
                replace(
                    each,
                    samples=tuple(
                        replace(one, evidence=calibration.evidence(one.sample, one.checks)) for one in each.samples
                    ),
                )
                for each in orders
            ]
            for orders, calibration in zip(problems, self._learned, strict=False)
        ]

    def _columns(self, runs: Sequence[Sequence[Run]]) -> Columns:
        return Columns.of([Run.mean(each) for each in runs], self._options.price)


def _free(prompt: float, completion: float) -> float:
    return 0.0


def _taken(ranking: Sequence[float], share: float, *, hard_first: bool) -> list[bool]:
    """Which prompts get the plan when this share of them does.

    With a vote the hardest get it; with a check they are those given up, since it ends easy ones itself.
    """
    order = sorted(range(len(ranking)), key=lambda each: ranking[each], reverse=hard_first)
    chosen = set(order[: round(share * len(order))])
    return [each in chosen for each in range(len(ranking))]


def _histogram(runs: Sequence[Sequence[Run]]) -> dict[int, float]:
    counts = Counter(int(run.samples) for orders in runs for run in orders)
    return {samples: counts[samples] / counts.total() for samples in range(1, MAX_SAMPLES + 1)}


def _shuffled(count: int, seed: int) -> list[int]:
    return random.Random(seed).sample(range(count), count)


def _orders(count: int, samples: int, seed: str) -> list[tuple[int, ...]]:
    """The recorded order, then random ones: their mean has the bank's variance and less of the draw's."""
    rng = random.Random(seed)
    return [tuple(range(samples)), *(tuple(rng.sample(range(samples), samples)) for _ in range(count - 1))]

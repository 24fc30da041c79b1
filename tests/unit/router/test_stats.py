import math
from fractions import Fraction

import pytest

from router.running import QuantileSketch, RunningRatio, relative_saving
from router.stats import (
    Estimate,
    Rate,
    bootstrap,
    bootstrap_mean,
    bootstrap_ratio,
    paired_difference,
    poisson_rate,
    quantile,
    ratio,
    upper_bound,
    wilson,
    z_value,
)


class TestUpperBound:
    @pytest.mark.parametrize(("successes", "n"), [(0, 600), (0, 10), (1, 10), (5, 20), (37, 2000)])
    def test_that_few_successes_have_a_chance_of_five_percent_there(self, successes: int, n: int) -> None:
        p = upper_bound(successes, n)
        assert p is not None
        chance = sum(math.comb(n, k) * Fraction(p) ** k * (1 - Fraction(p)) ** (n - k) for k in range(successes + 1))
        assert float(chance) == pytest.approx(0.05, rel=1e-6)

    def test_nothing_seen_in_600(self) -> None:
        assert upper_bound(0, 600) == pytest.approx(0.00498, abs=1e-5)
        assert upper_bound(10, 10) == 1.0

    def test_without_data_and_out_of_range(self) -> None:
        assert upper_bound(0, 0) is None
        with pytest.raises(ValueError, match="2 successes of 1"):
            upper_bound(2, 1)


class TestWilson:
    @pytest.mark.parametrize(
        ("successes", "n", "low", "high"),
        [  # Newcombe, Statistics in Medicine 17 (1998), table I, method 3
            (81, 263, 0.2553, 0.3662),
            (15, 148, 0.0624, 0.1605),
            (0, 20, 0.0, 0.1611),
            (1, 29, 0.0061, 0.1718),
        ],
    )
    def test_agrees_with_the_published_intervals(self, successes: int, n: int, low: float, high: float) -> None:
        rate = wilson(successes, n)
        assert rate.value == successes / n
        assert rate.low == pytest.approx(low, abs=5e-5)
        assert rate.high == pytest.approx(high, abs=5e-5)

    def test_of_nothing_is_unknown(self) -> None:
        assert wilson(0, 0) == Rate(None, 0, 0, None, None)

    def test_of_all_ends_at_one(self) -> None:
        assert wilson(7, 7).high == 1.0

    @pytest.mark.parametrize(("successes", "n"), [(2, 1), (-1, 3), (0, -1)])
    def test_refuses_impossible_counts(self, successes: int, n: int) -> None:
        with pytest.raises(ValueError, match="successes of"):
            wilson(successes, n)

    @pytest.mark.parametrize("confidence", [0.0, 1.0, -0.5, 2.0])
    def test_refuses_an_impossible_confidence(self, confidence: float) -> None:
        with pytest.raises(ValueError, match="confidence"):
            wilson(1, 2, confidence)


class TestPairedDifference:
    @pytest.mark.parametrize(
        ("both", "only_first", "only_second", "neither", "low", "high"),
        [
            (36, 12, 2, 0, 0.0569, 0.3404),  # Newcombe (1998), table II, method 10
            (14, 5, 0, 22, 0.0114, 0.2264),  # Altman et al., Statistics with Confidence (2000), table 6.2
        ],
    )
    def test_agrees_with_the_published_intervals(
        self, both: int, only_first: int, only_second: int, neither: int, low: float, high: float
    ) -> None:
        pairs = [(True, True)] * both + [(True, False)] * only_first
        pairs += [(False, True)] * only_second + [(False, False)] * neither
        estimate = paired_difference(pairs)
        assert estimate.value == pytest.approx((only_first - only_second) / len(pairs))
        assert estimate.low == pytest.approx(low, abs=5e-4)
        assert estimate.high == pytest.approx(high, abs=5e-4)

    def test_pairs_that_all_agree_prove_little(self) -> None:
        estimate = paired_difference([(False, False)] * 6)
        assert estimate.value == 0
        assert estimate.low == pytest.approx(-0.39, abs=0.01)
        assert estimate.high == pytest.approx(0.39, abs=0.01)

    def test_of_nothing_is_unknown(self) -> None:
        assert paired_difference([]) == Estimate(None, 0, None, None)


class TestBootstrap:
    def test_the_same_seed_gives_the_same_interval(self) -> None:
        values = [float(each**2 % 97) for each in range(60)]
        assert bootstrap_mean(values, seed=3) == bootstrap_mean(values, seed=3)
        assert bootstrap_mean(values, seed=3) != bootstrap_mean(values, seed=4)

    def test_of_nothing_is_unknown(self) -> None:
        assert bootstrap_mean([]) == Estimate(None, 0, None, None)
        assert bootstrap_ratio([], []) == Estimate(None, 0, None, None)

    def test_of_a_constant_has_no_width(self) -> None:
        assert bootstrap_mean([2.5] * 10) == Estimate(2.5, 10, 2.5, 2.5)

    def test_mean_interval_is_near_the_normal_one(self) -> None:
        values = [float(each % 10) for each in range(400)]
        estimate = bootstrap_mean(values)
        error = math.sqrt(sum((each - 4.5) ** 2 for each in values) / 400) / math.sqrt(400)
        assert estimate.value == 4.5
        assert estimate.low == pytest.approx(4.5 - 1.96 * error, abs=0.05)
        assert estimate.high == pytest.approx(4.5 + 1.96 * error, abs=0.05)

    def test_ratio_that_solves_nothing_is_unknown(self) -> None:
        assert bootstrap_ratio([3.0, 4.0], [0.0, 0.0]) == Estimate(None, 2, None, None)

    def test_upper_bound_opens_when_resamples_solve_nothing(self) -> None:
        estimate = bootstrap_ratio([1.0, 1.0, 1.0], [1.0, 0.0, 0.0])
        assert estimate.value == 3.0
        assert estimate.low is not None
        assert estimate.high is None

    def test_ratio_refuses_unequal_lengths(self) -> None:
        with pytest.raises(ValueError, match="zip"):
            bootstrap_ratio([1.0], [1.0, 2.0])

    def test_takes_any_statistic(self) -> None:
        estimate = bootstrap([1.0, 2.0, 3.0, 4.0, 5.0], lambda drawn: quantile(drawn, 0.5))
        assert estimate.value == 3.0
        assert estimate.low is not None
        assert estimate.low < 3.0


class TestPoissonRate:
    def test_agrees_with_the_exact_interval(self) -> None:
        # Garwood's exact interval of 10 events is 4.795 to 18.39.
        estimate = poisson_rate(10, 2.0)
        assert estimate.value == 5.0
        assert estimate.low == pytest.approx(4.795 / 2, rel=0.01)
        assert estimate.high == pytest.approx(18.39 / 2, rel=0.01)

    def test_no_event_still_has_an_upper_bound(self) -> None:
        estimate = poisson_rate(0, 1.0)
        assert (estimate.value, estimate.low) == (0.0, 0.0)
        assert estimate.high == pytest.approx(3.69, rel=0.02)

    def test_no_exposure_is_unknown(self) -> None:
        assert poisson_rate(3, 0.0) == Estimate(None, 3, None, None)

    def test_refuses_negative_counts(self) -> None:
        with pytest.raises(ValueError, match="events in"):
            poisson_rate(-1, 1.0)


class TestRunning:
    def test_ratio_agrees_with_the_bootstrap(self) -> None:
        costs = [1.0 + (each * 7919) % 13 for each in range(300)]
        solved = [float((each * 104729) % 5 < 3) for each in range(300)]
        running = RunningRatio()
        for cost, was_solved in zip(costs, solved, strict=True):
            running.add(cost, was_solved)
        expected, got = bootstrap_ratio(costs, solved), running.estimate()
        assert got.value == pytest.approx(expected.value)
        assert got.value == pytest.approx(ratio(list(zip(costs, solved, strict=True))))
        assert got.low == pytest.approx(expected.low, rel=0.03)
        assert got.high == pytest.approx(expected.high, rel=0.03)

    def test_ratio_without_a_solved_task_is_unknown(self) -> None:
        running = RunningRatio()
        assert running.estimate() == Estimate(None, 0, None, None)
        running.add(3.0, 0.0)
        assert running.estimate() == Estimate(None, 1, None, None)

    def test_ratio_of_one_pair_has_no_interval(self) -> None:
        running = RunningRatio()
        running.add(3.0, 1.0)
        assert running.estimate() == Estimate(3.0, 1, None, None)

    def test_saving_of_half_the_cost(self) -> None:
        ours, baseline = RunningRatio(), RunningRatio()
        for each in range(100):
            ours.add(1.0 + each % 2, 1.0)
            baseline.add(2.0 + 2 * (each % 2), 1.0)
        saving = relative_saving(ours, baseline)
        assert saving.value == pytest.approx(0.5)
        assert saving.n == 100
        assert saving.low is not None and saving.high is not None
        assert saving.low < 0.5 < saving.high

    def test_saving_is_unknown_without_a_baseline(self) -> None:
        ours = RunningRatio()
        ours.add(1.0, 1.0)
        assert relative_saving(ours, RunningRatio()) == Estimate(None, 0, None, None)

    def test_saving_of_single_pairs_has_no_interval(self) -> None:
        ours, baseline = RunningRatio(), RunningRatio()
        ours.add(1.0, 1.0)
        baseline.add(4.0, 1.0)
        assert relative_saving(ours, baseline) == Estimate(0.75, 1, None, None)

    def test_sketch_is_within_one_per_cent(self) -> None:
        sketch = QuantileSketch()
        values = [0.001 * 1.01**each for each in range(1000)]
        for value in values:
            sketch.add(value)
        for q in (0.0, 0.5, 0.95, 1.0):
            assert sketch.estimate(q).value == pytest.approx(quantile(values, q), rel=0.0101)

    def test_sketch_of_nothing_is_unknown(self) -> None:
        assert QuantileSketch().estimate(0.5) == Estimate(None, 0, None, None)

    def test_sketch_interval_holds_the_quantile(self) -> None:
        sketch = QuantileSketch()
        for value in range(1, 101):
            sketch.add(float(value))
        estimate = sketch.estimate(0.5)
        assert estimate.low is not None and estimate.high is not None
        assert estimate.low == pytest.approx(41, rel=0.02)
        assert estimate.high == pytest.approx(60, rel=0.02)


def test_z_value() -> None:
    assert z_value(0.95) == pytest.approx(1.959964, abs=1e-6)


def test_quantile_of_nothing_is_unknown() -> None:
    assert quantile([], 0.5) is None

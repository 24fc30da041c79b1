"""Laws of the estimates, whatever the data."""

from hypothesis import given
from hypothesis import strategies as st

from router.running import QuantileSketch
from router.stats import bootstrap_mean, paired_difference, poisson_rate, quantile, wilson

counts = st.integers(0, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
finite = st.floats(-1e6, 1e6)


@given(counts, st.floats(0.01, 0.999))
def test_wilson_holds_the_proportion_within_the_unit_interval(count: tuple[int, int], confidence: float) -> None:
    successes, n = count
    rate = wilson(successes, n, confidence)
    if n == 0:
        assert rate.value is rate.low is rate.high is None
    else:
        assert rate.value is not None and rate.low is not None and rate.high is not None
        assert 0 <= rate.low <= rate.value <= rate.high <= 1


@given(counts)
def test_wilson_is_symmetric_in_success_and_failure(count: tuple[int, int]) -> None:
    successes, n = count
    rate, mirrored = wilson(successes, n), wilson(n - successes, n)
    if rate.low is not None and mirrored.high is not None:
        assert abs(rate.low - (1 - mirrored.high)) < 1e-9


@given(st.integers(1, 100), st.integers(1, 50))
def test_wilson_narrows_with_more_of_the_same(successes: int, times: int) -> None:
    few, many = wilson(successes, 100), wilson(successes * (times + 1), 100 * (times + 1))
    assert few.low is not None and few.high is not None and many.low is not None and many.high is not None
    assert many.high - many.low < few.high - few.low


@given(st.lists(finite, min_size=1, max_size=20), st.integers(0, 2**32))
def test_bootstrap_mean_stays_between_the_extremes(values: list[float], seed: int) -> None:
    estimate = bootstrap_mean(values, seed=seed)
    assert estimate.low is not None and estimate.high is not None
    slack = 1e-9 * max(1.0, *map(abs, values))
    assert min(values) - slack <= estimate.low <= estimate.high <= max(values) + slack


@given(st.integers(0, 10**6), st.floats(1e-3, 1e6))
def test_poisson_interval_holds_the_rate(count: int, exposure: float) -> None:
    estimate = poisson_rate(count, exposure)
    assert estimate.value is not None and estimate.low is not None and estimate.high is not None
    assert 0 <= estimate.low <= estimate.value <= estimate.high


@given(st.lists(st.floats(1e-3, 1e4), min_size=1, max_size=200), st.floats(0, 1))
def test_sketch_is_within_one_per_cent_of_the_quantile(values: list[float], q: float) -> None:
    sketch = QuantileSketch()
    for value in values:
        sketch.add(value)
    exact, approximate = quantile(values, q), sketch.estimate(q).value
    assert exact is not None and approximate is not None
    assert abs(approximate - exact) <= 0.0101 * exact


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_paired_difference_holds_its_value_and_turns_with_the_pairs(pairs: list[tuple[bool, bool]]) -> None:
    estimate, turned = paired_difference(pairs), paired_difference([(b, a) for a, b in pairs])
    assert estimate.value is not None and estimate.low is not None and estimate.high is not None
    assert turned.low is not None and turned.high is not None
    assert -1 - 1e-9 <= estimate.low <= estimate.value <= estimate.high <= 1 + 1e-9
    assert abs(estimate.low + turned.high) < 1e-9

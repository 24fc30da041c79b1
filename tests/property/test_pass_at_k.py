"""Pass@k against counting every choice of samples, and the interval of rates over rows."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.bench.task_summary import pass_at_k, rate_over_rows
from router.stats import wilson


@settings(deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=8), st.integers(1, 8))
def test_pass_at_k_is_the_share_of_choices_with_a_right_sample(samples: list[bool], k: int) -> None:
    choices = list(combinations(samples, k))
    expected = sum(any(choice) for choice in choices) / len(choices) if choices else None
    found = pass_at_k(len(samples), sum(samples), k)
    assert found is None if expected is None else found == pytest.approx(expected)


@settings(max_examples=20, deadline=None)  # 2000 resamples each
@given(st.lists(st.sampled_from([0.0, 0.2, 0.5, 1.0]), min_size=1, max_size=20), st.integers(0, 100))
def test_the_interval_holds_the_rate_and_stays_between_0_and_1(rates: list[float], seed: int) -> None:
    found = rate_over_rows(rates, seed)
    assert found.value == pytest.approx(sum(rates) / len(rates))
    assert found.low is not None and found.high is not None and found.value is not None
    assert -1e-9 <= found.low <= found.value + 1e-9
    assert found.value - 1e-9 <= found.high <= 1 + 1e-9


@settings(deadline=None)
@given(st.lists(st.booleans(), max_size=40))
def test_rows_that_are_all_or_nothing_have_wilsons_interval(solved: list[bool]) -> None:
    found, expected = rate_over_rows([float(each) for each in solved]), wilson(sum(solved), len(solved))
    assert (found.value, found.n, found.low, found.high) == (expected.value, expected.n, expected.low, expected.high)

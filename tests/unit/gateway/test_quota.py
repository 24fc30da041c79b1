"""Limits as they are configured, and how they are said."""

from pathlib import Path
from typing import Any

import pytest

from gateway.bootstrap.checks import check_settings
from gateway.tenants.limiter import _span
from gateway.tenants.quota import NANOS, Limits, limits_of
from router.errors import ConfigError
from router.settings import Settings, TenantSection


def settings(tmp_path: Path, **tables: Any) -> Settings:
    return Settings.model_validate({"state": {"dir": str(tmp_path)}, **tables})


def test_a_tenant_without_limits_has_none() -> None:
    assert limits_of("acme", TenantSection()) is None
    assert limits_of("acme", TenantSection(train_consent=True)) is None


def test_limits_of_a_section() -> None:
    section = TenantSection(requests_per_minute=90, usd_per_day=0.5, max_concurrency=3, tokens_per_day=7)
    limits = limits_of("acme", section)
    assert limits == Limits(90, 90, 7, NANOS // 2, 3) and limits.interval_us == 666_667
    assert limits.budgeted and limits.leased
    rate = limits_of("acme", TenantSection(requests_per_minute=60, burst=5))
    assert rate is not None and (rate.burst, rate.budgeted, rate.leased) == (5, False, False)
    places = limits_of("acme", TenantSection(max_concurrency=3))
    assert places is not None and (places.interval_us, places.budgeted, places.leased) == (0, False, True)


def test_a_share_is_strict() -> None:
    share = Limits(requests_per_minute=100, burst=50, max_concurrency=5).share(4)
    assert (share.requests_per_minute, share.burst, share.max_concurrency) == (25, 1, 1)
    assert Limits(requests_per_minute=1).share(4).requests_per_minute == 1
    assert Limits().share(4) == Limits()


@pytest.mark.parametrize(
    ("tables", "named"),
    [
        ({"tenants": {"acme": {"burst": 5}}}, "requests_per_minute"),
        ({"tenants": {"acme": {"usd_per_day": 5}}}, "prices"),
        ({"tenants": {"acme": {"tokens_per_day": 5}}, "server": {"workers": 2}}, r"\[redis\] url"),
    ],
)
def test_limits_that_cannot_work_are_found_at_start(tmp_path: Path, tables: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        check_settings(settings(tmp_path, **tables))


def test_limits_that_can_work(tmp_path: Path) -> None:
    limited = {"tenants": {"acme": {"tokens_per_day": 5}}}
    check_settings(settings(tmp_path, **limited))
    check_settings(settings(tmp_path, **limited, server={"workers": 2}, redis={"url": "redis://127.0.0.1:1/0"}))
    check_settings(settings(tmp_path, server={"workers": 2}))


@pytest.mark.parametrize(
    ("microseconds", "said"),
    [
        (0, "0ms"),
        (1, "1ms"),
        (250_000, "250ms"),
        (1_000_000, "1s"),
        (1_000_001, "2s"),
        (61_000_000, "1m1s"),
        (3_600_000_000, "1h0m0s"),
        (86_399_000_000, "23h59m59s"),
    ],
)
def test_times_are_said_as_openai_says_them(microseconds: int, said: str) -> None:
    assert _span(microseconds) == said

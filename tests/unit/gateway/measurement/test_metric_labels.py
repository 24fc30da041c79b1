"""Closed label sets name what the router can produce."""

from gateway.telemetry.metric_families import CHECK_TYPES
from router.verify.registry import CHECK_TYPES as REGISTERED


def test_every_check_type_is_a_verifier_label() -> None:
    assert set(CHECK_TYPES) == set(REGISTERED)

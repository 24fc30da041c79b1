"""Calibrations for tests."""

from __future__ import annotations

from typing import Any

from router.calibration.features import BUCKETS, PROMPT_FEATURES, SIGNALS
from router.calibration.model import Calibration, Lengths, Linear, Quality


def calibration(**fields: Any) -> Calibration:
    """A calibration that believes the same of every prompt (one in two solved), and hears no sample's signals."""
    known: dict[str, Any] = {
        "policy": "base",
        "source": "test",
        "created_at": 0.0,
        "prompts": 100,
        "samples": 500,
        "quality": Quality(0.02, (0.01, 0.02, 0.04), 0.2, 0.7, 0.25),
        "intercept": 0.0,
        "dense": flat(len(PROMPT_FEATURES)),
        "hashed": (0.0,) * BUCKETS,
        "history": {},
        "strength": 1.0,
        "spread": 5.0,
        "tokens": Lengths(10.0, 5.0, 2.302585, flat(len(PROMPT_FEATURES))),
        "signals": flat(len(SIGNALS)),
        "steps": {},
        "rates": {},
    }
    return Calibration(**(known | fields))


def flat(size: int) -> Linear:
    """No weight on any feature."""
    return Linear((0.0,) * size, (1.0,) * size, (0.0,) * size)

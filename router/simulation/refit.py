"""A policy's calibration with the price of the configured solve rate. Needs numpy, as fitting does."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from router.calibration.fit import Fitted, fit
from router.calibration.model import Calibration, Escalated, Target
from router.calibration.observe import Observation
from router.calibration.target import Prospect, reaching
from router.settings import Settings
from router.stopping import PassRate


def refit(
    settings: Settings,
    observations: Sequence[Observation],
    *,
    policy: str,
    source: str,
    escalations: Mapping[str, Escalated],
    seed: int = 0,
) -> Calibration:
    """The calibration of `policy`, made now. Raises `CalibrationError` as `router.calibration.fit.fit`."""
    fitted = fit(observations, policy=policy, source=source, now=time.time(), seed=seed)
    target = _target(settings, observations, fitted)
    return replace(fitted.calibration, escalations=dict(escalations), target=target)


def _target(settings: Settings, observations: Sequence[Observation], fitted: Fitted) -> Target | None:
    """What the configured solve rate costs, on the chances that each prompt had while it was held out."""
    if settings.router.solve_rate_target is None:
        return None
    price = settings.prices.get(fitted.calibration.policy) or settings.prices.get(settings.backend.model or "")
    share = price.input / price.output if price is not None and price.output else 0.0
    lengths, strength = fitted.calibration.tokens, fitted.calibration.strength
    prospects = [
        Prospect(PassRate.of(chance, strength), lengths.of(each.features) + share * lengths.prompt)
        for each, chance in zip(observations, fitted.held_out, strict=True)
    ]
    return reaching(settings.router.solve_rate_target, prospects, settings.router.max_samples)

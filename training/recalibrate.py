"""The router's calibration follows the champion: it is fitted on the champion's own groups as they come."""

from __future__ import annotations

from pathlib import Path

from router.calibration.file import FILE_NAME, load_calibration, save_calibration
from router.calibration.fit import MIN_PROMPTS
from router.calibration.model import Calibration
from router.errors import CalibrationError
from router.heldout import load_salt
from router.registry import PolicyRegistry
from router.settings import Settings
from router.simulation.logged import escalations_of, observations_of
from router.simulation.refit import refit
from router.simulation.stream import count_served, latest_base_model, newest_groups

_GROWTH = 2  # times the prompts of the calibration in place: a prompt is read for few fits, however long the log grows


def recalibrate(settings: Settings) -> Calibration | None:
    """Fit and write the champion's calibration; None when none is due, or its groups do not allow one.

    Due is a champion with `MIN_PROMPTS` judged prompts that has no calibration of its own, or one of half as many.
    Raises `ConfigError` for a damaged salt, `RegistryError`, `RecordError`, and `OSError`.
    """
    log_dir = settings.log.dir
    champion = PolicyRegistry(settings.state.dir).champion().policy
    policy = champion or settings.backend.model or latest_base_model(log_dir)
    if policy is None:  # no group yet
        return None
    needed = _needed(settings.state.dir / FILE_NAME, policy)
    if count_served(log_dir, policy) < needed:  # before the groups are read whole
        return None
    seen = observations_of(newest_groups(log_dir, policy), policy, load_salt(settings.state.dir))
    if len(seen) < needed:
        return None
    escalations = escalations_of(newest_groups(log_dir, policy), policy)
    try:
        found = refit(settings, seen, policy=policy, source="group log", escalations=escalations)
    except CalibrationError:  # all solved, or none: nothing to tell apart
        return None
    save_calibration(settings.state.dir, found)
    return found


def _needed(file: Path, policy: str) -> int:
    """Judged prompts from which a fit is due."""
    try:
        known = load_calibration(file)
    except (FileNotFoundError, CalibrationError):
        return MIN_PROMPTS
    return max(MIN_PROMPTS, _GROWTH * known.prompts) if known.policy == policy else MIN_PROMPTS

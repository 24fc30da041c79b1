"""The router's calibration follows the champion: it is fitted on the champion's own groups as they come."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path

from router.calibration.file import FILE_NAME, load_calibration, save_calibration
from router.calibration.fit import MIN_PROMPTS
from router.calibration.model import Calibration
from router.calibration.observe import Observation
from router.enums import Purpose
from router.errors import CalibrationError
from router.heldout import load_salt
from router.log.groups import OnCorrupt, Tally, read_stored, whole
from router.log.parts import Stored
from router.records import GroupHead, GroupRecord
from router.registry import PolicyRegistry
from router.settings import Settings
from router.simulation.logged import escalations_of, observations_of
from router.simulation.refit import refit

_GROWTH = 2  # times the prompts of the calibration in place: a prompt is read for few fits, however long the log grows
_MOST = 10_000  # prompts of a fit, the newest


def recalibrate(settings: Settings) -> Calibration | None:
    """Fit and write the champion's calibration; None when none is due, or its groups do not allow one.

    Due is a champion with `MIN_PROMPTS` judged prompts that has no calibration of its own, or one of half as many.
    Raises `ConfigError` for a damaged salt, `RegistryError`, `RecordError`, and `OSError`.
    """
    heads = [head for _, head in _champions(settings)]
    names = {head.policy for head in heads}
    if len(names) != 1:  # no group, or base models between which `[backend] model` does not choose
        return None
    (policy,) = names
    needed = _needed(settings.state.dir / FILE_NAME, policy)
    if len(heads) < needed:  # before the groups are read whole
        return None
    salt = load_salt(settings.state.dir)
    seen = deque[Observation](maxlen=_MOST)
    for record in _records(settings):
        seen.extend(observations_of([record], policy, salt))
    if len(seen) < needed:
        return None
    escalations = escalations_of(_records(settings), policy)
    try:
        found = refit(settings, tuple(seen), policy=policy, source="group log", escalations=escalations)
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


def _champions(settings: Settings) -> Iterator[tuple[Stored, GroupHead]]:
    champion = PolicyRegistry(settings.state.dir).champion().policy or settings.backend.model
    for stored, head in read_stored(settings.log.dir, include_open=True, on_corrupt=OnCorrupt.SKIP, tally=Tally()):
        if head.purpose is Purpose.PROD and head.policy == (champion or head.base_model):
            yield stored, head


def _records(settings: Settings) -> Iterator[GroupRecord]:
    """The champion's groups, one in memory at a time."""
    for stored, _ in _champions(settings):
        if (record := whole(stored, Tally())) is not None:
            yield record

"""The calibration file: one JSON object in the state directory, replaced whole."""

from __future__ import annotations

from pathlib import Path

import msgspec

from router.calibration.features import BUCKETS, FEATURES_VERSION, PROMPT_FEATURES, SIGNALS, STEPS
from router.calibration.model import MAX_HISTORY, SCHEMA_VERSION, Calibration, Linear, finite
from router.errors import CalibrationError
from router.fs import write_durably

FILE_NAME = "calibration.json"
_CURE = "run `thinktwice calibrate` again"


class _Versions(msgspec.Struct):
    schema_version: int
    features_version: int


def save_calibration(state_dir: Path, calibration: Calibration) -> Path:
    """Put the calibration in the place of the one before; gateways take it up within two seconds.

    Raises `CalibrationError` for one that `load_calibration` would refuse, `OSError` when it cannot be written.
    """
    state_dir.mkdir(parents=True, exist_ok=True)
    path = state_dir / FILE_NAME
    data = msgspec.json.encode(calibration)
    decode_calibration(data, str(path))
    write_durably(path, msgspec.json.format(data, indent=1) + b"\n")
    return path


def load_calibration(path: Path) -> Calibration:
    """The calibration in a file. Raises `CalibrationError`, one line with the cure, and `FileNotFoundError`."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise CalibrationError(f"cannot read {path}: {error.strerror}: make it readable") from error
    return decode_calibration(data, str(path))


def decode_calibration(data: bytes, where: str) -> Calibration:
    """A calibration from JSON. Raises `CalibrationError` for another version, damage, and what is not finite."""
    try:
        versions = msgspec.json.decode(data, type=_Versions)
        if (versions.schema_version, versions.features_version) != (SCHEMA_VERSION, FEATURES_VERSION):
            raise CalibrationError(
                f"{where} has schema {versions.schema_version} and features {versions.features_version}, this "
                f"thinktwice reads {SCHEMA_VERSION} and {FEATURES_VERSION}: {_CURE}"
            )
        found = msgspec.json.decode(data, type=Calibration)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CalibrationError(f"{where} is not a calibration ({error}): {_CURE}") from error
    if not finite(msgspec.to_builtins(found)):
        raise CalibrationError(f"{where} holds a number that is not finite: {_CURE}")
    if not _sound(found):
        raise CalibrationError(f"{where} does not fit together: {_CURE}")
    return found


def _sound(found: Calibration) -> bool:
    rates = [rate for each in found.rates.values() for rate in (each.true_pass, each.false_pass)]
    return (
        len(found.hashed) == BUCKETS
        and len(found.history) <= MAX_HISTORY
        and _fits(found.dense, len(PROMPT_FEATURES))
        and _fits(found.tokens.dense, len(PROMPT_FEATURES))
        and _fits(found.signals, len(SIGNALS))
        and all(_fits(each, len(STEPS)) for each in found.steps.values())
        and min(found.strength, found.spread, found.tokens.mean) > 0
        and all(0 < rate < 1 for rate in rates)
        and all(0 <= each.solved <= each.n for each in found.escalations.values())
        and (found.target is None or (found.target.value or 0.0) >= 0)
    )


def _fits(linear: Linear, size: int) -> bool:
    lengths = {len(linear.centres), len(linear.widths), len(linear.weights)}
    return lengths == {size} and min(linear.widths) > 0

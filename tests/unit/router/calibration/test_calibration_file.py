import json
from pathlib import Path
from typing import Any

import pytest

from router.calibration.file import FILE_NAME, load_calibration, save_calibration
from router.calibration.model import MAX_HISTORY
from router.errors import CalibrationError
from tests.support.calibrations import calibration


def edited(path: Path, **changes: Any) -> Path:
    """A saved calibration with fields changed."""
    save_calibration(path, calibration())
    file = path / FILE_NAME
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    return file


def test_a_calibration_comes_back_as_it_was(tmp_path: Path) -> None:
    path = save_calibration(tmp_path / "state", calibration())
    assert path == tmp_path / "state" / FILE_NAME and load_calibration(path) == calibration()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema_version": 1}, "has schema 1 and features 2, this thinktwice reads 2 and 2"),
        ({"features_version": 1}, "has schema 2 and features 1"),
        ({"schema_version": 3}, "has schema 3"),
        ({"history": {f"p{number}": 0.0 for number in range(MAX_HISTORY + 1)}}, "does not fit together"),
        (
            {"steps": {"arithmetic_steps": {"centres": [0.0], "widths": [1.0], "weights": [1.0]}}},
            "does not fit together",
        ),
        ({"intercept": float("nan")}, "is not a calibration"),
        ({"intercept": None}, "is not a calibration"),
        ({"strength": float("inf")}, "is not a calibration"),
        ({"strength": 0.0}, "does not fit together"),
        ({"hashed": [0.0]}, "does not fit together"),
        ({"rates": {"format": {"true_pass": 1.0, "false_pass": 0.5, "n": 3}}}, "does not fit together"),
        ({"signals": {"centres": [0.0], "widths": [0.0], "weights": [1.0]}}, "does not fit together"),
        ({"unknown": 1}, "is not a calibration"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_cure(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CalibrationError, match=rf"{message}.*run `thinktwice calibrate` again"):
        load_calibration(edited(tmp_path, **changes))


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff"])
def test_damage_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / FILE_NAME
    path.write_bytes(data)
    with pytest.raises(CalibrationError, match="is not a calibration"):
        load_calibration(path)


def test_nothing_unsound_is_written(tmp_path: Path) -> None:
    save_calibration(tmp_path, calibration())
    with pytest.raises(CalibrationError):
        save_calibration(tmp_path, calibration(intercept=float("nan")))
    assert load_calibration(tmp_path / FILE_NAME) == calibration()

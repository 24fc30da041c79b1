"""The golden corpus: facts about what each check accepts and refuses. See `tests/golden/verifiers/SOURCES.md`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from router.verify.pure import PURE_TYPES
from router.verify.spec import parse_checks

CORPUS = Path(__file__).parents[3] / "golden" / "verifiers"
LEAST_ROWS = {"math": 60, "numeric": 40}


def _rows() -> list[Any]:
    return [
        pytest.param(json.loads(line), id=f"{file.stem}-{number}")
        for file in sorted(CORPUS.glob("*.jsonl"))
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1)
    ]


@pytest.mark.parametrize("row", _rows())
def test_verdict(row: dict[str, Any]) -> None:
    (check,) = parse_checks([row["check"]], where="checks", default_timeout_s=3.0)
    kind = PURE_TYPES[check.type]
    found = kind.run(msgspec.convert({**check.params, **row.get("filled", {})}, kind.params), row["text"])
    assert found.outcome == row["expect"], found.detail
    earns = found.outcome == "pass" and check.type not in ("format", "policy")
    assert (found.score is not None) == (earns or found.outcome == "fail")


@pytest.mark.parametrize("name", sorted(PURE_TYPES))
def test_every_type_has_a_corpus_with_both_verdicts(name: str) -> None:
    rows = [json.loads(line) for line in (CORPUS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(rows) >= LEAST_ROWS.get(name, 20)
    assert {"pass", "fail"} <= {row["expect"] for row in rows}

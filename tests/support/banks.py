"""Banks made from a seed: problems of known pass rates, in the form that `bench record` writes."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

from router.simulation.bank import load_bank
from router.simulation.problem import Problem, judged
from tests.support.fakes import numeric_only


def bank_rows(problems: int, seed: int = 0, samples: int = 5) -> list[dict[str, Any]]:
    """Longer problems are solved more rarely, and right samples are surer of themselves and shorter."""
    rng = random.Random(seed)
    rows = []
    for number in range(problems):
        parts = rng.randint(1, 8)
        rate = rng.betavariate(6 * (1 - parts / 9), 6 * parts / 9)
        numbers = [str(rng.randint(2, 99)) for _ in range(parts + 1)]
        for k in range(samples):
            right = rng.random() < rate
            answer = number if right else number + rng.randint(1, 6)
            tokens = rng.randint(8, 12) + parts * (2 if right else 3)
            sure = -0.1 if right else -0.3
            rows.append(
                {
                    "id": f"p{number}",
                    "question": f"A shop has {' boxes and '.join(numbers)} pens. How many are there?",
                    "answer": str(number),
                    "k": k,
                    "text": f"It is \\boxed{{{answer}}}",
                    "finish_reason": "stop",
                    "prompt_tokens": 20 + 3 * parts,
                    "completion_tokens": tokens,
                    "logprobs": [rng.gauss(sure, 0.05) for _ in range(tokens)],
                }
            )
    return rows


def larger_rows(rows: list[dict[str, Any]], rate: float = 0.8, seed: int = 1) -> list[dict[str, Any]]:
    """The same problems answered by a model that solves `rate` of them, in longer samples."""
    rng = random.Random(seed)
    answers = [row["answer"] if rng.random() < rate else "-1" for row in rows]
    longer = [row["completion_tokens"] + 15 for row in rows]
    return [
        {**row, "text": f"It is \\boxed{{{answer}}}", "completion_tokens": tokens, "logprobs": [-0.1] * tokens}
        for row, answer, tokens in zip(rows, answers, longer, strict=True)
    ]


def write_bank(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


async def bank_of(path: Path, problems: int, seed: int = 0) -> tuple[Problem, ...]:
    """A judged bank, without worker processes."""
    return await judged(load_bank(write_bank(path / "bank.jsonl", bank_rows(problems, seed))), numeric_only)


async def larger_of(path: Path, problems: int, seed: int = 0) -> tuple[Problem, ...]:
    """The judged bank of a larger model on the problems of `bank_of`."""
    rows = larger_rows(bank_rows(problems, seed))
    return await judged(load_bank(write_bank(path / "larger.jsonl", rows)), numeric_only)


def shared_bank() -> Path | None:
    """The development bank of real completions, where this machine has it."""
    folder = os.environ.get("THINKTWICE_SHARED_DATA")
    places = [Path(folder)] if folder else [parent / "shared" / "data" for parent in Path(__file__).parents]
    return next((place / "bank_dev.jsonl" for place in places if (place / "bank_dev.jsonl").is_file()), None)

"""Export the easiest Reasoning Gym problems as rows for `thinktwice bench tasks --data`.

    python -m venv /tmp/rg && /tmp/rg/bin/pip install reasoning-gym==0.1.25
    PYTHONPATH=. /tmp/rg/bin/python tests/bench/reasoning_gym_rows.py --out /tmp/rg/rows

Reasoning Gym is no dependency of the project, hence an environment of its own. The form of the answer is added to each
question, as in the project's own tasks; everything else is the data set's. `basic_arithmetic` goes without division:
in version 0.1.25 and without parentheses its answers to divisions are wrong ("Calculate 10 / 4." has the answer 5).
"""

from __future__ import annotations

import argparse
import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reasoning_gym import create_dataset  # type: ignore[import-not-found]

from gateway.bench.tasks.catalogue import generate, write_rows
from gateway.bench.tasks.item import Draw, Item, Rng, Task, list_item

SHOTS = (0, 4)
_TWO_TERMS = {"min_terms": 2, "max_terms": 2}
_NUMBERS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "rg-chain-sum-1digit": ("chain_sum", {**_TWO_TERMS, "min_digits": 1, "max_digits": 1}),
    "rg-chain-sum-2digit": ("chain_sum", {**_TWO_TERMS, "min_digits": 2, "max_digits": 2}),
    "rg-basic-arithmetic": (
        "basic_arithmetic",
        {**_TWO_TERMS, "min_digits": 1, "max_digits": 1, "allow_parentheses": False, "operators": ["+", "-", "*"]},
    ),
    "rg-letter-counting": ("letter_counting", {"min_words": 1, "max_words": 3}),
}
_SORTING = {"min_numbers": 3, "max_numbers": 3, "max_decimals": 0, "min_value": 1, "max_value": 99}


def main() -> None:
    """Write one file for each task and number of worked examples."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the files")
    parser.add_argument("--rows", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    tasks = [Task(name, _number(*source)) for name, source in _NUMBERS.items()]
    for task in (*tasks, Task("rg-number-sorting", _sorting)):
        for shots in SHOTS:
            write_rows(generate(task, args.rows, shots, args.seed), args.out / f"{task.name}-{shots}shot.jsonl")


def _number(dataset: str, config: Mapping[str, Any]) -> Draw:
    """Problems of a data set whose answers are whole numbers."""

    def draw(rng: Rng) -> Item:
        entry = _entry(rng, dataset, config)
        value = int(entry["answer"])
        answer = f"The answer is {value}.\nAnswer: {value}"
        return Item(_asked(entry, "the number"), answer, {"type": "numeric", "reference": value})

    return draw


def _sorting(rng: Rng) -> Item:
    """The data set wants a list of strings in Python's notation; plain numbers are accepted as well."""
    entry = _entry(rng, "number_sorting", _SORTING)
    plain = list_item(entry["question"].split("\n")[0], ast.literal_eval(entry["answer"]))
    accepted = [entry["answer"], *plain.check["reference"]]
    return Item(_asked(entry, "the list"), f"Answer: {entry['answer']}", {"type": "exact", "reference": accepted})


def _asked(entry: Mapping[str, str], what: str) -> str:
    return f'{entry["question"].rstrip()}\nEnd with "Answer: " and {what}.'


def _entry(rng: Rng, dataset: str, config: Mapping[str, Any]) -> Mapping[str, str]:
    entry: Mapping[str, str] = create_dataset(dataset, size=1, seed=rng.getrandbits(31), **config)[0]
    return entry


if __name__ == "__main__":
    main()

"""Writes the truth tables of the checks that run Python: `python -m tests.bench.humaneval_truth --data FILE`.

From the canonical solutions of HumanEval (openai/human-eval, MIT), mutants and rewrites of them, and our own solutions
of some of its problems. A plain interpreter that runs the data set's tests says which are right: run this only on
programs you trust, it has no sandbox.
"""

from __future__ import annotations

import argparse
import ast
import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from router.enums import Outcome
from router.settings import SandboxSection, VerifySection
from router.verify.spec import parse_checks
from router.verify.verifier import IsolatedVerifier, open_verifier
from tests.bench.mutations import bare, mutants, rewrites

LIMIT_S = 5.0
_TRUTH = Path(__file__).parents[1] / "golden" / "verifiers" / "truth"
_OWN = Path(__file__).with_name("humaneval_solutions.jsonl")
_TYPES = {"int": "int", "float": "float", "str": "str", "bool": "bool"}


def verdict(row: dict[str, Any], program: str) -> str | None:
    """What an interpreter that just runs the tests finds: `pass`, `fail`, None when it does not end."""
    source = f"{program}\n{row['test']}\ncheck({row['entry_point']})\n"
    try:
        done = subprocess.run([sys.executable, "-I", "-c", source], capture_output=True, timeout=LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        return None
    return "pass" if done.returncode == 0 else "fail"


def argument_types(row: dict[str, Any]) -> list[str] | None:
    """The types of the entry's arguments by what the tests pass to it; None where `python_outputs` lacks one."""
    columns: dict[int, set[str]] = {}
    for node in ast.walk(ast.parse(row["test"])):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "candidate":
            for index, argument in enumerate(node.args):
                columns.setdefault(index, set()).update(_kind(argument))
    found = [_one_type(columns[index]) for index in sorted(columns)]
    return [kind for kind in found if kind] if found and all(found) else None


def _kind(argument: ast.expr) -> set[str]:
    try:
        value = ast.literal_eval(argument)
    except ValueError:
        return set()  # worked out by the test: other calls tell
    if isinstance(value, list):
        return {f"list[{type(item).__name__}]" for item in value}
    return {type(value).__name__}


def _one_type(kinds: set[str]) -> str | None:
    if kinds in ({"float", "int"}, {"list[float]", "list[int]"}):
        kinds = {max(kinds, key=lambda kind: "float" in kind)}
    known = [*_TYPES, "list[int]", "list[float]", "list[str]"]
    return next((kind for kind in known if kinds == {kind}), None)


async def _narrowed(verifier: IsolatedVerifier, row: dict[str, Any], types: list[str], program: str) -> list[str]:
    """The types with `size` for `int` where the canonical solution gets no vote otherwise."""
    check = {"type": "python_outputs", "entry": row["entry_point"], "args": types}
    specs = parse_checks([check], where="check", default_timeout_s=LIMIT_S)
    (found,) = await verifier.verify(specs, program)
    return types if found.outcome is Outcome.PASS else ["size" if kind == "int" else kind for kind in types]


def _programs(row: dict[str, Any], canonical: str, own: list[str], most: int) -> Iterator[tuple[str, str, str]]:
    """Source, verdict and text of each program whose tests end."""
    groups = {
        "HumanEval": [canonical],
        "HumanEval, mutated": list(mutants(canonical, most)),
        "HumanEval, rewritten": list(rewrites(canonical)),
        "HumanEval, own solution": own,
    }
    for source, programs in groups.items():
        for program in dict.fromkeys(programs):
            found = verdict(row, program)
            if found is not None:
                yield source, found, program


async def main(data: Path, most: int) -> None:
    """Write both tables."""
    rows = [json.loads(line) for line in data.read_text(encoding="utf-8").splitlines()]
    solutions = [json.loads(line) for line in _OWN.read_text().splitlines()]
    tests, outputs = [], []
    async with open_verifier(VerifySection(), SandboxSection()) as verifier:
        for row in rows:
            canonical = bare(row["prompt"] + row["canonical_solution"])
            own = [each["program"] for each in solutions if each["task_id"] == row["task_id"]]
            found = list(_programs(row, canonical, own, most))
            fields = {"entry": row["entry_point"], "code": row["test"]}
            tests += _table_rows(fields, [each for each in found if "rewritten" not in each[0]])
            if (types := argument_types(row)) is not None:
                types = await _narrowed(verifier, row, types, canonical)
                fields = {"entry": row["entry_point"], "args": types, "beside": canonical}
                # A mutant that survives the tests may or may not compute the same: it is no fact.
                outputs += _table_rows(
                    fields,
                    [each for each in found if each[2] != canonical and ("mutated" in each[0]) != (each[1] == "pass")],
                )
            print(row["task_id"], types, len(found), file=sys.stderr)
    for name, table in (("python_tests", tests), ("python_outputs", outputs)):
        text = "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in table)
        (_TRUTH / f"{name}.jsonl").write_text(text, encoding="utf-8")


def _is_fact(found: tuple[str, str, str], canonical: str) -> bool:
    """Whether the tests tell a program from the canonical one: a mutant that survives them may compute the same."""
    source, right, program = found
    return program != canonical and ("mutated" in source) != (right == "pass")


def _table_rows(fields: dict[str, Any], found: list[tuple[str, str, str]]) -> list[dict[str, Any]]:
    sources = dict.fromkeys(source for source, _, _ in found)
    return [
        {**fields, "programs": [[text, right] for of, right, text in found if of == source], "source": source}
        for source in sources
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write the truth tables of python_tests and python_outputs.")
    parser.add_argument("--data", type=Path, required=True, help="HumanEval as JSON Lines")
    parser.add_argument("--mutants", type=int, default=6, help="mutants of each solution (default: %(default)s)")
    options = parser.parse_args()
    asyncio.run(main(options.data, options.mutants))

"""`python_tests` against plain execution: `python -m tests.bench.humaneval_agreement --data humaneval.jsonl`.

Runs the canonical solutions of HumanEval (openai/human-eval, MIT) and mutants of them with one operator changed, once
through the sandboxed check and once by a plain interpreter, and lists every disagreement and every surviving mutant.
Run it only on programs you trust: the plain interpreter has no sandbox.
"""

from __future__ import annotations

import argparse
import ast
import asyncio
import copy
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from router.domain import CheckSpec
from router.settings import Settings
from router.verify.spec import parse_checks
from router.verify.verifier import open_verifier

LIMIT_S = 5.0
SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip


def mutants(source: str, most: int) -> Iterator[tuple[str, str]]:
    """What was changed, and the source with one operator swapped; at most `most`, spread over the program."""
    tree = ast.parse(source)
    places = [
        (number, field)
        for number, node in enumerate(ast.walk(tree))
        for field in ("op", "ops")
        if type(_operator(node, field)) in SWAPS
    ]
    for number, field in places[:: max(1, len(places) // most)][:most]:
        mutant = copy.deepcopy(tree)
        node = list(ast.walk(mutant))[number]
        old = _operator(node, field)
        new = SWAPS[type(old)]()
        setattr(node, field, [new, *getattr(node, field)[1:]] if field == "ops" else new)
        yield f"{type(old).__name__} to {type(new).__name__} in line {getattr(node, 'lineno', 0)}", ast.unparse(mutant)


def _operator(node: ast.AST, field: str) -> Any:
    found = getattr(node, field, None)
    return found[0] if isinstance(found, list) and found else found


def plain(row: dict[str, Any], source: str) -> str:
    """The verdict of an interpreter that just runs the tests."""
    program = f"{source}\n{row['test']}\ncheck({row['entry_point']})\n"
    try:
        done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, timeout=LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        return "fail"
    return "pass" if done.returncode == 0 else "fail"


def checked(row: dict[str, Any]) -> CheckSpec:
    """The check of a row."""
    check = {"type": "python_tests", "entry": row["entry_point"], "code": row["test"], "timeout_s": LIMIT_S}
    return parse_checks([check], where="checks", default_timeout_s=LIMIT_S)[0]


async def main(data: Path, limit: int, each: int) -> int:
    """Compare, print, and return 1 when a verdict differs."""
    rows = [json.loads(line) for line in data.read_text(encoding="utf-8").splitlines()][:limit]
    counts: Counter[str] = Counter()
    settings = Settings()
    async with open_verifier(settings.verify, settings.sandbox) as verifier:
        for row in rows:
            canonical = row["prompt"] + row["canonical_solution"]
            programs = [("canonical", canonical), *mutants(canonical, each)]
            for what, source in programs:
                (found,) = await verifier.verify([checked(row)], f"```python\n{source}\n```")
                expected = await asyncio.to_thread(plain, row, source)
                kind = "canonical" if what == "canonical" else "mutant"
                counts[f"{kind}: plain {expected}, check {found.outcome}"] += 1
                if found.outcome != expected:
                    print(f"DIFFERS {row['task_id']} ({what}): plain {expected}, check {found.outcome} {found.detail}")
                elif kind == "mutant" and expected == "pass":
                    print(f"survives {row['task_id']}: {what}")
    for what, count in sorted(counts.items()):
        print(f"{count:5d}  {what}")
    return int(any(what.split("plain ")[1].split(",")[0] != what.rsplit(" ", 1)[1] for what in counts))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Compare python_tests with plain execution over HumanEval.")
    parser.add_argument("--data", type=Path, required=True, help="HumanEval as JSON Lines")
    parser.add_argument("--limit", type=int, default=1000, help="problems (default: all)")
    parser.add_argument("--mutants", type=int, default=3, help="mutants of each (default: %(default)s)")
    options = parser.parse_args()
    sys.exit(asyncio.run(main(options.data, options.limit, options.mutants)))

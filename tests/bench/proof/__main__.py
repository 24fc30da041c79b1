"""The proof that the loop learns, from the committed plan: `make proof`, or `python -m tests.bench.proof`.

Each arm has a gateway on a state directory of its own, and the embedded engine. A run that was ended anywhere goes on
where it was; `--dry-run` goes through everything at a size that shows that it works and proves nothing.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from router.cli import EXIT_FAILED, EXIT_INTERRUPTED
from router.errors import ThinkTwiceError
from router.fs import append_durably
from tests.bench.proof.arm import BASE, Arm
from tests.bench.proof.plan import PLAN, load_plan, rehearsal
from tests.bench.proof.report import write


def main(arguments: list[str]) -> int:
    """Run what is left of the proof, and write it up. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.proof", description=__doc__)
    parser.add_argument("--plan", type=Path, default=PLAN, metavar="FILE", help="(default: %(default)s)")
    parser.add_argument("--state", type=Path, default=Path("state/proof"), help="(default: %(default)s)")
    parser.add_argument("--out", type=Path, help="folder of the results (default: out, in the state's)")
    parser.add_argument("--dry-run", action="store_true", help="a few minutes, in a state of its own")
    args = parser.parse_args(arguments)
    try:
        plan = load_plan(args.plan)
        plan = rehearsal(plan) if args.dry_run else plan
        state = args.state / "dry-run" if args.dry_run else args.state
        parts = {BASE: None} | {part.name: part for part in plan.arms}
        arms = [Arm(plan, state / name, part) for name, part in parts.items()]
        _same_plan(args.plan, state)
        for arm in arms:
            arm.run()
        command = shlex.join(["python", "-m", "tests.bench.proof", *arguments])
        print(write(plan, arms, command, args.out or state / "out"))
    except (ThinkTwiceError, OSError) as error:
        print(f"proof: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return 0


def _same_plan(plan: Path, state: Path) -> None:
    """A state belongs to one plan: what it was begun with is what it ends with."""
    state.mkdir(parents=True, exist_ok=True)
    kept = state / "plan.toml"
    if not kept.exists():
        append_durably(kept, plan.read_bytes())
    if kept.read_bytes() != plan.read_bytes():
        raise ThinkTwiceError(f"{kept} is another plan than {plan}: give another --state")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What the cycles came to, written down for the gateways' metrics (`router.training_facts`)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from router.training_facts import HeldoutScore, TrainingFacts, load_training_facts, save_training_facts
from training.comparison import Comparison
from training.ledger import Exit, Ledger

_JUDGED = (Exit.PROMOTED, Exit.HELD, Exit.DROPPED, Exit.WITHDRAWN)


def tell_cycles(state_dir: Path, ledger: Ledger, waiting_groups: int, now: float) -> None:
    """Say how cycles ended so far, and how many groups wait at Unix time `now`. Raises `TrainingError`, `OSError`."""
    cycles = ledger.cycles()
    ended = Counter(str(cycle.exit) for cycle in cycles)
    seconds = [cycle.seconds.get("train", 0.0) for cycle in cycles]
    read = [cycle.last_group_at for cycle in cycles if cycle.last_group_at is not None]
    facts = TrainingFacts(
        ended=dict(ended),
        last_success=max((cycle.ts for cycle in cycles if cycle.exit in _JUDGED), default=None),
        last_seconds=seconds[-1] if seconds else None,
        seconds=sum(seconds),
        looked_at=now,
        waiting_groups=waiting_groups,
        read_until=max(read, default=None),
        scores=load_training_facts(state_dir).scores,
    )
    save_training_facts(state_dir, facts)


def tell_score(state_dir: Path, score: HeldoutScore) -> None:
    """Say what a policy solved. Raises `TrainingError`, `OSError`."""
    save_training_facts(state_dir, load_training_facts(state_dir).scored(score))


def tell_scores(state_dir: Path, suite: str, found: Comparison) -> None:
    """Say what both policies of an evaluation solved. Raises `TrainingError`, `OSError`."""
    facts = load_training_facts(state_dir)
    for arm in found.arms.values():
        facts = facts.scored(HeldoutScore(suite, arm.policy, arm.solved.successes, arm.solved.n))
    save_training_facts(state_dir, facts)

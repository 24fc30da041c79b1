"""What the trainer tells the gateways of its cycles, for their metrics: one JSON file in the state directory."""

from __future__ import annotations

from pathlib import Path

import msgspec

from router.errors import TrainingError
from router.fs import write_durably

FILE_NAME = "training.json"
MAX_SCORES = 10  # kept, the newest


class HeldoutScore(msgspec.Struct, frozen=True):
    """How many of the held-out questions of a suite a policy solved when it was last evaluated on them."""

    suite: str
    policy: str
    solved: int
    n: int


class TrainingFacts(msgspec.Struct, frozen=True):
    """Cycles by how they ended, what they took, and what of the log waits. Times are Unix times, in seconds."""

    ended: dict[str, int] = {}
    last_success: float | None = None  # the end of the last cycle that brought its policy to a verdict
    last_seconds: float | None = None  # of training, in the last cycle
    seconds: float = 0.0  # of training, in all cycles
    waiting_groups: int = 0  # trainable and unread, when last looked
    read_until: float | None = None  # when the newest group was made that a cycle has read
    scores: tuple[HeldoutScore, ...] = ()
    looked_at: float | None = None  # when `train --if-due` last came to its end, due or not

    def scored(self, score: HeldoutScore) -> TrainingFacts:
        """The facts with a score in the place of an older one of the same policy and suite."""
        others = (each for each in self.scores if (each.suite, each.policy) != (score.suite, score.policy))
        return msgspec.structs.replace(self, scores=(*others, score)[-MAX_SCORES:])


def load_training_facts(state_dir: Path) -> TrainingFacts:
    """The facts, without a file those of a trainer that never ran. Raises `TrainingError` for a damaged one."""
    path = state_dir / FILE_NAME
    try:
        return msgspec.json.decode(path.read_bytes(), type=TrainingFacts)
    except FileNotFoundError:
        return TrainingFacts()
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise TrainingError(f"{path} cannot be read ({error}): remove it, the next cycle writes it") from error


def save_training_facts(state_dir: Path, facts: TrainingFacts) -> None:
    """Put the facts in the place of those before. Raises `OSError`."""
    write_durably(state_dir / FILE_NAME, msgspec.json.encode(facts) + b"\n")

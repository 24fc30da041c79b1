"""How a canary fares beside the champion: what every serving process counts, and when that says harm.

<state dir>/canary/<epoch>/<process>.json    the counts of one process since the champion file has this epoch
"""

from __future__ import annotations

import shutil
from collections import deque
from pathlib import Path

import msgspec

from router.errors import RegistryError
from router.fs import write_durably
from router.stats import e_value

HARM_ALPHA = 0.01  # the chance that a canary as good as the champion is ever withdrawn
_WAITING = 64  # results of one policy that wait for one of the other
_PROMPTS = 20_000  # remembered, so that a prompt asked again and again counts once


class Counts(msgspec.Struct, frozen=True):
    """Judged answers of both, and the pairs of one each in which only one of them solved its prompt."""

    canary: int = 0
    canary_solved: int = 0
    champion: int = 0
    champion_solved: int = 0
    better: int = 0  # pairs that only the canary solved
    worse: int = 0

    @property
    def harmful(self) -> bool:
        """Whether the canary is shown to be worse, at level `HARM_ALPHA` however often this is asked (`e_value`)."""
        return e_value(self.worse, self.better) >= 1 / HARM_ALPHA

    def plus(self, other: Counts) -> Counts:
        """The counts of both together: pairs of different processes are independent."""
        ours, theirs = msgspec.structs.astuple(self), msgspec.structs.astuple(other)
        return Counts(*map(sum, zip(ours, theirs, strict=True)))


class Tally:
    """Counts answers as they come and pairs each with the latest of the other policy that no pair has used.

    The two serve different prompts, which a hash shares out, so a pair compares two draws of the same traffic at the
    same time; which results meet does not depend on what they are.
    """

    def __init__(self) -> None:
        self.counts = Counts()
        self._waiting: dict[bool, deque[bool]] = {each: deque(maxlen=_WAITING) for each in (False, True)}
        self._prompts: dict[str, None] = {}

    def add(self, prompt_hash: str, *, canary: bool, solved: bool) -> None:
        """Count an answer, unless its prompt was counted before."""
        if prompt_hash in self._prompts:
            return
        self._prompts[prompt_hash] = None
        if len(self._prompts) > _PROMPTS:
            del self._prompts[next(iter(self._prompts))]
        new = Counts(canary, canary and solved, not canary, not canary and solved)
        if self._waiting[not canary]:
            other = self._waiting[not canary].pop()
            ours, theirs = (solved, other) if canary else (other, solved)
            new = msgspec.structs.replace(new, better=ours > theirs, worse=ours < theirs)
        else:
            self._waiting[canary].append(solved)
        self.counts = self.counts.plus(new)


def save_counts(state_dir: Path, epoch: int, process: str, counts: Counts) -> None:
    """Keep a process's counts of an epoch for the others, and drop those of epochs before. Raises `OSError`."""
    folder = _folder(state_dir) / str(epoch)
    folder.mkdir(parents=True, exist_ok=True)
    write_durably(folder / f"{process}.json", msgspec.json.encode(counts))
    for other in _folder(state_dir).iterdir():
        if other.name.isdecimal() and int(other.name) < epoch:
            shutil.rmtree(other, ignore_errors=True)


def read_counts(state_dir: Path, epoch: int) -> Counts:
    """The counts of all processes since the champion file has this epoch. Raises `RegistryError` for a damaged file."""
    total = Counts()
    for path in sorted((_folder(state_dir) / str(epoch)).glob("*.json")):
        try:
            total = total.plus(msgspec.json.decode(path.read_bytes(), type=Counts))
        except (OSError, msgspec.MsgspecError) as error:
            raise RegistryError(f"{path} is damaged ({error}): delete it") from error
    return total


def _folder(state_dir: Path) -> Path:
    return state_dir / "canary"

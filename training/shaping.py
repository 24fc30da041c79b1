"""What a completion earns beside its outcome: for its length, its format and its steps.

These terms move the advantage alone. The outcome stays what it was, in the report, in the manifest and in every
evaluation, so that a policy which only learnt to please them does not look better for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from router.settings import TrainingSection
from training.groups import Group
from training.rows import Row


@dataclass(frozen=True, slots=True)
class Term:
    """One addition to the reward; `of` gives its value for a row, None where it is unknown."""

    weight: float
    of: Callable[[Row], float | None]

    def values(self, group: Group) -> list[float] | None:
        """The value of each row; None when one is unknown, so that no row loses by a failure of ours."""
        found = [value for row in group.rows if (value := self.of(row)) is not None]
        return found if len(found) == len(group.rows) else None


@dataclass(frozen=True, slots=True)
class Earned:
    """What the terms came to in a run."""

    weight: float
    mean: float | None  # before the weight, over `rows`; None without any
    rows: int  # that the term was known for


def terms(config: TrainingSection) -> dict[str, Term]:
    """The terms that the configuration gives a weight, by their name."""
    limit, margin = config.length_limit, config.length_margin
    known = {
        "length": Term(config.length_weight, lambda row: soft_overlong(len(row.completion_ids), limit, margin)),
        "format": Term(config.format_weight, lambda row: row.format_score),
        "process": Term(config.process_weight, lambda row: row.process_score),
    }
    return {name: term for name, term in known.items() if term.weight}


def soft_overlong(tokens: int, limit: int, margin: int) -> float:
    """0 up to `limit - margin` tokens, -1 beyond `limit`, linear between (DAPO, arXiv 2503.14476)."""
    return -min(1.0, max(0.0, (tokens - (limit - margin)) / margin))


def shaped_rewards(group: Group, of: Mapping[str, Term]) -> list[float]:
    """Outcome plus the weighted terms, by row; a term that is unknown for one row is left out for the group."""
    rewards = [row.reward for row in group.rows]
    for term in of.values():
        values = term.values(group)
        if values is not None:
            rewards = [reward + term.weight * value for reward, value in zip(rewards, values, strict=True)]
    return rewards


def earned(groups: Sequence[Group], of: Mapping[str, Term]) -> dict[str, Earned]:
    """The mean of every term over the groups it was known for."""
    found = {}
    for name, term in of.items():
        values = [value for group in groups for value in term.values(group) or ()]
        found[name] = Earned(term.weight, fmean(values) if values else None, len(values))
    return found

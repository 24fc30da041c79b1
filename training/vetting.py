"""Which of the groups that were read are what they say, and fresh enough to train on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from router.errors import TrainingError
from training.groups import Group
from training.identity import check_identity
from training.report import Report
from training.staleness import MIN_ESS, check_staleness


def vet(
    policy: Any, groups: Sequence[Group], older: Mapping[str, Path | None], report: Report, identity_kl: float
) -> list[Group]:
    """The groups whose rows the policy that they name reproduces and which are not too stale; the others are counted.

    `older` names the policies before `policy` with the folders of their adapters. Raises `TrainingError` when no group
    is left.
    """
    report.identity = check_identity(policy, groups, older)
    foreign = {(each.policy, each.source): each for each in report.identity if not each.kl < identity_kl}
    found = [
        f"the rows of {each.source} are not of the policy they name: mean KL {each.kl:.3g} nats a token over "
        f"{each.rows} rows, the limit is {identity_kl:g} (another adapter, temperature, logprobs mode or quantisation?)"
        for each in foreign.values()
    ]
    kept = _without(groups, lambda group: (group.policy, group.source) in foreign, "identity", report)
    report.staleness = check_staleness(policy, kept, older)
    stale = {each.policy for each in report.staleness if not each.usable}
    found += [
        f"the rows of {each.policy} are too far from the champion: effective sample size {each.ess:.3g} of the tokens, "
        f"{MIN_ESS:g} is needed"
        for each in report.staleness
        if not each.usable
    ]
    kept = _without(kept, lambda group: group.policy in stale, "low_ess", report)
    if not kept:
        raise TrainingError("; ".join(found))
    report.counts.problems += found
    return kept


def _without(groups: Sequence[Group], drop: Callable[[Group], bool], reason: str, report: Report) -> list[Group]:
    kept = [group for group in groups if not drop(group)]
    if len(kept) < len(groups):
        report.counts.dropped_groups[reason] += len(groups) - len(kept)
    return kept

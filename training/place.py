"""Where a run reads and writes, and the groups that it may train on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from router.log.groups import OnCorrupt
from router.registry import Policy, PolicyRegistry
from router.settings import Objective, TrainingSection
from training.curriculum import Choice
from training.cycle import NewGroups
from training.dataset import Accepts, Counts, Dataset, read_dataset, trainable
from training.identity import template_fingerprint
from training.ledger import Consumed
from training.model import BaseModel, open_base_model
from training.overlap import evaluation_prompts
from training.staleness import MAX_LAG


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run reads and writes."""

    log_dir: Path
    state_dir: Path
    model: Path  # folder of the base model
    base_model: str | None = None  # its name at the engine; None: the single one that the log names
    heldout_share: float = 0.0

    def champion(self) -> Policy | None:
        """The policy to go on from, None for the base model. Raises `RegistryError`."""
        registry = PolicyRegistry(self.state_dir)
        name = registry.champion().policy
        return registry.get(name) if name else None

    def champions_before(self, champion: Policy | None) -> list[Policy | None]:
        """The policies that `champion` came from, the nearest first and at most `MAX_LAG`; None is the base model."""
        registry, found = PolicyRegistry(self.state_dir), list[Policy | None]()
        while champion is not None and len(found) < MAX_LAG:
            name = champion.manifest["parent"]
            if name is not None and name not in registry.names():  # its folder was deleted
                break
            champion = registry.get(name) if name else None
            found.append(champion)
        return found


def read_trainable(place: Place, base: BaseModel, parent: Policy | None, config: TrainingSection) -> Dataset:
    """The groups that may train the successor of `parent`. Raises as `read_dataset`."""
    choice = Choice(config.max_groups, config.curriculum)
    return read_dataset(place.log_dir, accepted(place, base, parent, config), choice)


def new_groups(place: Place, config: TrainingSection, consumed: Consumed) -> NewGroups:
    """The trainable groups that are not consumed. Changes nothing, not even a damaged segment's name."""
    counts, accepts = Counts(), accepted(place, open_base_model(place.model), place.champion(), config)
    number = 0
    for found in trainable(place.log_dir, accepts, counts, OnCorrupt.SKIP):
        number += not consumed.covers(found.position, (found.group.created_at, found.group.group_id))
    damage = {f"damaged_{what}": number for what, number in counts.damage.items()}
    return NewGroups(number, {**counts.dropped_groups, **damage})


def accepted(place: Place, base: BaseModel, parent: Policy | None, config: TrainingSection) -> Accepts:
    """What a group must be to train the successor of `parent`. Raises `ConfigError` for held-out questions unread."""
    older = place.champions_before(parent) if config.objective is Objective.CISPO else ()
    return Accepts(
        champion=parent.name if parent else None,
        base_model=place.base_model or (parent.manifest.get("base_model") if parent else None),
        template_fingerprint=template_fingerprint(base.tokenizer),
        limits=base.limits,
        heldout_share=place.heldout_share,
        questions=evaluation_prompts(config),
        mode=config.mode,
        older=tuple(policy.name if policy else None for policy in older),
    )

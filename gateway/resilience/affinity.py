"""Which engine a prompt prefers, so that its prefix is found in that engine's cache. Pure.

Rendezvous hashing (Thaler and Ravishankar 1998): every gateway process agrees without talking, and an engine that
leaves moves only the prompts that preferred it. Bounded load (Mirrokni, Thorup and Zadimoghaddam 2018, arXiv
1608.01350): a favourite that is clearly busier than the others is passed over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, Protocol, TypeVar

import msgspec

from router.ports import Draw

LOAD_FACTOR = 1.25  # of the mean number of samples in flight: above it a favourite has no room
LOAD_SLACK = 4  # samples a favourite may always be ahead, so that an idle pool does not spill
_OPENING_ROLES = ("system", "developer")


class Loaded(Protocol):
    """An engine as far as the choice sees it."""

    @property
    def name(self) -> str:
        """What tells it from the others, the same in every gateway process."""
        ...

    @property
    def in_flight(self) -> int:
        """Samples it generates for this process now."""
        ...


T = TypeVar("T", bound=Loaded)


def prefix_keys(draw: Draw) -> tuple[str, ...]:
    """What the prompt's cached prefix depends on, the most widely shared first.

    The first key is the opening (system and developer messages), which all conversations of an application share;
    the second is the opening with the first message after it, which all turns of one conversation, and all samples of
    one prompt, share. Without an opening there is the second alone.
    """
    messages = draw.prompt.messages
    end = next((i for i, each in enumerate(messages) if each.get("role") not in _OPENING_ROLES), len(messages))
    scope = (draw.model, draw.cache_salt, draw.prompt.options.get("tools"))
    heads: Sequence[Sequence[Mapping[str, Any]]] = (messages[:end], messages[: end + 1])
    return tuple(_digest((scope, head)) for head in heads if head)


def preferred(engines: Sequence[T], keys: Sequence[str], samples: int) -> list[T]:
    """The engines in the order to try: the favourite of each key while it has room, then the least busy first."""
    total = sum(engine.in_flight for engine in engines) + samples
    room = LOAD_FACTOR * total / max(len(engines), 1) + LOAD_SLACK
    favourites = [max(engines, key=lambda engine: _weight(key, engine.name)) for key in keys] if engines else []
    order = [engine for engine in favourites if engine.in_flight + samples <= room]
    order += sorted(engines, key=lambda engine: engine.in_flight)
    return list(dict.fromkeys(order))


def _digest(value: Any) -> str:
    return blake2b(msgspec.json.encode(value, order="sorted"), digest_size=16).hexdigest()


def _weight(key: str, name: str) -> bytes:
    return blake2b(f"{name}\n{key}".encode(), digest_size=8).digest()

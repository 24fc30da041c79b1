"""The groups of a policy as the log holds them: one whole record in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import nlargest
from pathlib import Path

from router.enums import Purpose
from router.log.groups import OnCorrupt, Tally, read_stored, whole
from router.log.parts import Stored
from router.records import GroupHead, GroupRecord

MOST_GROUPS = 10_000  # that a calibration learns from: a fit takes milliseconds a prompt, and old traffic says less


def latest_base_model(log_dir: Path) -> str | None:
    """The base model of the newest group; None for an empty log."""
    newest = max((head for _, head in _heads(log_dir)), key=lambda head: head.created_at, default=None)
    return None if newest is None else newest.base_model


def groups_of(log_dir: Path, policy: str) -> Iterator[GroupRecord]:
    """Every group of the policy that was served; evaluations and replays are another traffic."""
    return _served(log_dir, policy, 0.0)


def count_served(log_dir: Path, policy: str) -> int:
    """How many `groups_of` there are, by their heads."""
    return sum(_is_served(head, policy) for _, head in _heads(log_dir))


def newest_groups(log_dir: Path, policy: str, most: int = MOST_GROUPS) -> Iterator[GroupRecord]:
    """The newest `most` of `groups_of`, in the order of the log; more where several are as old as the oldest of them.

    The heads are read first, of which only the times are kept.
    """
    times = (head.created_at for _, head in _heads(log_dir) if _is_served(head, policy))
    newest = nlargest(most, times)
    return _served(log_dir, policy, newest[-1]) if newest else iter(())


def _served(log_dir: Path, policy: str, since: float) -> Iterator[GroupRecord]:
    for stored, head in _heads(log_dir):
        wanted = _is_served(head, policy) and head.created_at >= since
        if wanted and (record := whole(stored, Tally())) is not None:
            yield record


def _is_served(head: GroupHead, policy: str) -> bool:
    return head.policy == policy and head.purpose is Purpose.PROD


def _heads(log_dir: Path) -> Iterator[tuple[Stored, GroupHead]]:
    return read_stored(log_dir, include_open=True, on_corrupt=OnCorrupt.SKIP, tally=Tally())

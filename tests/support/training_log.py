"""Groups that may train, and a log of them, written as the gateway writes it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from router.domain import Sampling
from router.enums import Route, Stopped
from router.log.groups import claim_worker
from router.log.segments import frame
from router.log.writer import SegmentWriter
from router.record_codec import encode
from router.records import GroupRecord, SampleRecord
from tests.support.groups import group, sample

PLAIN = Sampling(temperature=1.0, top_p=1.0, top_k=-1, min_p=0.0, max_tokens=64)
FINGERPRINT = "f" * 64
PROMPT = (5, 6, 7)


def trained_sample(index: int = 0, reward: float | None = 1.0, **fields: Any) -> SampleRecord:
    """An eligible sample of the base model."""
    return sample(index, **({"sampling": PLAIN, "reward": reward} | fields))


def trained_group(group_id: str = "g0", rewards: Sequence[float | None] = (1.0, 0.0), **fields: Any) -> GroupRecord:
    """An audited group of as many eligible samples as rewards."""
    known: dict[str, Any] = {
        "prompt_hash": "ff" * 16,
        "prompt_token_ids": PROMPT,
        "template_fingerprint": FINGERPRINT,
        "route": Route.VOTE,
        "stopped": Stopped.CAP,
        "audit": True,
        "planned_samples": len(rewards),
        "samples": tuple(trained_sample(index, reward) for index, reward in enumerate(rewards)),
    }
    return group(group_id, **(known | fields))


def write_log(log_dir: Path, records: Sequence[GroupRecord]) -> Path:
    """Append a sealed segment of these groups to worker w0 and return its path."""
    worker = claim_worker(log_dir)
    try:
        writer = SegmentWriter(worker.path, worker.next_seq())
        writer.append([frame(encode(record)) for record in records])
        sealed = writer.seal()
    finally:
        worker.release()
    assert sealed is not None
    return sealed

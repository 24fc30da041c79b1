"""Records for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from router.cache_key import key_of
from router.domain import Sampling
from router.enums import Outcome, Reason, Route, Status, Stopped
from router.records import CachedAnswer, CheckRecord, GroupRecord, SampleRecord

CHECK = CheckRecord(
    id="c0", type="math", klass="decisive", outcome=Outcome.PASS, score=1.0, ms=4.5, version="math@1", weight=1.0
)


def broken(path: Path) -> bytes:
    """The segment's bytes, the last of its hash another."""
    content = path.read_bytes()
    return content[:-1] + bytes([content[-1] ^ 1])


def sample(index: int = 0, **fields: Any) -> SampleRecord:
    """One sample with two tokens."""
    known: dict[str, Any] = {
        "message": {"role": "assistant", "content": "The answer is \\boxed{4}."},
        "finish_reason": "stop",
        "completion_token_ids": (11, 12),
        "behavior_logprobs": (-0.25, -1.5),
        "sampling": Sampling(temperature=1.0, max_tokens=64),
        "policy": "base",
        "checks": (CHECK,),
        "reward": 1.0,
        "label_source": "verifier",
        "answer_key": "4",
        "rl_eligible": True,
    }
    return SampleRecord(index=index, **(known | fields))


def group(group_id: str = "g0", **fields: Any) -> GroupRecord:
    """One group with one sample."""
    known: dict[str, Any] = {
        "created_at": 1_700_000_000.0,
        "tenant": "local",
        "train_consent": True,
        "prompt_hash": "00" * 16,
        "messages": ({"role": "user", "content": "What is 2 + 2?"},),
        "base_model": "base",
        "policy": "base",
        "engine": "embedded",
        "engine_version": "1",
        "logprobs_mode": "processed_logprobs",
        "route": Route.SINGLE,
        "stopped": Stopped.SINGLE,
        "planned_samples": 1,
        "difficulty": 0.25,
        "status": Status.VERIFIED,
        "reason": Reason.DECISIVE_PASS,
        "samples": (sample(),),
        "prompt_tokens": 9,
        "completion_tokens": 2,
    }
    return GroupRecord(group_id=group_id, **(known | fields))


def answer(name: str = "a", **fields: Any) -> tuple[str, CachedAnswer]:
    """A cache key and the verified answer that belongs to it; another `name` is another question."""
    digest = name.encode().ljust(32, b"\0")
    known: dict[str, Any] = {
        "key_digest": digest,
        "status": Status.VERIFIED,
        "message": {"role": "assistant", "content": f"answer to {name}"},
        "finish_reason": "stop",
        "reason": Reason.DECISIVE_PASS,
        "samples": 1,
        "votes": 1,
        "agreement": 1.0,
        "difficulty": 0.25,
        "score": 1.0,
        "checks": (CHECK,),
        "group_id": f"g-{name}",
        "policy": "base",
        "profile": None,
        "created_at": 1_700_000_000.0,
    }
    return key_of(digest), CachedAnswer(**(known | fields))

"""A digest that tells tokenizers and chat templates apart without their files: token ids of a fixed conversation."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

FINGERPRINT_MESSAGES = (
    {"role": "system", "content": "You are a careful assistant."},
    {"role": "user", "content": "Say: naïve café, 3.14 × 2 = 6.28 ✓"},
    {"role": "assistant", "content": "naïve café, 3.14 × 2 = 6.28 ✓"},
    {"role": "user", "content": "Again?"},
)


def fingerprint(token_ids: Sequence[int]) -> str:
    """SHA-256 of the conversation's token ids in decimal, joined by commas."""
    return sha256(",".join(map(str, token_ids)).encode()).hexdigest()

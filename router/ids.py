"""Group identifiers: UUIDs of version 7, so that they sort by time (RFC 9562, section 5.7)."""

from __future__ import annotations

import secrets
import time


def new_group_id() -> str:
    """A fresh UUIDv7: 48 bits of Unix milliseconds, then 74 random bits."""
    milliseconds = time.time_ns() // 1_000_000
    random = secrets.randbits(74)
    value = milliseconds << 80 | 0x7 << 76 | (random >> 62) << 64 | 0b10 << 62 | random & (1 << 62) - 1
    digits = f"{value:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def uniform(group_id: str) -> float:
    """A uniform draw in [0, 1) that belongs to the group: its last 48 random bits."""
    return int(group_id[-12:], 16) / 2**48

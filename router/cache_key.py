"""The key of a cached answer: two requests share one only if nothing that shapes the answer differs."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import msgspec

from router.domain import CheckSpec, Prompt, VerificationSpec

_KEY_SCHEMA = 2


def cache_key(
    *, tenant: str, policy: str, epoch: int, prompt: Prompt, verification: VerificationSpec
) -> tuple[str, bytes]:
    """The key of a request, 32 hex digits, and the 32-byte digest it is made from.

    Covers tenant, policy and its epoch, the messages (Unicode NFC, nothing else folded), engine options, sampling, the
    checks and server-side tools with their versions, sample bounds and profile. `on_failure` shapes the response, not
    the answer: left out.
    """
    canonical = {
        "schema": _KEY_SCHEMA,
        "tenant": tenant,
        "policy": policy,
        "epoch": epoch,
        "messages": _nfc(prompt.messages),
        "options": dict(prompt.options),
        "sampling": prompt.sampling.fields(),
        "checks": [{name: getattr(check, name) for name in CheckSpec.__slots__} for check in verification.checks],
        "samples": [verification.min_samples, verification.max_samples],
        "profile": verification.profile,
        "tools": [[tool.name, tool.version] for tool in verification.tools],
        "max_turns": verification.max_turns,
    }
    try:
        text = _CANONICAL.encode(canonical)
    except (UnicodeEncodeError, OverflowError):  # half of a surrogate pair, or an integer beyond 64 bits
        text = json.dumps(canonical, sort_keys=True, default=_plain).encode()
    digest = blake2b(text, digest_size=32).digest()
    return key_of(digest), digest


def key_of(digest: bytes) -> str:
    """The key under which the answer with this digest is stored: a store can tell that a value is not its key's."""
    return blake2b(digest, digest_size=16).hexdigest()


def _nfc(value: Any) -> Any:
    """`value` with every string in it in Unicode normal form C."""
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value)
    if isinstance(value, Mapping):
        return {name: _nfc(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_nfc(item) for item in value]
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not part of a JSON request")


_CANONICAL = msgspec.msgpack.Encoder(order="sorted", enc_hook=_plain)

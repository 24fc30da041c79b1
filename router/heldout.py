"""The held-out split: a share of prompts, by salted hash of the normalised prompt, that no policy is trained on."""

from __future__ import annotations

import json
import os
import secrets
import tempfile
import unicodedata
from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

from router.domain import content_text
from router.errors import ConfigError
from router.fs import fsync_dir

SALT_FILE = "heldout_salt"
_SALT_BYTES = 32
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def load_salt(state_dir: Path) -> bytes:
    """The salt of this installation, 32 bytes; created on the first call, the same for every process from then on.

    Raises `ConfigError` when the file is damaged: a new salt would move held-out prompts into training.
    """
    path = state_dir / SALT_FILE
    try:
        if not path.exists():
            _create(path)
        salt = bytes.fromhex(path.read_text("ascii"))
    except OSError as error:
        raise ConfigError(f"cannot read or create {path}: {error.strerror}: make [state] dir writable") from error
    except ValueError:
        salt = b""
    if len(salt) != _SALT_BYTES:
        raise ConfigError(
            f"{path} is damaged (64 hex digits expected): restore it from a backup; deleting it starts a new split, "
            "which lets prompts held out until now into training"
        )
    return salt


def _create(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fd, name = tempfile.mkstemp(prefix=f".{SALT_FILE}.", dir=path.parent)
    try:
        with os.fdopen(fd, "w") as file:
            file.write(secrets.token_hex(_SALT_BYTES))
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):  # another process was first: its salt is the salt
            os.link(name, path)
        fsync_dir(path.parent)
    finally:
        os.unlink(name)


def prompt_hash(messages: Sequence[Mapping[str, Any]], salt: bytes) -> str:
    """Salted hash of the normalised prompt, 32 hex digits; `salt` is at most 64 bytes.

    Two prompts that differ only in case, white space or Unicode compatibility forms hash alike. Digits are kept:
    another number is another problem.
    """
    canonical = [_normal_message(message) for message in messages]
    data = _ENCODER.encode(canonical)
    return blake2b(data.encode("utf-8", "surrogatepass"), digest_size=16, key=salt).hexdigest()


def is_heldout(prompt_hash: str, share: float) -> bool:
    """Whether the prompt of this hash belongs to the held-out `share` (0 to 1) of all prompts."""
    return int(prompt_hash[:16], 16) < share * 2**64


def place_of(prompt_hash: str) -> float:
    """Where the prompt of this hash stands in [0, 1), for shares of traffic; independent of the held-out split."""
    return int(prompt_hash[16:], 16) / 2**64


def normalise(text: str) -> str:
    """`text` without what a paraphrase-free copy may change: NFKC, case folded, white space runs folded to one space.

    Folding case can undo NFKC, hence the second pass (Unicode, section 3.13, toNFKC_Casefold).
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(folded.split())


def _normal_message(message: Mapping[str, Any]) -> list[Any]:
    content = message.get("content")
    others = {name: value for name, value in message.items() if name not in ("role", "content")}
    parts = content if isinstance(content, list | tuple) else ()
    media = [part for part in parts if not (isinstance(part, Mapping) and "text" in part)]
    return [message.get("role"), normalise(content_text(content)), media, others]

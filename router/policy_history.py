"""What happened to the policies of a state directory: one line an action, appended before it takes effect."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import msgspec

from router.errors import RegistryError
from router.fs import append_durably, write_durably


class Action(StrEnum):
    """What a line of the history says happened."""

    REGISTER = "register"
    PROMOTE = "promote"
    ROLLBACK = "rollback"
    CANARY = "canary"
    WITHDRAW = "withdraw"


class HistoryEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of the history.

    For a flip, `policy` serves after it and `previous` served before it. For a canary, `policy` serves the `share` of
    requests after it and `previous` the others; for a withdrawal, `policy` serves all, `previous` was withdrawn.
    """

    ts: float
    action: Action
    policy: str | None
    previous: str | None
    epoch: int
    actor: str
    reason: str
    share: float | None = None


class History:
    """The file of lines. Whoever appends holds the registry's lock."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def exists(self) -> bool:
        """Whether anything was ever written."""
        return self._path.exists()

    def entries(self) -> list[HistoryEntry]:
        """Every line, oldest first. Raises `RegistryError` when one is damaged."""
        try:
            lines = self._path.read_bytes().split(b"\n")[:-1]  # a last line without its end was never written
        except FileNotFoundError:
            return []
        try:
            return [msgspec.json.decode(line, type=HistoryEntry) for line in lines]
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise RegistryError(f"{self._path} is damaged ({error}): restore it or remove the line") from error

    def append(self, entry: HistoryEntry) -> None:
        """Add a line, durably."""
        append_durably(self._path, json_line(entry))

    def drop_after(self, epoch: int) -> None:
        """Remove the lines of a later epoch: their writer died before what they announce took effect."""
        if not self.exists():
            return
        kept = b"".join(json_line(entry) for entry in self.entries() if entry.epoch <= epoch)
        if len(kept) != self._path.stat().st_size:
            write_durably(self._path, kept)


def json_line(value: msgspec.Struct) -> bytes:
    """The value as one line of JSON."""
    return msgspec.json.encode(value) + b"\n"

"""The policy registry: immutable policy folders, the champion alias, and the history of its flips.

    <state dir>/policies/<name>/    adapter files and manifest.json, read-only, never changed
    <state dir>/champion            {"policy": name, or null for the base model, "epoch": int}, and a canary if any
    <state dir>/history.jsonl       one line an action: ts, action, policy, previous, epoch, actor, reason

The champion file is the truth. A change writes its history line first and then replaces the champion file: a line whose
epoch is beyond the champion's is a change that a crash cut off; readers pass it by and the next writer removes it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from router.errors import PolicyConflict, PolicyNotFound, RegistryError
from router.fs import locked, write_durably
from router.policy_folder import MANIFEST, content_of, install
from router.policy_history import Action, History, HistoryEntry, json_line

_NAME = re.compile(r"policy-([1-9]\d*)-[0-9a-f]{8}")


class Canary(msgspec.Struct, frozen=True):
    """A policy on trial: it serves a `share`, above 0 and below 1, of the requests for the champion."""

    policy: str
    share: float


@dataclass(frozen=True, slots=True)
class Champion:
    """Which policy serves: a registered one, or None for the base model. The epoch grows at every change."""

    policy: str | None
    epoch: int
    canary: Canary | None = None
    trials: int = 0  # changes of its canaries since this policy serves

    @property
    def cache_epoch(self) -> int:
        """The epoch in which it began to serve: a canary's coming and going leaves its cached answers."""
        return self.epoch - self.trials


@dataclass(frozen=True, slots=True)
class Policy:
    """A registered policy."""

    name: str
    path: Path
    manifest: Mapping[str, Any]


class _ChampionFile(msgspec.Struct, frozen=True, omit_defaults=True):
    policy: str | None
    epoch: int
    canary: Canary | None = None
    trials: int = 0


class PolicyRegistry:
    """The registry under one state directory. Reading creates nothing; writers of all processes take turns."""

    def __init__(self, state_dir: Path, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._state = state_dir
        self._policies = state_dir / "policies"
        self._champion = state_dir / "champion"
        self._history = History(state_dir / "history.jsonl")

    def champion(self) -> Champion:
        """The policy that serves; the base model at epoch 0 before anything was registered.

        Raises `RegistryError`, with the cure, when the file is damaged, lost, or names a policy that is not there.
        """
        try:
            found = msgspec.json.decode(self._champion.read_bytes(), type=_ChampionFile)
        except FileNotFoundError:
            if self._history.exists():
                raise RegistryError(f"{self._champion} is missing: {self._cure()}") from None
            return Champion(None, 0)
        except OSError as error:
            raise RegistryError(f"cannot read {self._champion}: {error.strerror}: make it readable") from error
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise RegistryError(f"{self._champion} is damaged: {self._cure()}") from None
        for name in (found.policy, found.canary.policy if found.canary else None):
            if name is not None and not (_NAME.fullmatch(name) and self._path(name).is_dir()):
                raise RegistryError(f"{self._champion} names {name!r}, which is not registered: {self._cure()}")
        return Champion(found.policy, found.epoch, found.canary, found.trials)

    def policies(self) -> tuple[Policy, ...]:
        """All registered policies, oldest first."""
        return tuple(self.get(name) for name in sorted(self.names(), key=_number))

    def names(self) -> frozenset[str]:
        """The names of all registered policies."""
        if not self._policies.is_dir():
            return frozenset()
        return frozenset(path.name for path in self._policies.iterdir() if _NAME.fullmatch(path.name))

    def get(self, name: str) -> Policy:
        """One registered policy. Raises `PolicyNotFound`, and `RegistryError` when its manifest is damaged."""
        if not _NAME.fullmatch(name) or not self._path(name).is_dir():
            raise PolicyNotFound(f"policy {name!r} is not registered: `thinktwice policies` lists those that are")
        path = self._path(name)
        try:
            manifest = msgspec.json.decode((path / MANIFEST).read_bytes(), type=dict[str, Any])
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise RegistryError(f"the manifest of {name} is damaged: restore {path} from a backup") from error
        return Policy(name, path, manifest)

    def history(self) -> tuple[HistoryEntry, ...]:
        """Everything that happened, oldest first. Raises `RegistryError` when a line is damaged."""
        epoch = self.champion().epoch
        return tuple(entry for entry in self._history.entries() if entry.epoch <= epoch)

    def register(self, folder: Path, manifest: Mapping[str, Any], actor: str = "") -> str:
        """Copy the adapter in `folder` into the registry and return its name; the same content keeps its name.

        The stored manifest adds `name`, `sha256` (of the content) and `files` (SHA-256 by relative path). Raises
        `RegistryError` when the folder is empty or holds anything but plain files.
        """
        content = content_of(folder)
        with self._writing() as champion:
            for policy in self.policies():
                if policy.manifest.get("sha256") == content.sha256:
                    self._note_registered(policy.name, champion, actor)
                    return policy.name
            name = f"policy-{self._next_number()}-{content.sha256[:8]}"
            self._policies.mkdir(exist_ok=True)
            install(folder, self._path(name), content, {**manifest, "name": name})
            self._note_registered(name, champion, actor)
            return name

    def promote(self, name: str | None, reason: str, actor: str, expected_epoch: int | None = None) -> Champion:
        """Let `name` serve (None: the base model). Nothing happens when it does already.

        Raises `PolicyNotFound`, `PolicyConflict` when the champion is not of `expected_epoch`, and `RegistryError` when
        the policy's files are not those that were registered.
        """
        with self._writing() as champion:
            _check_epoch(champion, expected_epoch)
            if name is not None:
                self._check_files(self.get(name))
            if name == champion.policy:
                return champion
            return self._flip(Action.PROMOTE, champion, name, reason, actor)

    def try_out(self, name: str, share: float, reason: str, actor: str, expected_epoch: int | None = None) -> Champion:
        """Let `name` serve a `share` of the champion's requests, in the place of any other canary.

        Raises `PolicyNotFound`, `PolicyConflict` when `name` is the champion or the champion is not of
        `expected_epoch`, `RegistryError` as `promote`, and `ValueError` for a share that is not between 0 and 1.
        """
        if not 0 < share < 1:
            raise ValueError(f"a canary's share is above 0 and below 1, not {share}")
        with self._writing() as champion:
            _check_epoch(champion, expected_epoch)
            self._check_files(self.get(name))
            if name == champion.policy:
                raise PolicyConflict(f"{name} is the champion: it serves every request already")
            after = Champion(champion.policy, champion.epoch + 1, Canary(name, share), champion.trials + 1)
            entry = HistoryEntry(self._clock(), Action.CANARY, name, champion.policy, after.epoch, actor, reason, share)
            return self._change(entry, after)

    def rollback(self, reason: str, actor: str, expected_epoch: int | None = None) -> Champion:
        """Undo the last step: withdraw the canary, or else let the champion before the current one serve again.

        Raises `PolicyConflict` when the current champion has no predecessor, or is not of `expected_epoch`.
        """
        with self._writing() as champion:
            _check_epoch(champion, expected_epoch)
            if champion.canary is not None:
                after = Champion(champion.policy, champion.epoch + 1, None, champion.trials + 1)
                withdrawn = champion.canary.policy
                entry = HistoryEntry(
                    self._clock(), Action.WITHDRAW, champion.policy, withdrawn, after.epoch, actor, reason
                )
                return self._change(entry, after)
            served: list[str | None] = [None]
            for entry in self._history.entries():
                if entry.action is Action.PROMOTE:
                    served.append(entry.policy)
                elif entry.action is Action.ROLLBACK and len(served) > 1:
                    served.pop()
            if len(served) < 2:
                raise PolicyConflict("nothing to roll back to: the base model serves and no promotion preceded it")
            if served[-2] is not None:
                self._check_files(self.get(served[-2]))
            return self._flip(Action.ROLLBACK, champion, served[-2], reason, actor)

    def _path(self, name: str) -> Path:
        return self._policies / name

    def _next_number(self) -> int:
        """A number that no policy ever had, the folder of which may be gone."""
        registered = (
            entry.policy for entry in self._history.entries() if entry.action is Action.REGISTER and entry.policy
        )
        return 1 + max(map(_number, [*self.names(), *registered]), default=0)

    def _flip(self, action: Action, champion: Champion, name: str | None, reason: str, actor: str) -> Champion:
        after = Champion(name, champion.epoch + 1)
        entry = HistoryEntry(self._clock(), action, name, champion.policy, after.epoch, actor, reason)
        return self._change(entry, after)

    def _change(self, entry: HistoryEntry, after: Champion) -> Champion:
        self._history.append(entry)
        write_durably(self._champion, json_line(_ChampionFile(after.policy, after.epoch, after.canary, after.trials)))
        return after

    def _note_registered(self, name: str, champion: Champion, actor: str) -> None:
        if not any(entry.action is Action.REGISTER and entry.policy == name for entry in self._history.entries()):
            self._history.append(
                HistoryEntry(self._clock(), Action.REGISTER, name, champion.policy, champion.epoch, actor, "")
            )

    def _check_files(self, policy: Policy) -> None:
        files = content_of(policy.path).files
        if files != policy.manifest.get("files"):
            raise RegistryError(f"the files of {policy.name} are not those registered: restore {policy.path}")

    @contextmanager
    def _writing(self) -> Iterator[Champion]:
        """Hold the registry's lock, with the leftovers of a writer that died removed."""
        try:
            self._state.mkdir(parents=True, exist_ok=True)
            with locked(self._state / "registry.lock"):
                if not self._champion.exists() and not self._history.exists():
                    write_durably(self._champion, json_line(_ChampionFile(None, 0)))
                champion = self.champion()
                self._history.drop_after(champion.epoch)
                yield champion
        except OSError as error:
            raise RegistryError(f"cannot write the policy registry in {self._state}: {error}") from error

    def _cure(self) -> str:
        """What to write into the champion file, as far as the history tells."""
        try:
            entries = self._history.entries()
        except RegistryError:
            return "restore the state directory from a backup"
        flips = [entry.policy for entry in entries if entry.action in (Action.PROMOTE, Action.ROLLBACK)]
        file = _ChampionFile(flips[-1] if flips else None, max((entry.epoch for entry in entries), default=0) + 1)
        line = json_line(file).decode().strip()
        return f"write the line {line} into it (the last flip in history.jsonl, one epoch on)"


def _check_epoch(champion: Champion, expected: int | None) -> None:
    if expected is not None and champion.epoch != expected:
        raise PolicyConflict(f"{champion.policy or 'the base model'} is the champion, of epoch {champion.epoch} by now")


def _number(name: str) -> int:
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else 0

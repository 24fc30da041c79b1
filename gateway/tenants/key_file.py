"""The keys on disk: one file and the pepper beside it in `[state] dir`, readable by their owner alone."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
from msgspec import Struct

from gateway.tenants.keys import Caller, KeyRing, KeyState, Role, StoredKey, new_key
from router.errors import ConfigError
from router.fs import locked, write_durably

KEY_FILE, PEPPER_FILE, _LOCK_FILE = "keys.json", "keys.pepper", "keys.lock"
_VERSION = 1


class _Content(Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    keys: tuple[StoredKey, ...]


class KeyFile:
    """The keys of one state directory. `pepper` is `[keys] pepper`; without it a file holds one, made with a key."""

    def __init__(self, state_dir: Path, pepper: str | None = None) -> None:
        self.path = state_dir / KEY_FILE
        self._dir, self._pepper = state_dir, pepper

    def stored(self) -> tuple[StoredKey, ...]:
        """Every key ever made. Raises `ConfigError` when the file is damaged or cannot be read."""
        try:
            content = msgspec.json.decode(self.path.read_bytes(), type=_Content)
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise ConfigError(
                f"{self.path} cannot be read ({error.strerror}): make it readable to this user"
            ) from error
        except msgspec.MsgspecError as error:
            raise ConfigError(f"{self.path} is damaged ({error}): restore it from a backup") from error
        if content.version != _VERSION:
            raise ConfigError(
                f"{self.path} is of version {content.version}, this thinktwice reads {_VERSION}: upgrade it"
            )
        return content.keys

    def ring(self) -> KeyRing:
        """The keys, ready to be asked. Raises `ConfigError`, also when there are keys and no pepper."""
        keys = self.stored()
        return KeyRing(keys, self._read_pepper()) if keys else KeyRing()

    def create(
        self, tenant: str, role: Role, *, expires_s: float | None = None, profiles: Sequence[str] | None = None
    ) -> tuple[str, StoredKey]:
        """Make a key that lives `expires_s` seconds, or for ever: the key to show once, and what is kept of it."""
        now = time.time()
        expires = None if expires_s is None else now + expires_s
        with self._locked():
            allowed = None if profiles is None else tuple(profiles)
            made = new_key(self._made_pepper(), tenant, role, now=now, expires=expires, profiles=allowed)
            self._write((*self.stored(), made[1]))
        return made

    def replace(self, key_id: str, overlap_s: float, *, expires_s: float | None = None) -> tuple[str, StoredKey]:
        """A successor with the tenant, role and profiles of `key_id`, which then lives `overlap_s` seconds at most.

        Raises `ConfigError` when there is no such key, or it no longer lives.
        """
        now = time.time()
        expires = None if expires_s is None else now + expires_s
        with self._locked():
            keys = self.stored()
            old = _find(keys, key_id)
            if old.state(now) is not KeyState.LIVE:
                raise ConfigError(f"the key {key_id} is {old.state(now)}: create a new one with --tenant")
            made = new_key(self._made_pepper(), old.tenant, old.role, now=now, expires=expires, profiles=old.profiles)
            until = min(now + overlap_s, old.expires or float("inf"))
            self._write((*_with(keys, msgspec.structs.replace(old, expires=until)), made[1]))
        return made

    def revoke(self, key_id: str) -> StoredKey:
        """Let a key open nothing from now on. Raises `ConfigError` when there is no such key."""
        with self._locked():
            keys = self.stored()
            old = _find(keys, key_id)
            revoked = old if old.revoked is not None else msgspec.structs.replace(old, revoked=time.time())
            self._write(_with(keys, revoked))
        return revoked

    def _write(self, keys: tuple[StoredKey, ...]) -> None:
        write_durably(self.path, msgspec.json.format(msgspec.json.encode(_Content(_VERSION, keys)), indent=2))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the keys against other commands. Raises `ConfigError` where the directory cannot be written."""
        try:
            self._dir.mkdir(parents=True, exist_ok=True)
            with locked(self._dir / _LOCK_FILE):
                yield
        except OSError as error:
            raise ConfigError(f"cannot write to {self._dir} ({error.strerror}): make [state] dir writable") from error

    def _read_pepper(self) -> bytes:
        if self._pepper is not None:
            return self._pepper.encode()
        path = self._dir / PEPPER_FILE
        try:
            return bytes.fromhex(path.read_text("ascii"))
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"{path} is missing or damaged, and without it no key of {self.path} can be recognised: restore it, "
                "or remove both files and create the keys anew"
            ) from error

    def _made_pepper(self) -> bytes:
        path = self._dir / PEPPER_FILE
        if self._pepper is None and not self.path.exists() and not path.exists():
            write_durably(path, secrets.token_hex(32).encode())
        return self._read_pepper()


class KeyDirectory:
    """The keys as a running gateway knows them. Kept current by the watcher."""

    def __init__(self, file: KeyFile, clock: Callable[[], float] = time.time) -> None:
        """Raises `ConfigError` when the keys cannot be read."""
        self._file, self._clock = file, clock
        self._seen = self._stamp()
        self._ring = file.ring()

    @property
    def required(self) -> bool:
        """Whether a request needs a key."""
        return bool(self._ring)

    def caller(self, authorization: str | None) -> Caller:
        """Whom an `Authorization` header stands for. Raises `InvalidKey`."""
        return self._ring.caller(authorization, self._clock())

    def follow(self) -> None:
        """Take up what changed on disk. Raises `ConfigError`; then the keys known before stay, as they do when the
        file is gone: a gateway that needed keys never opens by itself."""
        stamp = self._stamp()
        if stamp == self._seen:
            return
        ring = self._file.ring()
        if self._ring and not ring:
            raise ConfigError(f"{self._file.path} is gone: the keys known before stay until it is back")
        self._ring, self._seen = ring, stamp

    def _stamp(self) -> tuple[int, int] | None:
        """What changes whenever the file is replaced."""
        try:
            found = self._file.path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns


def _find(keys: Sequence[StoredKey], key_id: str) -> StoredKey:
    for key in keys:
        if key.id == key_id:
            return key
    raise ConfigError(f"there is no key {key_id}: `thinktwice keys list` shows those there are")


def _with(keys: Sequence[StoredKey], changed: StoredKey) -> tuple[StoredKey, ...]:
    return tuple(changed if key.id == changed.id else key for key in keys)

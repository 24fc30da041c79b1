"""API keys: what one looks like, what is kept of it, and whom it stands for. Pure; `key_file` keeps them.

A key is `tt_<id>_<secret>`. Of the secret only HMAC-SHA256(pepper, secret) is kept; tenant, role and profiles stand
beside it, so that nothing a caller sends can widen them.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from msgspec import Struct

from router.errors import Forbidden, InvalidKey

PREFIX = "tt"
TENANT_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_BEARER = re.compile(rf"(?i:bearer) +{PREFIX}_([0-9a-f]{{12}})_([A-Za-z0-9_-]{{43}})")
_HEADERS = {"WWW-Authenticate": "Bearer"}


class Role(StrEnum):
    """What a key may do: ask, or also operate the gateway."""

    USER = "user"
    ADMIN = "admin"


class KeyState(StrEnum):
    """Whether a key still opens anything."""

    LIVE = "live"
    EXPIRED = "expired"
    REVOKED = "revoked"


class StoredKey(Struct, frozen=True, forbid_unknown_fields=True):
    """What is kept of a key. Times are Unix seconds; `profiles` None allows every one."""

    id: str
    digest: str
    tenant: str
    role: Role
    created: float
    expires: float | None = None
    revoked: float | None = None
    profiles: tuple[str, ...] | None = None

    def state(self, now: float) -> KeyState:
        """Whether it opens anything at `now`."""
        if self.revoked is not None:
            return KeyState.REVOKED
        return KeyState.EXPIRED if self.expires is not None and self.expires <= now else KeyState.LIVE


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request, as the server has it."""

    tenant: str
    role: Role
    profiles: frozenset[str] | None = None  # by name, without the version; None: every one
    key_id: str = field(default="local", compare=False)

    def require_admin(self, what: str) -> None:
        """Raise `Forbidden` unless the role is admin."""
        if self.role is not Role.ADMIN:
            raise Forbidden(f"{what} needs an API key of role admin")

    def require_profile(self, profile: str | None) -> None:
        """Raise `Forbidden` for a verification profile (`name@version`) that the key does not allow."""
        if profile is not None and self.profiles is not None and profile.partition("@")[0] not in self.profiles:
            raise Forbidden(f"this API key does not allow the verification profile {profile!r}")


LOCAL = Caller("local", Role.ADMIN)  # without keys, on loopback: whoever runs the gateway


def new_key(pepper: bytes, tenant: str, role: Role, *, now: float, **more: Any) -> tuple[str, StoredKey]:
    """A new key, whole, to be shown once; and what to keep of it. `more` are fields of `StoredKey`."""
    key_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    kept = StoredKey(id=key_id, digest=_digest(pepper, secret), tenant=tenant, role=role, created=now, **more)
    return f"{PREFIX}_{key_id}_{secret}", kept


class KeyRing:
    """The keys at one time. An empty ring leaves the gateway open to its own machine."""

    def __init__(self, keys: Iterable[StoredKey] = (), pepper: bytes = b"") -> None:
        self._pepper = pepper
        self._keys = {key.id: (key, _caller(key)) for key in keys}
        self._nobody = secrets.token_hex(32)  # compared for an unknown id, so that it takes as long as a known one

    def __bool__(self) -> bool:
        return bool(self._keys)

    def caller(self, authorization: str | None, now: float) -> Caller:
        """Whom an `Authorization` header stands for. Raises `InvalidKey`; without keys, everybody is `LOCAL`."""
        if not self._keys:
            return LOCAL
        if authorization is None:
            raise InvalidKey("no API key was sent: send the header `Authorization: Bearer tt_...`", headers=_HEADERS)
        found = _BEARER.fullmatch(authorization)
        key, caller = self._keys.get(found[1], (None, LOCAL)) if found else (None, LOCAL)
        secret = found[2] if found else ""
        same = hmac.compare_digest(_digest(self._pepper, secret), key.digest if key else self._nobody)
        if not same or key is None or key.state(now) is not KeyState.LIVE:
            raise InvalidKey("the API key is unknown, expired or revoked", headers=_HEADERS)
        return caller


def _digest(pepper: bytes, secret: str) -> str:
    return hmac.digest(pepper, secret.encode(), "sha256").hex()


def _caller(key: StoredKey) -> Caller:
    return Caller(key.tenant, key.role, None if key.profiles is None else frozenset(key.profiles), key.id)

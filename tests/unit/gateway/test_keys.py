"""Keys without HTTP: what is kept, who is recognised, rotation, and the file under two writers."""

import hmac
import json
import stat
import threading
import timeit
from pathlib import Path

import pytest

from gateway.tenants import keys
from gateway.tenants.key_file import KEY_FILE, PEPPER_FILE, KeyDirectory, KeyFile
from gateway.tenants.keys import LOCAL, Caller, KeyRing, KeyState, Role, StoredKey, new_key
from router.errors import ConfigError, Forbidden, InvalidKey

PEPPER = b"p" * 32
NOW = 1_000.0


def ring_of(*keys: StoredKey) -> KeyRing:
    return KeyRing(keys, PEPPER)


def test_a_key_stands_for_its_tenant_role_and_profiles() -> None:
    key, kept = new_key(PEPPER, "acme", Role.USER, now=NOW, profiles=("gsm8k",))
    for scheme in ("Bearer", "bearer", "BEARER "):
        caller = ring_of(kept).caller(f"{scheme} {key}", NOW)
        assert caller == Caller("acme", Role.USER, frozenset({"gsm8k"}))


def test_only_a_hash_is_kept() -> None:
    key, kept = new_key(PEPPER, "acme", Role.USER, now=NOW)
    secret = key.removeprefix(f"tt_{kept.id}_")
    assert len(secret) == 43 and secret not in repr(kept)
    _, twin = new_key(PEPPER, "acme", Role.USER, now=NOW)
    assert (kept.digest, kept.id) != (twin.digest, twin.id)


def test_without_keys_everybody_is_local() -> None:
    assert KeyRing().caller(None, NOW) is LOCAL and KeyRing().caller("Bearer unused", NOW) is LOCAL
    assert LOCAL.role is Role.ADMIN and LOCAL.tenant == "local"


def test_what_is_no_valid_key() -> None:
    key, kept = new_key(PEPPER, "acme", Role.USER, now=NOW)
    other, _ = new_key(PEPPER, "acme", Role.USER, now=NOW)
    ring = ring_of(kept)
    flipped = key[:-1] + ("A" if key[-1] != "A" else "B")
    wrong = [None, "", "Bearer", f"Bearer {flipped}", f"Bearer {other}", f"Basic {key}", key, f"Bearer {key}x"]
    wrong += [f"Bearer {key}\n", "Bearer tt_", "Bearer unused", f"Bearer tt_{kept.id}_{kept.digest[:43]}", "Bearer é"]
    for header in wrong:
        with pytest.raises(InvalidKey) as caught:
            ring.caller(header, NOW)
        assert caught.value.headers == {"WWW-Authenticate": "Bearer"}
        assert key not in str(caught.value)
    with pytest.raises(InvalidKey):
        KeyRing([kept], b"another pepper").caller(f"Bearer {key}", NOW)


def test_every_refusal_takes_the_same_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """One digest, and one comparison in constant time of two digests of one length, whatever is wrong with the key."""
    key, kept = new_key(PEPPER, "acme", Role.USER, now=NOW)
    stranger, _ = new_key(PEPPER, "acme", Role.USER, now=NOW)
    steps: list[tuple[str, int]] = []

    class Spy:
        @staticmethod
        def digest(pepper: bytes, message: bytes, name: str) -> bytes:
            steps.append((name, len(pepper)))
            return hmac.digest(pepper, message, name)

        @staticmethod
        def compare_digest(one: str, other: str) -> bool:
            steps.append(("compare", len(one)))
            assert len(one) == len(other)
            return hmac.compare_digest(one, other)

    ring = ring_of(kept)
    monkeypatch.setattr(keys, "hmac", Spy)  # the library's, not ours
    assert ring.caller(f"Bearer {key}", NOW).tenant == "acme"
    expected, steps[:] = list(steps), []
    assert expected == [("sha256", len(PEPPER)), ("compare", 64)]
    for header in (f"Bearer {stranger}", f"Bearer {key[:-1]}-", f"Bearer {key[:-1]}", "Basic x", ""):
        with pytest.raises(InvalidKey):
            ring.caller(header, NOW)
        assert steps == expected, header
        steps.clear()


def test_expired_and_revoked_keys_open_nothing() -> None:
    key, kept = new_key(PEPPER, "acme", Role.USER, now=NOW, expires=NOW + 10)
    ring = ring_of(kept)
    assert ring.caller(f"Bearer {key}", NOW + 9.9).tenant == "acme"
    with pytest.raises(InvalidKey):
        ring.caller(f"Bearer {key}", NOW + 10)
    key, kept = new_key(PEPPER, "acme", Role.USER, now=NOW, revoked=NOW)
    assert kept.state(NOW) is KeyState.REVOKED
    with pytest.raises(InvalidKey):
        ring_of(kept).caller(f"Bearer {key}", NOW)


def test_profiles_are_allowed_by_name() -> None:
    limited = Caller("acme", Role.USER, frozenset({"gsm8k"}))
    limited.require_profile(None)
    limited.require_profile("gsm8k@2")
    Caller("acme", Role.USER).require_profile("anything@1")
    for profile in ("gsm8k2@1", "other@1"):
        with pytest.raises(Forbidden, match=profile):
            limited.require_profile(profile)
    with pytest.raises(Forbidden):
        Caller("acme", Role.USER, frozenset()).require_profile("gsm8k@1")


def test_recognising_a_key_is_cheap() -> None:
    made = [new_key(PEPPER, "acme", Role.USER, now=NOW) for _ in range(1000)]
    ring, header = ring_of(*(kept for _, kept in made)), f"Bearer {made[500][0]}"
    best = min(timeit.repeat(lambda: ring.caller(header, NOW), number=200, repeat=10)) / 200
    assert best < 20e-6


# The file


def test_made_keys_are_read_back_and_only_their_owner_can_read_them(tmp_path: Path) -> None:
    file = KeyFile(tmp_path / "state")
    assert file.stored() == () and not file.ring()
    key, kept = file.create("acme", Role.ADMIN, expires_s=60, profiles=["gsm8k"])
    assert file.stored() == (kept,) and kept.expires is not None and kept.expires - kept.created == 60
    assert file.ring().caller(f"Bearer {key}", kept.created).role is Role.ADMIN
    for name in (KEY_FILE, PEPPER_FILE):
        assert stat.S_IMODE((tmp_path / "state" / name).stat().st_mode) == 0o600
    assert key.rsplit("_", 1)[1] not in file.path.read_text()


def test_a_configured_pepper_replaces_the_file(tmp_path: Path) -> None:
    key, kept = KeyFile(tmp_path, "x" * 32).create("acme", Role.USER)
    assert not (tmp_path / PEPPER_FILE).exists()
    assert KeyFile(tmp_path, "x" * 32).ring().caller(f"Bearer {key}", kept.created).tenant == "acme"
    with pytest.raises(InvalidKey):
        KeyFile(tmp_path, "y" * 32).ring().caller(f"Bearer {key}", kept.created)


def test_rotation_overlaps_and_keeps_the_privileges(tmp_path: Path) -> None:
    file = KeyFile(tmp_path)
    old_key, old = file.create("acme", Role.ADMIN, profiles=["gsm8k"])
    new, kept = file.replace(old.id, 60.0)
    ring = file.ring()
    assert ring.caller(f"Bearer {old_key}", kept.created + 59) == ring.caller(f"Bearer {new}", kept.created + 59)
    with pytest.raises(InvalidKey):
        ring.caller(f"Bearer {old_key}", kept.created + 61)
    assert ring.caller(f"Bearer {new}", kept.created + 61) == Caller("acme", Role.ADMIN, frozenset({"gsm8k"}))
    file.revoke(old.id)
    with pytest.raises(ConfigError, match="revoked"):
        file.replace(old.id, 60.0)


def test_an_overlap_never_lengthens_a_life(tmp_path: Path) -> None:
    file = KeyFile(tmp_path)
    _, old = file.create("acme", Role.USER, expires_s=10)
    file.replace(old.id, 60.0)
    assert file.stored()[0].expires == old.expires


def test_revoking(tmp_path: Path) -> None:
    file = KeyFile(tmp_path)
    key, kept = file.create("acme", Role.USER)
    revoked = file.revoke(kept.id)
    assert file.revoke(kept.id) == revoked  # again changes nothing
    with pytest.raises(InvalidKey):
        file.ring().caller(f"Bearer {key}", kept.created)
    with pytest.raises(ConfigError, match="keys list"):
        file.revoke("000000000000")


def test_writers_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    def write() -> None:
        for _ in range(10):
            KeyFile(tmp_path).create("acme", Role.USER)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({key.id for key in KeyFile(tmp_path).stored()}) == 40


@pytest.mark.parametrize("content", ["", "{", '{"version": 1}', '{"version": 1, "keys": [{"id": "x"}]}'])
def test_a_damaged_file_is_never_an_empty_one(tmp_path: Path, content: str) -> None:
    (tmp_path / KEY_FILE).write_text(content)
    with pytest.raises(ConfigError, match="damaged"):
        KeyFile(tmp_path).ring()


def test_a_file_of_a_later_version(tmp_path: Path) -> None:
    (tmp_path / KEY_FILE).write_text(json.dumps({"version": 2, "keys": []}))
    with pytest.raises(ConfigError, match="version 2"):
        KeyFile(tmp_path).stored()


def test_a_lost_pepper_is_not_made_anew(tmp_path: Path) -> None:
    file = KeyFile(tmp_path)
    file.create("acme", Role.USER)
    (tmp_path / PEPPER_FILE).unlink()
    with pytest.raises(ConfigError, match="pepper"):
        file.ring()
    with pytest.raises(ConfigError, match="pepper"):
        file.create("acme", Role.USER)


# A running gateway follows


def test_the_directory_follows_the_file(tmp_path: Path) -> None:
    file = KeyFile(tmp_path)
    directory = KeyDirectory(file)
    assert directory.caller(None) is LOCAL
    key, kept = file.create("acme", Role.USER)
    directory.follow()
    assert directory.required and directory.caller(f"Bearer {key}").tenant == "acme"
    file.revoke(kept.id)
    directory.follow()
    assert directory.required  # the last key revoked does not open the gateway
    with pytest.raises(InvalidKey):
        directory.caller(f"Bearer {key}")


@pytest.mark.parametrize("loss", ["gone", "damaged", "emptied"])
def test_a_lost_file_does_not_open_the_gateway(tmp_path: Path, loss: str) -> None:
    file = KeyFile(tmp_path)
    key, _ = file.create("acme", Role.USER)
    directory = KeyDirectory(file)
    match loss:
        case "gone":
            file.path.unlink()
        case "damaged":
            file.path.write_text("{")
        case _:
            file.path.write_text('{"version": 1, "keys": []}')
    for _ in range(2):
        with pytest.raises(ConfigError):
            directory.follow()
        assert directory.required and directory.caller(f"Bearer {key}").tenant == "acme"
        with pytest.raises(InvalidKey):
            directory.caller(None)

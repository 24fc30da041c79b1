"""`thinktwice keys` as it is typed."""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import pytest

from gateway.commands import keys
from gateway.tenants.key_file import KeyFile
from gateway.tenants.keys import Caller, Role
from router.errors import ConfigError


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def typed(*words: str) -> int:
    parser = argparse.ArgumentParser()
    keys.register(parser.add_subparsers())
    args = parser.parse_args(["keys", *words])
    code: int = args.run(args)
    return code


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    assert typed(*words, "--json") == 0
    return json.loads(capsys.readouterr().out)


def test_a_key_is_printed_once_and_opens(capsys: pytest.CaptureFixture[str]) -> None:
    assert typed("create", "--tenant", "acme", "--role", "admin", "--profiles", "gsm8k, sums") == 0
    key = capsys.readouterr().out.strip()
    ring = KeyFile(Path("state")).ring()
    assert ring.caller(f"Bearer {key}", time.time()) == Caller("acme", Role.ADMIN, frozenset({"gsm8k", "sums"}))
    for words in (("list",), ("list", "--json")):
        assert typed(*words) == 0
        out = capsys.readouterr().out
        assert key.rsplit("_", 1)[1] not in out and KeyFile(Path("state")).stored()[0].digest not in out
        assert "acme" in out and "gsm8k" in out


def test_list_says_what_each_key_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "list") == {"keys": []}
    made = printed(capsys, "create", "--tenant", "acme", "--expires", "90d")
    printed(capsys, "revoke", made["id"])
    live = printed(capsys, "create", "--tenant", "acme")
    listed = printed(capsys, "list")["keys"]
    assert [(key["id"], key["state"]) for key in listed] == [(made["id"], "revoked"), (live["id"], "live")]
    assert listed[1] | {"key": live["key"]} == live
    assert listed[1]["role"] == "user" and listed[1]["profiles"] is None and listed[1]["expires"] is None
    assert listed[0]["expires"] > listed[0]["created"]
    typed("list")
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_a_successor(capsys: pytest.CaptureFixture[str]) -> None:
    old = printed(capsys, "create", "--tenant", "acme", "--role", "admin")
    new = printed(capsys, "create", "--replaces", old["id"], "--overlap", "1h")
    assert (new["tenant"], new["role"]) == ("acme", "admin")
    kept = KeyFile(Path("state")).stored()[0]
    assert kept.expires is not None and 3590 < kept.expires - time.time() <= 3600


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["create", "--tenant", "Acme Inc"], "no tenant's name"),
        (["create", "--tenant", "acme", "--overlap", "1h"], "--replaces"),
        (["create", "--replaces", "000000000000"], "no key 000000000000"),
        (["create", "--replaces", "000000000000", "--role", "admin"], "--role"),
        (["revoke", "000000000000"], "no key 000000000000"),
    ],
)
def test_what_cannot_be_done_is_one_line(words: list[str], named: str) -> None:
    with pytest.raises(ConfigError, match=named) as caught:
        typed(*words)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "24", "h", "-1h", "1.5h", "1w", "24 h"])
def test_a_time_has_a_unit(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="24h"):
        keys.duration(text)
    assert [keys.duration(good) for good in ("5s", "2m", "24h", "90d")] == [5, 120, 86400, 90 * 86400]

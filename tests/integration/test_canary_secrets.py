"""Planted secrets, every route, good and bad input, faults: none is in a log line, a metric, an error or a header."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.http.openapi import document
from gateway.tenants.key_file import KeyFile
from gateway.tenants.keys import Role
from tests.support.gateway_process import GatewayProcess
from tests.support.mock_engine import Fault, MockEngine, Script

CANARY = "c4n4ry"  # in every planted secret, so that a part of one is found as well
ENGINE_KEY = f"sk-{CANARY}-engine"
REDIS_PASSWORD = f"{CANARY}-redis"
PEPPER = f"{CANARY}-pepper-0123456789-0123456789-0123456789"
CLASSIFIER_KEY = f"{CANARY}-classifier"
PROMPT = f"the patient {CANARY}-prompt has"
REFERENCE = f"{CANARY}-reference"
HIDDEN = f"{CANARY}-hidden"
WORD = f"{CANARY}-word"
NO_ONE = "http://127.0.0.1:9"
CHECKS = [
    {"type": "exact", "reference": REFERENCE},
    {"type": "regex", "pattern": f"{HIDDEN}.*"},
    {"type": "numeric", "reference": f"{CANARY}-number"},
    {"type": "telepathy", "reference": REFERENCE},
    {"type": "exact", "reference": {"a": REFERENCE}},
    {"type": "json_schema", "schema": {"const": HIDDEN}},
    {"type": "json_schema", "schema": {"$ref": f"http://{HIDDEN}"}},
    {"type": "python_tests", "entry": "f", "cases": [{"args": [1], "expect": HIDDEN}]},
    {"type": "policy", "lists": ["secrets"]},
    {"type": "policy", "lists": ["moderation"]},
]
CONFIG = f"""
[policy]
classifier_url = "{NO_ONE}/v1/moderations"
classifier_api_key = "{CLASSIFIER_KEY}"
[policy.lists.secrets]
words = ["{WORD}"]
[policy.lists.moderation]
classifier = true
"""


@dataclass
class Seen:
    """All that a client, or whoever reads logs and metrics, gets to see; and where it is from."""

    texts: list[tuple[str, str]]

    def add(self, where: str, text: str) -> None:
        self.texts.append((where, text))

    def leaks(self) -> list[tuple[str, str]]:
        return [(where, text[:300]) for where, text in self.texts if CANARY in text.lower()]


@pytest.fixture(scope="module")
def engine() -> Iterator[MockEngine]:
    faults = {f"{fault}": Script(("half and half",), fault=fault) for fault in Fault if fault is not Fault.STALL}
    with MockEngine({f"fault={name}": script for name, script in faults.items()}) as engine:
        yield engine


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    home = tmp_path_factory.mktemp("canary")
    file = KeyFile(home / "state", PEPPER)
    return {"home": str(home)} | {role.value: file.create("acme", role)[0] for role in Role}


@pytest.fixture(scope="module")
def gateway(engine: MockEngine, keys: dict[str, str]) -> Iterator[GatewayProcess]:
    env = {
        "THINKTWICE_KEYS__PEPPER": PEPPER,
        "THINKTWICE_BACKEND__API_KEY": ENGINE_KEY,
        "THINKTWICE_REDIS__URL": f"redis://:{REDIS_PASSWORD}@127.0.0.1:9/0",  # where nobody listens
        "THINKTWICE_SANDBOX__BACKEND": "off",
    }
    with GatewayProcess(Path(keys["home"]), engine.url, CONFIG, env) as gateway:
        gateway.wait_for("/readyz", 200)
        yield gateway


def send(seen: Seen, url: str, body: bytes | None, headers: dict[str, str]) -> int:
    """One request; all that came back is kept. Its status."""
    request = urllib.request.Request(url, body, headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            status, head, text = response.status, response.headers, response.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        with error:
            status, head, text = error.code, error.headers, error.read().decode(errors="replace")
    seen.add(f"headers of {url} {status}", str(head))
    seen.add(f"body of {url} {status}", text)
    return status


def bodies() -> Iterator[bytes]:
    """Requests good and bad; the engine never repeats what it is asked, so that no answer holds a secret."""

    def chat(text: str = PROMPT, **fields: Any) -> bytes:
        return json.dumps({"model": "champion", "messages": [{"role": "user", "content": text}], **fields}).encode()

    for stream in (False, True):
        yield chat(stream=stream)
        for check in CHECKS:
            for on_failure in ("return", "error"):
                yield chat(stream=stream, verification={"checks": [check], "on_failure": on_failure})
        for fault in Fault:
            if fault is not Fault.STALL:
                yield chat(f"{PROMPT} fault={fault}", stream=stream)
        yield chat(f"{PROMPT} {WORD}", stream=stream, verification={"checks": [CHECKS[-2]]})
    yield chat(temperature=REFERENCE)
    yield chat(seed=[REFERENCE])
    yield chat(tools=[{"type": "function", "function": {"name": PROMPT}}])
    yield chat(response_format={"type": "json_schema", "json_schema": PROMPT})
    yield chat(messages=PROMPT)
    yield chat(messages=[PROMPT])
    yield chat(stop=PROMPT, logit_bias={PROMPT: 1})
    yield chat()[:-5]
    yield b'{"model": "champion", "messages": "' + PROMPT.encode() + b"\xff"
    yield PROMPT.encode()
    yield chat(user="x" * 2_000_000)


def test_no_secret_is_seen(gateway: GatewayProcess, engine: MockEngine, keys: dict[str, str]) -> None:
    seen = Seen([])
    statuses: set[int] = set()
    callers = {
        "user": {"Authorization": f"Bearer {keys['user']}"},
        "admin": {"Authorization": f"Bearer {keys['admin']}"},
        "wrong": {"Authorization": f"Bearer {keys['user'][:-4]}AAAA"},
        "odd": {"Authorization": f"Basic {PROMPT}", "X-Request-Id": PROMPT, "Cookie": PROMPT},
    }
    for path, methods in document()["paths"].items():
        for headers in callers.values():
            for method in methods:
                body = None if method == "get" else json.dumps({"model": "champion", "prompt": PROMPT, "input": PROMPT})
                data = None if body is None else body.encode()
                statuses.add(send(seen, f"{gateway.url}{path}", data, headers))
    json_headers = callers["user"] | {"Content-Type": "application/json"}
    for body in bodies():
        statuses.add(send(seen, f"{gateway.url}/v1/chat/completions", body, json_headers))
    for extra in ({"X-Verification-Profile": "nope"}, {"Idempotency-Key": "é"}, {"X-Thinktwice-Purpose": "eval"}):
        body = next(bodies())
        statuses.add(send(seen, f"{gateway.url}/v1/chat/completions", body, json_headers | extra))
    send(seen, f"{gateway.url}/metrics", None, callers["admin"])
    assert statuses >= {200, 400, 401, 403, 413, 422, 502, 503}, statuses
    assert any(headers.get("authorization") == f"Bearer {ENGINE_KEY}" for headers in engine.headers)
    gateway.stop()
    assert any(PROMPT in str(record) for record in gateway.groups())  # it was there, where it belongs
    for line in gateway.output.splitlines():
        seen.add("log", line)
    secrets = [key.rpartition("_")[2] for name, key in keys.items() if name != "home"]
    assert seen.leaks() == []
    assert [where for where, text in seen.texts if any(secret in text for secret in secrets)] == []
    assert "Traceback" not in gateway.output


@pytest.mark.parametrize(
    ("env", "config"),
    [
        ({"THINKTWICE_REDIS__URL": f"junk://:{REDIS_PASSWORD}@nowhere"}, ""),
        ({"THINKTWICE_KEYS__PEPPER": CANARY}, ""),
        ({}, f"[keys]\npepper = ['{CANARY}']\n"),
        ({}, f"[redis]\nurl = {{ a = '{CANARY}' }}\n"),
        ({}, f"[redis]\nurl = 'redis://:{CANARY}\n"),
        ({}, f"[policy.lists.l]\npatterns = ['(?={CANARY})']\n"),
        ({}, f"[profiles.p]\nchecks = [{{ type = 'numeric', reference = '{CANARY}' }}]\n"),
    ],
)
def test_a_configuration_error_shows_no_secret(tmp_path: Path, env: dict[str, str], config: str) -> None:
    gateway = GatewayProcess(tmp_path, NO_ONE, config, env)
    gateway.launch()
    assert gateway.ended() in (1, 2)
    assert CANARY not in gateway.output and gateway.output.strip()

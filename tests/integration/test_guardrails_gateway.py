"""Lists and classifier over HTTP: what is refused before the engine is asked, what is withheld, no token leaked."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateway_process import GatewayProcess, post
from tests.support.mock_engine import MockEngine, Script

CONFIG = """
[policy]
classifier_url = "http://127.0.0.1:{port}/v1/moderations"
classifier_timeout_s = 0.5
[policy.lists.base]
words = ["forbidden word"]
always = true
applies_to = "input"
[policy.lists.secrets]
patterns = ['AKIA[0-9A-Z]{{16}}']
[policy.lists.moderation]
classifier = true
[profiles.guarded]
checks = [{{ type = "policy", lists = ["secrets"] }}]
"""
LEAK = "The key is AKIAABCDEFGHIJKLMNOP, keep it."
CALL = {
    "id": "c1",
    "type": "function",
    "function": {"name": "send", "arguments": '{"key": "\\u0041KIAABCDEFGHIJKLMNOP"}'},
}
SECRETS = {"checks": [{"type": "policy", "lists": ["secrets"]}]}
MODERATED = {"checks": [{"type": "policy", "lists": ["moderation"]}]}


class Moderation(BaseHTTPRequestHandler):
    """Flags what holds `nasty`; breaks or stalls on demand."""

    def do_POST(self) -> None:
        text = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["input"]
        if "stall" in text:
            time.sleep(1.0)
        status = 500 if "break" in text else 200
        body = b"junk" if "junk" in text else json.dumps({"results": [{"flagged": "nasty" in text}]}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def engine() -> Iterator[MockEngine]:
    scripts = {
        "leak": Script((LEAK,)),
        "call": Script(("",), tool_calls=(CALL,), finish_reason="tool_calls"),
        "answer badly": Script(("something nasty",)),
    }
    with MockEngine(scripts) as engine:
        yield engine


@pytest.fixture(scope="module")
def gateway(engine: MockEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    classifier = ThreadingHTTPServer(("127.0.0.1", 0), Moderation)
    threading.Thread(target=classifier.serve_forever, daemon=True).start()
    config = CONFIG.format(port=classifier.server_port)
    with GatewayProcess(tmp_path_factory.mktemp("guarded"), engine.url, config) as gateway:
        gateway.wait_for("/readyz", 200)
        yield gateway
    classifier.shutdown()
    classifier.server_close()
    assert "Traceback" not in gateway.output and "AKIA" not in gateway.output


def ask(gateway: GatewayProcess, text: str, path: str = "chat/completions", **fields: Any) -> tuple[int, str]:
    """Status and body of a request."""
    body: dict[str, Any] = {"model": "champion", **fields}
    if path == "chat/completions":
        body["messages"] = [{"role": "user", "content": text}]
    return post(f"{gateway.url}/v1/{path}", body)


def code_of(body: str) -> str:
    return str(json.loads(body)["error"]["code"])


@pytest.mark.parametrize("text", ["a forbidden word", "a For\u200bbidden\nWORD", "ｆｏｒｂｉｄｄｅｎ ｗｏｒｄ"])
@pytest.mark.parametrize("stream", [True, False])
def test_a_request_that_breaks_the_policy(gateway: GatewayProcess, engine: MockEngine, text: str, stream: bool) -> None:
    before = len(engine.requests)
    status, body = ask(gateway, text, stream=stream)
    assert (status, code_of(body)) == (400, "content_policy_violation")
    assert json.loads(body)["error"]["type"] == "invalid_request_error" and "forbidden" not in body
    assert len(engine.requests) == before


@pytest.mark.parametrize("effort", ["low", "high"])
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("text", ["leak", "call"])
def test_an_answer_that_breaks_it_is_withheld(gateway: GatewayProcess, text: str, stream: bool, effort: str) -> None:
    """Not one token of it goes out, streamed or whole, from text or from a tool call's arguments."""
    status, body = ask(gateway, text, stream=stream, reasoning_effort=effort, verification=SECRETS)
    assert status == 200 and "AKIA" not in body and "KIAABC" not in body and "The key" not in body
    assert "withheld by the content policy" in body and '"finish_reason":"content_filter"' in body
    assert '"reason":"veto"' in body and '"status":"unverified"' in body
    assert '"type":"policy","class":"veto","outcome":"fail"' in body


def test_on_failure_error(gateway: GatewayProcess) -> None:
    status, body = ask(gateway, "leak", verification=SECRETS | {"on_failure": "error"})
    assert (status, code_of(body)) == (422, "not_verified") and "AKIA" not in body


def test_a_profile_names_lists(gateway: GatewayProcess) -> None:
    status, body = ask(gateway, "leak", verification={"profile": "guarded"})
    assert status == 200 and "AKIA" not in body
    status, body = ask(gateway, "leak")
    assert status == 200 and "AKIA" in body  # nobody asked


def test_an_innocent_answer(gateway: GatewayProcess) -> None:
    for stream in (True, False):
        status, body = ask(gateway, "hello", stream=stream, verification=SECRETS)
        assert status == 200 and "The answer is" in body and '"outcome":"pass"' in body


def test_an_unknown_list(gateway: GatewayProcess) -> None:
    status, body = ask(gateway, "x", verification={"checks": [{"type": "policy", "lists": ["nope"]}]})
    assert (status, code_of(body)) == (400, "unknown_list")


def test_the_classifier(gateway: GatewayProcess) -> None:
    assert ask(gateway, "hello", verification=MODERATED)[0] == 200
    status, body = ask(gateway, "something nasty", verification=MODERATED)
    assert (status, code_of(body)) == (400, "content_policy_violation")
    status, body = ask(gateway, "answer badly", verification=MODERATED)
    assert status == 200 and "nasty" not in body and "withheld" in body


@pytest.mark.parametrize("text", ["break", "stall", "junk"])
def test_a_classifier_that_does_not_say_lets_nothing_through(
    gateway: GatewayProcess, engine: MockEngine, text: str
) -> None:
    status, body = ask(gateway, text, verification=MODERATED)
    assert (status, code_of(body)) == (503, "verifier_unavailable") and engine.chats(text) == []


def test_the_other_routes(gateway: GatewayProcess) -> None:
    for path, field in (("completions", "prompt"), ("embeddings", "input")):
        status, body = ask(gateway, "", path, **{field: "a forbidden word"})
        assert (status, code_of(body)) == (400, "content_policy_violation")
        assert ask(gateway, "", path, **{field: ["fine", "too"]})[0] == 200
        assert ask(gateway, "", path, **{field: [1, 2, 3]})[0] == 403


def outcome(home: Path, config: str) -> tuple[int, str]:
    gateway = GatewayProcess(home, "http://127.0.0.1:9", config)
    gateway.launch()
    return gateway.ended(), gateway.output


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ('[profiles.p]\nchecks = [{ type = "policy", lists = ["nope"] }]\n', "'nope' is not configured"),
        ("[policy.lists.l]\nclassifier = true\n", "classifier_url"),
        ("[policy.lists.l]\npatterns = ['(?=x)']\n", "policy list l"),
    ],
)
def test_a_configuration_that_cannot_be_used(tmp_path: Path, config: str, says: str) -> None:
    code, output = outcome(tmp_path, config)
    assert code == 2 and says in output and "Traceback" not in output

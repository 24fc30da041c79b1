"""The thin client: URLs, unwrapping, and errors as one line."""

from collections.abc import Callable
from typing import Any

import openai
import pytest

from gateway.client import base_url, connect, error_code, one_line_errors, reply_of, stream_reply
from router.errors import ConfigError, ThinkTwiceError

REQUEST: dict[str, Any] = {"model": "champion", "messages": [{"role": "user", "content": "6 * 7?"}]}


@pytest.mark.parametrize(
    "given", ["http://host:8000", "http://host:8000/", "http://host:8000/v1", "http://host:8000/v1/"]
)
def test_base_url_with_or_without_v1(given: str) -> None:
    assert base_url(given) == "http://host:8000/v1"


@pytest.mark.parametrize("given", ["", "localhost:8000", "ftp://host", "http://", "not a url"])
def test_what_is_no_url_is_a_usage_error(given: str) -> None:
    with pytest.raises(ConfigError, match="http://127"):
        base_url(given)


def test_a_reply_carries_the_verification(gateway: Any) -> None:
    with connect(gateway.url) as client:
        reply = reply_of(client.chat.completions.create(**REQUEST))
    assert reply.text == "It is 42."
    assert reply.verification["status"] == "verified"
    assert (reply.prompt_tokens, reply.completion_tokens, reply.tokens) == (20, 30, 50)


def test_a_stream_shows_pieces_and_returns_the_whole(gateway: Any) -> None:
    pieces: list[str] = []
    with connect(gateway.url) as client:
        reply = stream_reply(client, REQUEST, pieces.append)
    assert [piece for piece in pieces if piece] == ["It", " is", " 42."]
    assert reply.text == "It is 42."
    assert reply.verification["group_id"] == "019a"
    assert reply.tokens == 50


def test_a_streamed_refusal_is_no_text(gateway: Any, make_refusal: Callable[[str], dict[str, Any]]) -> None:
    gateway.answer = lambda body: (200, make_refusal("No answer passed its checks."))
    with connect(gateway.url) as client:
        reply = stream_reply(client, REQUEST, lambda text: None)
    assert reply.text is None
    assert reply.refusal == "No answer passed its checks."
    assert reply.finish_reason == "content_filter"


def test_a_stream_cut_short_is_an_error(gateway: Any) -> None:
    gateway.stream_tail = ["data: [DONE]"]
    with connect(gateway.url) as client, pytest.raises(ThinkTwiceError, match="before the answer was whole"):
        stream_reply(client, REQUEST, lambda text: None)


def test_an_error_within_the_stream_is_one_line(gateway: Any) -> None:
    gateway.stream_tail = ['data: {"error": {"message": "the engine went away", "code": "backend_unavailable"}}']
    with connect(gateway.url) as client, pytest.raises(ThinkTwiceError) as caught, one_line_errors(gateway.url):
        stream_reply(client, REQUEST, lambda text: None)
    assert "the engine went away" in str(caught.value)


def test_no_gateway_names_the_url_and_the_cure(closed_url: str) -> None:
    with connect(closed_url) as client, pytest.raises(ThinkTwiceError) as caught, one_line_errors(closed_url):
        client.models.list()
    assert closed_url in str(caught.value)
    assert "thinktwice up" in str(caught.value)
    assert not isinstance(caught.value, ConfigError)


@pytest.mark.parametrize(
    ("status", "code"), [(400, "unknown_field"), (503, "backend_unavailable"), (422, "not_verified")]
)
def test_an_error_object_becomes_one_line(
    gateway: Any, make_error: Callable[[str, str], dict[str, Any]], status: int, code: str
) -> None:
    gateway.answer = lambda body: (status, make_error(code, "first line\nsecond line"))
    with connect(gateway.url) as client, pytest.raises(ThinkTwiceError) as caught, one_line_errors(gateway.url):
        client.chat.completions.create(**REQUEST)
    assert f"{status} {code}" in str(caught.value)
    assert "first line second line" in str(caught.value)


def test_the_field_at_fault_is_named(gateway: Any, make_error: Callable[[str, str], dict[str, Any]]) -> None:
    body = make_error("invalid_request", "must be a whole number from 1 to 5")
    body["error"]["param"] = "verification.samples.max"
    gateway.answer = lambda _: (400, body)
    with connect(gateway.url) as client, pytest.raises(ThinkTwiceError) as caught, one_line_errors(gateway.url):
        client.chat.completions.create(**REQUEST)
    assert str(caught.value).endswith("verification.samples.max: must be a whole number from 1 to 5")


def test_nothing_is_retried(gateway: Any, make_error: Callable[[str, str], dict[str, Any]]) -> None:
    gateway.answer = lambda body: (503, make_error("busy", "later"))
    with connect(gateway.url) as client, pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(**REQUEST)
    assert len(gateway.requests) == 1
    assert error_code(caught.value) == "503 busy"


def test_a_server_without_verification_is_no_gateway(
    gateway: Any, make_completion: Callable[..., dict[str, Any]]
) -> None:
    bare = make_completion()
    del bare["verification"]
    gateway.answer = lambda body: (200, bare)
    with connect(gateway.url) as client, pytest.raises(ThinkTwiceError, match="no `verification`"):
        reply_of(client.chat.completions.create(**REQUEST))


def test_the_key_comes_from_a_variable_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-another-servers")
    with connect("http://host:8000") as client:
        assert client.api_key == "unused"
    monkeypatch.setenv("THINKTWICE_API_KEY", "tt_id_secret")
    with connect("http://host:8000") as client:
        assert client.api_key == "tt_id_secret"

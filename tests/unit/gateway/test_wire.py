import json

import pytest

from gateway.call import ChatCall, Replayed, Tenant
from gateway.http.wire import parse_chat
from router.domain import Sampling
from router.enums import Effort, OnFailure, Purpose
from router.errors import InvalidRequest, UnknownProfile
from router.settings import BackendSection, ProfileSection, Settings
from router.verify.profiles import admit_profiles

PROFILE = ProfileSection(version=2, checks=({"type": "regex", "pattern": "^a"},))
SETTINGS = Settings(backend=BackendSection(allow_fields=("chat_template_kwargs",)), profiles={"gate": PROFILE})
PROFILES = admit_profiles(SETTINGS.profiles, SETTINGS.verify.timeout_s)
MESSAGES = [{"role": "user", "content": "What is 2 + 2?"}]
NUMERIC = {"checks": [{"type": "numeric", "reference": 4}]}


def parse(headers: dict[str, str] | None = None, **fields: object) -> ChatCall:
    body = json.dumps({"model": "champion", "messages": MESSAGES} | fields).encode()
    return parse_chat(
        body, headers or {}, request_id="r", tenant=Tenant("local", True), settings=SETTINGS, profiles=PROFILES
    )


def test_a_bare_request() -> None:
    call = parse()
    assert (call.model, call.effort, call.n, call.stream) == ("champion", Effort.MEDIUM, 1, False)
    assert call.prompt.sampling == Sampling() and call.prompt.options == {}
    assert call.spec.checks == () and call.spec.on_failure is OnFailure.RETURN


def test_messages_are_never_edited() -> None:
    messages = [
        {"role": "user", "name": "x", "content": [{"type": "text", "text": " a "}, {"type": "text", "text": "b"}]}
    ]
    call = parse(messages=messages)
    assert list(call.prompt.messages) == messages
    assert call.prompt.last_user_text == " a \nb"


def test_sampling_and_options_are_told_apart() -> None:
    call = parse(temperature=1, top_k=5, max_completion_tokens=9, stop=["x"], tools=[{"type": "function"}], seed=3)
    assert call.prompt.sampling == Sampling(temperature=1.0, top_k=5, seed=3, max_tokens=9)
    assert call.prompt.options == {"stop": ["x"], "tools": [{"type": "function"}]}


def test_checks_profile_and_headers() -> None:
    call = parse({"x-verification-profile": "gate@2"}, verification=NUMERIC)
    assert call.spec.profile == "gate@2"
    assert {check.type for check in call.spec.checks} == {"regex", "numeric"}
    call = parse({"cache-control": "no-store", "x-thinktwice-purpose": "eval"})
    assert call.no_store and call.purpose is Purpose.EVAL


def test_a_json_schema_response_format_is_a_check() -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    [check] = parse(response_format=schema).spec.checks
    assert check.type == "json_schema"


def test_with_n_above_one_a_response_format_is_the_engines_alone() -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    call = parse(response_format=schema, n=2)
    assert call.spec.checks == () and call.n == 2 and call.prompt.options["response_format"] == schema
    with pytest.raises(InvalidRequest, match="n above 1"):
        parse(response_format=schema, n=2, verification=NUMERIC)


def test_a_whole_number_may_be_written_as_a_fraction() -> None:
    call = parse(max_tokens=16.0, seed=3e0, n=2.0)
    assert (call.prompt.sampling.max_tokens, call.prompt.sampling.seed, call.n) == (16, 3, 2)
    assert all(type(value) is int for value in (call.prompt.sampling.max_tokens, call.prompt.sampling.seed, call.n))
    for wrong in ({"max_tokens": 16.5}, {"seed": 1e300}):
        with pytest.raises(InvalidRequest):
            parse(**wrong)


def test_null_leaves_a_stream_option_to_its_default() -> None:
    assert not parse(stream=True, stream_options={"include_usage": None}).include_usage


def test_an_opened_field_is_sent_on() -> None:
    assert parse(chat_template_kwargs={"a": 1}).prompt.options == {"chat_template_kwargs": {"a": 1}}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"cache_salt": "x"}, "cache_salt"),
        ({"priority": 1}, "priority"),
        ({"n": 0}, "n"),
        ({"n": True}, "n"),
        ({"n": "5"}, "n"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content"),
        ({"reasoning_effort": "extreme"}, "reasoning_effort"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens"),
        ({"n": 2, "verification": NUMERIC}, "n"),
        ({"verification": {"samples": {"max": 6}}}, "verification.samples.max"),
        ({"verification": {"checks": [{"type": "numeric", "reference": 4, "foo": 1}]}}, "verification.checks[0].foo"),
    ],
)
def test_a_bad_field_is_named(fields: dict[str, object], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse(**fields)
    assert refused.value.param == param
    assert "\n" not in str(refused.value)


def test_missing_fields_are_named() -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_chat(
            b'{"model": "m"}', {}, request_id="r", tenant=Tenant("local", True), settings=SETTINGS, profiles=PROFILES
        )
    assert refused.value.param == "messages"


def test_an_unknown_profile() -> None:
    with pytest.raises(UnknownProfile):
        parse(verification={"profile": "nope"})


def test_the_body_must_be_an_object() -> None:
    with pytest.raises(InvalidRequest, match="object"):
        parse_chat(b"[1]", {}, request_id="r", tenant=Tenant("local", True), settings=SETTINGS, profiles=PROFILES)


def test_a_purpose_nobody_may_claim() -> None:
    with pytest.raises(InvalidRequest):
        parse({"x-thinktwice-purpose": "audit"})


def test_a_replay_names_the_group_and_its_tenant() -> None:
    named = {"x-thinktwice-group": "g1", "x-thinktwice-tenant": "acme"}
    replay = {"x-thinktwice-purpose": "replay"}
    assert parse(replay | named).replayed == Replayed("g1", "acme")
    assert parse(named).replayed is None
    for missing in named:
        with pytest.raises(InvalidRequest, match="a replay needs"):
            parse(replay | {name: value for name, value in named.items() if name != missing})

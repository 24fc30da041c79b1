"""The official `openai` SDK against a real gateway process and a scripted engine."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from tests.support.gateway_process import GatewayProcess, text_of
from tests.support.mock_engine import MODEL, Fault, MockEngine, Script
from tests.support.serving import metric

TOOL_CALL: Any = {"id": "call-1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1, "b": 2}'}}
TOOLS: Any = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]
SCRIPTS = {
    "capital": Script(("Paris.",)),
    "escalate": Script(("I think \\boxed{5}", "No, \\boxed{3}", "It is \\boxed{4}")),
    "hopeless": Script(("It is \\boxed{5}",)),
    "add them": Script(("",), finish_reason="tool_calls", tool_calls=(TOOL_CALL,)),
    "slow": Script(("It is \\boxed{4}",), delay_s=0.7),
    "refused": Script(("x",), fault=Fault.REFUSE),
    "breaks": Script(("half and half",), fault=Fault.ERROR_EVENT),
    "cut off": Script(("half and half",), fault=Fault.CUT),
}
CHECK = {"checks": [{"type": "numeric", "reference": 4}]}


@pytest.fixture(scope="module")
def engine() -> Iterator[MockEngine]:
    with MockEngine(SCRIPTS) as engine:
        yield engine


@pytest.fixture(scope="module")
def gateway(engine: MockEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    env = {"THINKTWICE_SERVER__KEEPALIVE_S": "0.5"}
    home: Path = tmp_path_factory.mktemp("sdk")
    with GatewayProcess(home, engine.url, env=env) as gateway:
        yield gateway
        assert gateway.stop() == 0
    assert "Traceback" not in gateway.output


@pytest.fixture
async def client(gateway: GatewayProcess) -> AsyncIterator[AsyncOpenAI]:
    """The SDK as it comes, with its retries."""
    async with AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="unused") as client:
        yield client


def ask(text: str, **fields: Any) -> dict[str, Any]:
    return {"model": "champion", "messages": [{"role": "user", "content": text}], **fields}


def requests_seen(gateway: GatewayProcess) -> float:
    exposition = text_of(f"{gateway.url}/metrics")
    lines = [line for line in exposition.splitlines() if line.startswith("thinktwice_requests_total{")]
    return sum(metric(exposition, line.rsplit(" ", 1)[0]) for line in lines)


async def test_a_plain_answer(client: AsyncOpenAI, engine: MockEngine) -> None:
    answered = await client.chat.completions.create(**ask("The capital?", temperature=0.5, max_tokens=9))
    [choice] = answered.choices
    assert (choice.message.content, choice.finish_reason) == ("Paris.", "stop")
    assert answered.model == "champion" and answered.usage is not None and answered.usage.completion_tokens == 6
    assert answered.verification["status"] == "unverified"
    [sent] = engine.chats("The capital?")
    salt = sent.pop("cache_salt")
    assert isinstance(salt, str) and sent == {
        **ask("The capital?", model=MODEL), "temperature": 0.5, "max_tokens": 9, "n": 1, "logprobs": True,
        "return_token_ids": True,
    }  # fmt: skip


def test_the_synchronous_client(gateway: GatewayProcess) -> None:
    with OpenAI(base_url=f"{gateway.url}/v1", api_key="unused") as client:
        assert client.chat.completions.create(**ask("capital")).choices[0].message.content == "Paris."


async def test_a_streamed_answer(client: AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        **ask("capital, streamed", stream=True, stream_options={"include_usage": True})
    )
    chunks = [chunk async for chunk in stream]
    assert "".join(c.delta.content or "" for chunk in chunks for c in chunk.choices) == "Paris."
    *_, last, usage = chunks
    assert last.choices[0].finish_reason == "stop" and last.verification["route"] == "single"
    assert usage.choices == [] and usage.usage.completion_tokens == 6
    assert len({chunk.id for chunk in chunks}) == 1 and all(chunk.usage is None for chunk in chunks[:-1])


async def test_verification_reaches_the_gateway_and_its_verdict_arrives(
    client: AsyncOpenAI, engine: MockEngine
) -> None:
    answered = await client.chat.completions.create(**ask("escalate", extra_body={"verification": CHECK}))
    verdict = answered.verification
    assert (verdict["status"], verdict["reason"], verdict["route"]) == ("verified", "decisive_pass", "vote")
    assert verdict["escalated"] and verdict["checks"][0]["outcome"] == "pass"
    assert answered.choices[0].message.content == "It is \\boxed{4}"
    assert not any("verification" in body or "reasoning_effort" in body for body in engine.chats("escalate"))


async def test_a_voted_stream_and_its_keep_alive_comments(client: AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        **ask("slow one", stream=True, reasoning_effort="high", extra_body={"verification": CHECK})
    )
    chunks = [chunk async for chunk in stream]
    assert "".join(c.delta.content or "" for chunk in chunks for c in chunk.choices) == "It is \\boxed{4}"
    assert len(chunks) == 2 and chunks[-1].verification["status"] == "verified"


async def test_tools_pass_through(client: AsyncOpenAI, engine: MockEngine) -> None:
    answered = await client.chat.completions.create(**ask("add them", tools=TOOLS, tool_choice="auto"))
    [choice] = answered.choices
    assert choice.finish_reason == "tool_calls" and choice.message.tool_calls is not None
    assert choice.message.tool_calls[0].model_dump() == TOOL_CALL
    assert engine.chats("add them")[-1]["tools"] == TOOLS


async def test_streamed_tool_calls_arrive_as_deltas(client: AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(**ask("add them", tools=TOOLS, stream=True))
    pieces = [t async for chunk in stream for c in chunk.choices for t in c.delta.tool_calls or ()]
    assert len(pieces) == 2 and pieces[0].id == "call-1" and pieces[0].function.name == "add"
    assert "".join(piece.function.arguments for piece in pieces) == TOOL_CALL["function"]["arguments"]


async def test_tool_calls_are_voted(client: AsyncOpenAI) -> None:
    answered = await client.chat.completions.create(**ask("add them", tools=TOOLS, reasoning_effort="high"))
    [choice] = answered.choices
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    assert choice.message.tool_calls is not None and choice.message.tool_calls[0].model_dump() == TOOL_CALL
    verdict = answered.verification
    assert (verdict["status"], verdict["stopped"], verdict["votes"]) == ("consensus", "quorum", 3)


async def test_a_voted_tool_call_streams_as_deltas(client: AsyncOpenAI) -> None:
    request = ask("add them", tools=TOOLS, reasoning_effort="high")
    async with client.chat.completions.stream(**request) as stream:
        message = (await stream.get_final_completion()).choices[0].message
    assert message.content is None and message.tool_calls is not None
    assert message.tool_calls[0].function.arguments == TOOL_CALL["function"]["arguments"]


async def test_n_choices(client: AsyncOpenAI) -> None:
    answered = await client.chat.completions.create(**ask("escalate, n times", n=2))
    assert [choice.message.content for choice in answered.choices] == ["I think \\boxed{5}", "No, \\boxed{3}"]
    assert [choice.index for choice in answered.choices] == [0, 1]


@pytest.mark.parametrize("effort", ["low", "high"])
async def test_logprobs(client: AsyncOpenAI, effort: Any) -> None:
    answered = await client.chat.completions.create(
        **ask("capital", logprobs=True, top_logprobs=2, reasoning_effort=effort)
    )
    logprobs = answered.choices[0].logprobs
    assert logprobs is not None and logprobs.content is not None
    assert "".join(entry.token for entry in logprobs.content) == "Paris."
    assert len(logprobs.content[0].top_logprobs) == 2
    without = await client.chat.completions.create(**ask("capital", reasoning_effort=effort))
    assert without.choices[0].logprobs is None


@pytest.mark.parametrize("stream", [False, True])
async def test_an_unverified_answer_is_a_422_and_not_asked_for_again(
    client: AsyncOpenAI, gateway: GatewayProcess, engine: MockEngine, stream: bool
) -> None:
    before = requests_seen(gateway)
    verification = CHECK | {"on_failure": "error", "samples": {"min": 2, "max": 2}}
    with pytest.raises(openai.UnprocessableEntityError) as refused:
        await client.chat.completions.create(
            **ask(f"hopeless, streamed: {stream}", stream=stream, extra_body={"verification": verification})
        )
    assert refused.value.code == "verification_failed" and refused.value.type == "verification_error"
    assert isinstance(refused.value.body, dict) and refused.value.body["verification"]["status"] == "failed"
    assert requests_seen(gateway) == before + 1
    assert [body["n"] for body in engine.chats(f"hopeless, streamed: {stream}")] == [1, 1]


async def test_a_refused_answer(client: AsyncOpenAI) -> None:
    verification = CHECK | {"on_failure": "refuse"}
    answered = await client.chat.completions.create(**ask("hopeless", extra_body={"verification": verification}))
    [choice] = answered.choices
    assert choice.message.content is None and choice.finish_reason == "content_filter"
    assert choice.message.refusal == "No answer passed its checks."
    assert answered.verification["status"] == "failed"
    stream = await client.chat.completions.create(
        **ask("hopeless, streamed", stream=True, extra_body={"verification": verification})
    )
    chunks = [chunk async for chunk in stream]
    assert "".join(c.delta.refusal or "" for chunk in chunks for c in chunk.choices) == "No answer passed its checks."
    assert chunks[-1].choices[0].finish_reason == "content_filter"


@pytest.mark.parametrize(
    ("fields", "error", "code"),
    [
        ({"model": "gpt-9"}, openai.NotFoundError, "model_not_found"),
        ({"extra_body": {"verification": {"profile": "nope"}}}, openai.BadRequestError, "unknown_profile"),
        ({"extra_body": {"frobnicate": 1}}, openai.BadRequestError, "unknown_field"),
        ({"n": 2, "extra_body": {"verification": CHECK}}, openai.BadRequestError, "invalid_request"),
    ],
)
async def test_bad_requests(client: AsyncOpenAI, fields: Any, error: type[openai.APIStatusError], code: str) -> None:
    with pytest.raises(error) as refused:
        await client.chat.completions.create(**ask("capital") | fields)
    assert refused.value.code == code and refused.value.request_id


async def test_the_engines_own_refusal_keeps_its_status(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="refused by the engine"):
        await client.chat.completions.create(**ask("refused"))


@pytest.mark.parametrize("text", ["breaks", "cut off"])
async def test_an_error_in_the_middle_of_a_stream(client: AsyncOpenAI, text: str) -> None:
    stream = await client.chat.completions.create(**ask(text, stream=True))
    seen = ""
    with pytest.raises(openai.APIError):
        async for chunk in stream:
            seen += "".join(choice.delta.content or "" for choice in chunk.choices)
    # A connection that breaks may take with it what had arrived and was not read yet; an error event cannot.
    assert seen == "half a" or (text == "cut off" and seen == "")


async def test_models_completions_and_embeddings(client: AsyncOpenAI) -> None:
    assert [model.id async for model in client.models.list()] == [MODEL, "champion"]
    text = (await client.completions.create(model="champion", prompt="The capital?")).choices[0].text
    assert text == "Paris."
    vectors = await client.embeddings.create(model=MODEL, input="x", encoding_format="float")
    assert vectors.data[0].embedding == [0.5, -0.5]


async def test_a_503_that_cannot_be_helped_is_asked_once(
    engine: MockEngine, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The log cannot take a group: more free space is asked for than any disk has."""
    env = {"THINKTWICE_LOG__MIN_FREE_BYTES": str(2**62)}
    with GatewayProcess(tmp_path_factory.mktemp("full"), engine.url, env=env) as gateway:
        async with AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="unused") as client:
            before = len(engine.chats("asked once"))
            with pytest.raises(openai.InternalServerError) as refused:
                await client.chat.completions.create(**ask("asked once"))
        assert refused.value.status_code == 503 and refused.value.code == "log_unavailable"
        assert refused.value.response.headers["x-should-retry"] == "false"
        assert requests_seen(gateway) == 1 and len(engine.chats("asked once")) == before
        assert gateway.stop() == 0 and "Traceback" not in gateway.output

"""Server-side tools with the official `openai` SDK, a real gateway process, a scripted engine and a folder of notes."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI, BadRequestError

from router.enums import Tier
from tests.support.builders import tool_call
from tests.support.gateway_process import GatewayProcess
from tests.support.mock_engine import MockEngine, Script
from tests.support.sandboxes import launcher_or_skip

SCRIPTS = {
    "sum": Script(
        ("The answer is \\boxed{<told>}",),
        turns=(
            (tool_call('{"expression": "6 * 7"}', "calculator"),),
            (tool_call('{"expression": "42 / 2"}', "calculator"),),
        ),
    ),
    "leave": Script(("Notes: <told>",), turns=((tool_call('{"query": "paid leave"}', "search_notes"),),)),
    "program": Script(("It printed <told>",), turns=((tool_call('{"source": "sum(range(10))"}', "python"),),)),
    "loops": Script(("never",), turns=((tool_call('{"expression": "1"}', "calculator"),),) * 9),
    "slow": Script(("late",), turns=((tool_call('{"expression": "1"}', "calculator"),),), delay_s=30.0),
}
CONFIG = """
[profiles.tooled]
version = 2
tools = ["calculator", "search_notes", "python"]
max_turns = 3

[tools.search_notes]
dir = '{notes}'
"""


@pytest.fixture(scope="module")
def engine() -> Iterator[MockEngine]:
    with MockEngine(SCRIPTS) as engine:
        yield engine


@pytest.fixture(scope="module")
def gateway(engine: MockEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    home: Path = tmp_path_factory.mktemp("tools")
    (home / "notes").mkdir()
    (home / "notes" / "hr.md").write_text("Everybody has 28 days of paid leave.")
    config, env = (
        CONFIG.format(notes=home / "notes"),
        {"THINKTWICE_LOG__MODE": "sync", "THINKTWICE_SANDBOX__BACKEND": "auto"},
    )
    with GatewayProcess(home, engine.url, config, env) as gateway:
        yield gateway
        assert gateway.stop() == 0
    assert "Traceback" not in gateway.output


@pytest.fixture
async def client(gateway: GatewayProcess) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="unused", max_retries=0) as client:
        yield client


def ask(text: str, *checks: dict[str, Any], **fields: Any) -> dict[str, Any]:
    verification = {"profile": "tooled@2", "checks": list(checks)}
    messages = [{"role": "user", "content": text}]
    return {"model": "champion", "messages": messages, "extra_body": {"verification": verification}, **fields}


async def test_a_vote_with_a_calculator(client: AsyncOpenAI, engine: MockEngine, gateway: GatewayProcess) -> None:
    answered = await client.chat.completions.create(**ask("sum, voted", reasoning_effort="high"))
    assert answered.choices[0].message.content == "The answer is \\boxed{21}"
    assert answered.choices[0].message.tool_calls is None and answered.choices[0].finish_reason == "stop"
    assert answered.usage is not None and answered.usage.completion_tokens > 3 * len("The answer is \\boxed{21}")
    record = next(group for group in gateway.groups() if group.group_id == answered.verification["group_id"])
    told = [[call.content for turn in sample.turns for call in turn.calls] for sample in record.samples]
    assert told == [["42", "21"]] * answered.verification["samples"]
    first, *_ = engine.chats("sum, voted")
    assert [tool["function"]["name"] for tool in first["tools"]] == ["calculator", "search_notes", "python"]
    assert max(len(body["messages"]) for body in engine.chats("sum, voted")) == 5


async def test_a_checked_stream_with_a_calculator(client: AsyncOpenAI) -> None:
    request = ask("sum, streamed", {"type": "numeric", "reference": 21}, stream=True)
    chunks = [chunk async for chunk in await client.chat.completions.create(**request)]
    assert "".join(c.delta.content or "" for chunk in chunks for c in chunk.choices) == "The answer is \\boxed{21}"
    assert chunks[-1].verification["status"] == "verified"
    again = await client.chat.completions.create(**ask("sum, streamed", {"type": "numeric", "reference": 21}))
    assert again.verification["cached"]


async def test_the_notes_are_searched(client: AsyncOpenAI) -> None:
    answered = await client.chat.completions.create(**ask("leave, please"))
    assert answered.choices[0].message.content == "Notes: [hr.md]\nEverybody has 28 days of paid leave."


async def test_a_program_is_run(client: AsyncOpenAI) -> None:
    launcher_or_skip(Tier.LANDLOCK)
    answered = await client.chat.completions.create(**ask("program, please"))
    assert answered.choices[0].message.content == "It printed 45"


async def test_a_model_that_never_stops_calling(client: AsyncOpenAI, engine: MockEngine) -> None:
    answered = await client.chat.completions.create(**ask("loops", reasoning_effort="low"))
    [choice] = answered.choices
    assert (choice.finish_reason, choice.message.content, choice.message.tool_calls) == ("length", "", None)
    assert answered.verification["reason"] == "truncated" and len(engine.chats("loops")) == 3


async def test_tools_of_the_clients_own_are_refused(client: AsyncOpenAI) -> None:
    own: Any = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]
    with pytest.raises(BadRequestError) as refused:
        await client.chat.completions.create(**ask("sum", tools=own))
    assert refused.value.param == "tools" and "profile" in str(refused.value)


async def test_a_client_that_leaves_in_a_tool_turn_frees_the_engine(client: AsyncOpenAI, engine: MockEngine) -> None:
    asking = asyncio.create_task(client.chat.completions.create(**ask("slow", reasoning_effort="high")))
    async with asyncio.timeout(20):
        while not engine.chats("slow"):
            await asyncio.sleep(0.01)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        while engine.running:
            await asyncio.sleep(0.01)

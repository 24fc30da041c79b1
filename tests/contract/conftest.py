"""What contract suites share: each engine in turn, the same weights beside it, and each answer store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, TypeAlias

import pytest
import torch
from transformers import AutoTokenizer, LlamaForCausalLM

from gateway.adapters.memory_store import MemoryStore
from gateway.adapters.redis_store import RedisStore
from gateway.adapters.vllm import VllmBackend
from router.ports import Store
from tests.support.engines import EngineKind, RunningEngine
from tests.support.redis_server import RedisServer

Logprobs: TypeAlias = Callable[..., torch.Tensor]


@pytest.fixture(scope="session", params=[EngineKind.EMBEDDED, pytest.param(EngineKind.VLLM, marks=pytest.mark.vllm)])
def engine(request: pytest.FixtureRequest) -> RunningEngine:
    running = request.getfixturevalue(request.param)
    assert isinstance(running, RunningEngine)
    return running


@pytest.fixture
async def backend(engine: RunningEngine) -> AsyncIterator[VllmBackend]:
    async with VllmBackend(engine.url) as backend:
        yield backend


@pytest.fixture(scope="session")
def tokenizer(engine: RunningEngine) -> Any:
    return AutoTokenizer.from_pretrained(engine.folder)


@pytest.fixture(scope="session")
def load_network(engine: RunningEngine) -> Callable[[], Any]:
    """`load_network()`: the engine's weights in float32, in this process."""
    return lambda: LlamaForCausalLM.from_pretrained(engine.folder, dtype=torch.float32)


@pytest.fixture(scope="session")
def forward_logprobs() -> Logprobs:
    """`forward_logprobs(network, prompt, completion, temperature)`: what a forward pass says of each token, in nats."""

    def logprobs(
        network: Any, prompt: Sequence[int], completion: Sequence[int], temperature: float = 1.0
    ) -> torch.Tensor:
        with torch.no_grad():
            logits: torch.Tensor = network(torch.tensor([[*prompt, *completion]])).logits[0, len(prompt) - 1 : -1]
        return (logits / temperature).log_softmax(-1).gather(1, torch.tensor([completion]).T).squeeze(1)

    return logprobs


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    server = RedisServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture(params=["memory", "redis"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    made: MemoryStore | RedisStore
    if request.param == "memory":
        made = MemoryStore(entries=1000)
    else:
        server: RedisServer = request.getfixturevalue("server")
        server.command("FLUSHALL")
        made = RedisStore(server.url, timeout_s=2.0)
    yield made
    await made.close()

"""A tiny random Llama with a byte-level tokenizer, an engine around it, and a server in front."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
import uvicorn
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from gateway.engine.model import Device, Dtype, LanguageModel, load_model
from gateway.engine.process import assemble, bind
from gateway.engine.scheduler import Scheduler
from gateway.engine.server import Engine, create_app

SPECIALS = ["<|end|>", "<|start|>", "<|extra|>"]
TEMPLATE = (
    "{% for m in messages %}{{ '<|start|>' + m['role'] + ':' + m['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant:{% endif %}"
)
NAME = "tiny"


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token per byte, after three special ones."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*SPECIALS, *alphabet])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(SPECIALS)
    kind: Any = PreTrainedTokenizerFast
    tokenizer: PreTrainedTokenizerFast = kind(tokenizer_object=backend, eos_token=SPECIALS[0], chat_template=TEMPLATE)
    return tokenizer


def save_tiny(folder: Path, **config: Any) -> Path:
    """Save a random two-layer Llama whose second end token is <|extra|>."""
    tokenizer = byte_tokenizer()
    torch.manual_seed(0)
    network = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=2048, initializer_range=0.4,
            bos_token_id=1, eos_token_id=0, pad_token_id=0, **config,
        )
    )  # fmt: skip
    network.generation_config.eos_token_id = [0, 2]
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def byte_backend() -> Tokenizer:
    backend: Tokenizer = byte_tokenizer().backend_tokenizer
    return backend


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def reference(tiny_path: Path) -> LlamaForCausalLM:
    """The same weights, apart from the engine: what its numbers are compared with."""
    network: LlamaForCausalLM = LlamaForCausalLM.from_pretrained(tiny_path, dtype=torch.float32)
    return network


@pytest.fixture
def model(tiny_path: Path) -> LanguageModel:
    return load_model(str(tiny_path), Device.CPU, Dtype.FLOAT32, None)


@pytest.fixture
def scheduler(model: LanguageModel) -> Iterator[Scheduler]:
    running = Scheduler(model, max_rows=16, max_waiting=64)
    running.start()
    yield running
    running.stop(5.0)
    assert not running.alive


@dataclass
class Client:
    """A plain HTTP client of one server."""

    port: int
    engine: Engine
    open_streams: list[http.client.HTTPConnection] = field(default_factory=list)

    def raw(self, method: str, path: str, body: bytes | None = None) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request(method, path, body)
        self.open_streams.append(connection)
        return connection.getresponse()

    def get(self, path: str) -> tuple[int, Any]:
        response = self.raw("GET", path)
        text = response.read()
        return response.status, json.loads(text) if text else None

    def post(self, path: str, body: Any) -> tuple[int, Any]:
        response = self.raw("POST", path, body if isinstance(body, bytes) else json.dumps(body).encode())
        text = response.read()
        kind = response.headers.get("content-type", "")
        return response.status, json.loads(text) if kind == "application/json" else text.decode()

    def chat(self, **fields: Any) -> dict[str, Any]:
        status, body = self.post("/v1/chat/completions", chat_body(**fields))
        assert status == 200, body
        return dict(body)

    def stream(self, path: str, body: dict[str, Any]) -> list[Any]:
        """All events of a stream, which must end with [DONE]."""
        response = self.raw("POST", path, json.dumps({**body, "stream": True}).encode())
        lines = [line for line in response.read().decode().split("\n\n") if line]
        assert all(line.startswith("data: ") for line in lines)
        assert lines[-1] == "data: [DONE]"
        return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


def chat_body(**fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 8, **fields}


def serve_engine(engine: Engine) -> Iterator[Client]:
    """Run the application on a real socket, in a thread."""
    listener = bind("127.0.0.1", 0)
    config = uvicorn.Config(create_app(engine), log_config=None, http="httptools", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    client = Client(listener.getsockname()[1], engine)
    try:
        while not server.started and thread.is_alive():
            thread.join(0.01)
        yield client
    finally:
        for connection in client.open_streams:
            connection.close()
        server.should_exit = True
        thread.join(10)
        listener.close()
    assert not engine.scheduler.alive


@pytest.fixture(scope="module")
def client(tiny_path: Path) -> Iterator[Client]:
    """A server of the tiny model with four places, shared by a test file."""
    yield from serve_engine(assemble(load_model(str(tiny_path), Device.CPU, Dtype.FLOAT32, None), NAME, max_rows=4))

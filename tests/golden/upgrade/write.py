"""Writes what one version of thinktwice leaves on disk and in Redis: `write.py FOLDER`, run in that version's tree.

A gateway in front of the mock engine answers a few requests, twice; then the files of its home are copied. A part that
the version does not have yet is left out. How the committed folders were made: README.md beside this file.
"""

from __future__ import annotations

import base64
import importlib
import json
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

from router.registry import PolicyRegistry
from tests.support.gateway_process import GatewayProcess
from tests.support.mock_engine import MODEL, MockEngine
from tests.support.redis_server import RedisServer

CHECKED = {"verification": {"checks": [{"type": "numeric", "reference": 4}]}}
WRONG = {"verification": {"checks": [{"type": "numeric", "reference": 5}]}, "reasoning_effort": "high"}


def main(out: Path) -> None:
    """Fill the new folder `out`."""
    with tempfile.TemporaryDirectory() as folder:
        home, redis = Path(folder), RedisServer()
        keys = make_keys(home / "state")
        redis.start()
        try:
            env = {"THINKTWICE_REDIS__URL": redis.url}
            with MockEngine() as engine:
                with GatewayProcess(home, engine.url, env=env) as gateway:
                    first = ask(gateway, keys, "What is 2 + 2?", **CHECKED)
                    ask(gateway, keys, "What is 2 + 3?", **WRONG)
                    feedback(gateway, keys, first["verification"]["group_id"])
                policy = promoted(home)
                compact(home)
                with GatewayProcess(home, engine.url, env=env) as gateway:
                    last = ask(gateway, keys, "What is 3 + 1?", **CHECKED)
                    ask(gateway, keys, "Say hello.")
            cached = cache_of(redis)
        finally:
            redis.stop()
        train_ledger(home / "state", policy, last["verification"]["group_id"])
        calibrate(home / "state")
        out.mkdir(parents=True)
        (out / "cache.json").write_text(json.dumps(cached, indent=1) + "\n")
        (out / "thinktwice.toml").write_text(configuration())
        for name in ("state", "log"):
            shutil.copytree(home / name, out / name, ignore=shutil.ignore_patterns("lock", "*.lock", ".lock"))


def ask(gateway: GatewayProcess, keys: dict[str, str], text: str, **fields: Any) -> dict[str, Any]:
    """One answer."""
    return post(gateway, keys, "/v1/chat/completions", {"model": "champion", "messages": [message(text)], **fields})


def message(text: str) -> dict[str, str]:
    """A user's message."""
    return {"role": "user", "content": text}


def post(gateway: GatewayProcess, keys: dict[str, str], path: str, body: dict[str, Any]) -> dict[str, Any]:
    """A route's answer."""
    gateway.wait_for("/readyz", 200)
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {keys.get('user', 'unused')}"}
    request = urllib.request.Request(gateway.url + path, json.dumps(body).encode(), headers)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as response:
        answer: dict[str, Any] = json.load(response)
    return answer


def part(name: str) -> Any:
    """A module of this version, or None."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        return None


def make_keys(state: Path) -> dict[str, str]:
    """An API key, where there are any."""
    if (files := part("gateway.tenants.key_file")) is None:
        return {}
    roles = part("gateway.tenants.keys").Role
    state.mkdir(parents=True)
    return {"user": files.KeyFile(state).create("acme", roles.USER)[0]}


def feedback(gateway: GatewayProcess, keys: dict[str, str], group_id: str) -> None:
    """A label."""
    if part("gateway.http.feedback") is not None:
        post(gateway, keys, "/v1/feedback", {"group_id": group_id, "outcome": "solved"})


def promoted(home: Path) -> str:
    """A policy that serves, and one that served before it."""
    registry = PolicyRegistry(home / "state")
    adapter = home / "adapter"
    adapter.mkdir()
    for number in (1, 2):
        (adapter / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": number}))
        name = registry.register(adapter, {"base_model": MODEL})
        registry.promote(name, "better", "write.py")
    return name


def compact(home: Path) -> None:
    """Move what is sealed into Parquet."""
    if part("router.log.compaction") is not None:
        config = home / "thinktwice.toml"
        config.write_text(f'[log]\ndir = "{home / "log"}"\nmin_free_bytes = 0\n[state]\ndir = "{home / "state"}"\n')
        subprocess.run([sys.executable, "-m", "router", "log", "compact", "--config", config], check=True)


def cache_of(redis: RedisServer) -> dict[str, str]:
    """Every stored answer, base64, by its name."""
    from redis import Redis  # noqa: PLC0415

    with Redis(port=redis.port) as client:
        names = [name.decode() for name in client.keys("tt:v1:*") if b"idem" not in name]
        return {name: base64.b64encode(client.get(name) or b"").decode() for name in sorted(names)}


def configuration() -> str:
    """Every key that this version knows, with its default."""
    lines: list[str] = []
    for section, values in part("router.settings").Settings().model_dump(mode="json", exclude_none=True).items():
        plain = {key: value for key, value in values.items() if not isinstance(value, dict)}
        lines += [f"[{section}]", *(f"{key} = {json.dumps(value)}" for key, value in plain.items())]
    return "\n".join(lines) + "\n"


def train_ledger(state: Path, policy: str, group_id: str) -> None:
    """A cycle that ended, and one under way."""
    if (ledgers := part("training.ledger")) is None:
        return
    (state / "training").mkdir()
    ledger = ledgers.Ledger(state / "training")
    fields = {"epoch": 0, "policy": policy, "groups": 3, "last_group": group_id, "last_group_at": 1.7e9}
    done = ledgers.Cycle("c1", ts=1.7e9, exit=ledgers.Exit.PROMOTED, why="better", **fields)
    begin = getattr(ledger, "begin", ledger.save)  # which earlier versions did not have
    begin(done)
    ledger.finish(done)
    begin(ledgers.Cycle("c2", epoch=1))


def calibrate(state: Path) -> None:
    """A calibration."""
    if (made := part("tests.support.calibrations")) is not None:
        part("router.calibration.file").save_calibration(state, made.calibration(policy=MODEL))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

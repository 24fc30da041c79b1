"""Two processes on one CPU (gloo) make the policy that one makes, be the model whole in each or sharded over them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from safetensors.torch import load_file

from gateway.local.children import free_port
from tests.support.tiny_policy import tiny_model
from tests.support.workshop import Workshop, workshop
from training.run import METRICS

TIMEOUT_S = 300  # of processes that import torch on cores that others use too
PIPES: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
SHARDED = Path(__file__).parents[2] / "deploy" / "accelerate-fsdp.yaml"

Ended: TypeAlias = tuple[int, str, str]  # exit code, output and complaints


def train_command(shop: Workshop, state_dir: Path, config: Path) -> list[str]:
    given = ["train", "--config", config, "--log-dir", shop.place.log_dir, "--state-dir", state_dir]
    return [*map(str, given), "--model", str(shop.place.model), "--json"]


def run_sharded(shop: Workshop, state_dir: Path, config: Path) -> list[Ended]:
    """How `accelerate launch` ended with the file that is shipped, and what both processes said."""
    launch = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", "--config_file", str(SHARDED)]
    shape = ["--num_processes", "2", "--main_process_port", str(free_port()), "-m", "tests.support.sharded_on_cpu"]
    return ended(
        subprocess.Popen([*launch, *shape, *train_command(shop, state_dir, config)], **PIPES, env=environment())
    )


def run_pair(shop: Workshop, state_dir: Path, config: Path) -> list[Ended]:
    """How the leader and its follower ended."""
    command = [sys.executable, "-m", "router", *train_command(shop, state_dir, config)]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "ACCELERATE_USE_CPU": "1"}
    ranks = [environment(**shared, RANK=rank, LOCAL_RANK=rank) for rank in "01"]
    return ended(*(subprocess.Popen(command, **PIPES, env=rank) for rank in ranks))


def environment(**more: str) -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1"} | more


def ended(*children: subprocess.Popen[str]) -> list[Ended]:
    """How they ended; none is left running when one does not."""
    try:
        told = [child.communicate(timeout=TIMEOUT_S) for child in children]
    finally:
        for child in children:
            child.terminate()  # and not killed: a launcher ends its own
        for child in children:
            child.wait()
    return [(child.returncode, out, err) for child, (out, err) in zip(children, told, strict=True)]


@pytest.mark.parametrize("run", [run_pair, run_sharded])
def test_two_processes_make_what_one_makes(tmp_path: Path, run: Callable[[Workshop, Path, Path], list[Ended]]) -> None:
    shop = workshop(tmp_path)
    shop.log(tiny_model(), 12)
    settings: dict[str, Any] = {
        "objective": "cispo", "rank": 4, "learning_rate": 2e-3, "completions_per_step": 8, "micro_batch_tokens": 14,
        "stop_kl": 100.0,
    }  # fmt: skip
    one = shop.train(**settings)
    config = tmp_path / "thinktwice.toml"
    config.write_text("[training]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items()))
    ended = run(shop, tmp_path / "pair", config)
    assert not any(code for code, _, _ in ended), "".join(err for _, _, err in ended)
    two = json.loads("".join(out for _, out, _ in ended))  # followers print nothing
    assert [step["tokens"] for step in two["steps"]] == [step.tokens for step in one.steps]
    for step, wanted in zip(two["steps"], one.steps, strict=True):
        assert step["loss"] == pytest.approx(wanted.loss, abs=1e-4)
        assert step["kl"] == pytest.approx(wanted.kl, rel=0.05, abs=1e-6)
    found = load_file(tmp_path / "pair" / "policies" / two["policy"] / "adapter_model.safetensors")
    wanted_weights = load_file(shop.registry.get(str(one.policy)).path / "adapter_model.safetensors")
    assert found.keys() == wanted_weights.keys()
    for name, weight in wanted_weights.items():
        assert (found[name] - weight).abs().max() < 1e-4, name
    assert (Path(two["folder"]) / METRICS).read_text().count("\n") == len(one.steps)


def test_followers_end_when_there_is_nothing_to_train_on(tmp_path: Path) -> None:
    shop = workshop(tmp_path)
    shop.place.log_dir.mkdir()
    config = tmp_path / "thinktwice.toml"
    config.write_text("")
    (code, out, err), (other_code, _, other_err) = run_pair(shop, tmp_path / "pair", config)
    assert (code, other_code) == (0, 0), err + other_err
    assert json.loads(out)["policy"] is None

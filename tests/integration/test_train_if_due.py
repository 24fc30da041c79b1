"""`thinktwice train --if-due`: whole cycles on a tiny model, against real and scripted gateways, killed and refused."""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from router.errors import ConfigError, TrainingError
from router.fs import locked, try_lock
from router.log.segments import CORRUPT
from router.policy_history import Action
from router.registry import PolicyRegistry
from tests.support.gateway_process import GatewayProcess
from tests.support.mock_engine import MODEL, MockEngine
from tests.support.scripted_gateway import Respond, ScriptedGateway, completion
from tests.support.tiny_policy import tiny_model
from tests.support.training_log import write_log
from tests.support.workshop import Workshop, mixed_group, workshop
from training import command
from training.ledger import Ledger
from training.page import PAGE

QUESTIONS, GROUPS = 60, 4
NO_ONE = "http://127.0.0.1:9"  # the port is privileged
TIMEOUT_S = 300  # of processes that import torch on cores that others use too
CONFIG = """
[backend]
model = "{model}"
[training]
rank = 4
completions_per_step = 8
due_groups = {groups}
eval_data = "{data}"
gateway_url = "{url}"
"""


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    return workshop(tmp_path)


def flags(shop: Workshop, url: str, model: str = "tiny") -> list[str]:
    """The command's, of a configuration that evaluates at `url`."""
    folder = shop.place.model.parent
    data, file = folder / "heldout.jsonl", folder / "cycle.toml"
    data.write_text("".join(json.dumps({"question": str(n), "answer": n}) + "\n" for n in range(QUESTIONS)))
    file.write_text(CONFIG.format(model=model, groups=GROUPS, data=data, url=url))
    place = shop.place
    given = {"--config": file, "--model": place.model, "--log-dir": place.log_dir, "--state-dir": place.state_dir}
    return ["train", "--if-due", *(str(each) for pair in given.items() for each in pair)]


def run(given: list[str]) -> int:
    """The command, in this process."""
    parser = argparse.ArgumentParser()
    command.register(parser.add_subparsers())
    args = parser.parse_args(given)
    code: int = args.run(args)
    return code


@contextmanager
def started(given: list[str], file_bytes: int = resource.RLIM_INFINITY) -> Iterator[subprocess.Popen[str]]:
    """The command, in a process of its own that can write files of so many bytes, and that is gone at the end."""
    limit = f"resource.setrlimit(resource.RLIMIT_FSIZE, ({file_bytes}, {file_bytes}))"
    become = "os.execv(sys.executable, [sys.executable, '-m', 'router', *sys.argv[1:]])"
    command = [sys.executable, "-c", f"import os, resource, sys; {limit}; {become}", *given]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        try:
            yield child
        finally:
            child.kill()


def how_it_ends(given: list[str], file_bytes: int = resource.RLIM_INFINITY) -> tuple[int, str, str]:
    """Exit code, output and complaints of the command in a process of its own."""
    with started(given, file_bytes) as child:
        out, err = child.communicate(timeout=TIMEOUT_S)
        return child.returncode, out, err


def ledger(shop: Workshop) -> list[dict[str, Any]]:
    """The cycles that ended."""
    return [msgspec.to_builtins(each) for each in Ledger(shop.place.state_dir / "training").cycles()]


def better(parent: str) -> Respond:
    """The champion solves the questions below 30, a policy those below 40."""

    def respond(body: Mapping[str, Any]) -> tuple[int, Mapping[str, Any]]:
        champion = body["model"] == "champion"
        number = int(body["messages"][-1]["content"])
        return completion(parent if champion else body["model"], number < (30 if champion else 40))

    return respond


@dataclass(frozen=True, slots=True)
class Served:
    """What a gateway serves whenever it is asked: the registered policies, beside the base model."""

    registry: PolicyRegistry

    def __iter__(self) -> Iterator[str]:
        return iter(("tiny", "champion", *self.registry.names()))


def gateway_of(shop: Workshop, respond: Respond) -> ScriptedGateway:
    return ScriptedGateway(respond, models=Served(shop.registry))


def wait_until(found: Callable[[], bool], child: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not found():
        assert child.poll() is None, child.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_real_gateway_judges_the_candidate(tmp_path: Path) -> None:
    home = tmp_path / "home"
    shop = workshop(home)
    write_log(shop.place.log_dir, [mixed_group(tiny_model(), number, MODEL, MODEL) for number in range(GROUPS)])
    with MockEngine() as engine, GatewayProcess(home, engine.url) as gateway:
        code, out, err = how_it_ends([*flags(shop, gateway.url, MODEL), "--json"])
    assert (code, err) == (0, "")
    [line] = ledger(shop)
    assert json.loads(out) == line
    [policy] = shop.registry.policies()
    assert (line["policy"], line["exit"], line["verdict"]) == (policy.name, "held", "hold")
    assert (line["n01"], line["n10"], line["pairs"], line["p"]) == (0, 0, QUESTIONS, 1.0)
    assert line["mde"] > 0 and line["why"].startswith("not shown to be better")
    assert (line["parent"], line["groups"], line["drops"], line["last_group"]) == (None, GROUPS, {}, "g003")
    assert line["seconds"].keys() == {"train", "evaluate"}
    assert shop.registry.champion().policy is None
    assert {body["model"] for body in engine.chats() if body.get("cache_salt")} == {MODEL, policy.name}
    assert policy.manifest["cycle"] == line["id"]
    page = (shop.place.state_dir / "training" / policy.manifest["run"] / PAGE).read_text()
    assert "Gate: hold: not shown to be better" in page


def test_not_due_says_how_many_there_are_and_trains_nothing(shop: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    shop.log(tiny_model(), GROUPS - 1)
    damaged = write_log(shop.place.log_dir, [mixed_group(tiny_model(), 50)])
    damaged.write_bytes(damaged.read_bytes()[:-1])
    given = flags(shop, NO_ONE)
    assert run(given) == 0
    said = f"not due: {GROUPS - 1} new trainable groups, {GROUPS} are needed; dropped: damaged_segment 1\n"
    assert capsys.readouterr() == (said, "")
    assert {path.name for path in shop.place.state_dir.rglob("*")} == {"training", "lock", "training.json"}
    assert damaged.exists() and not damaged.with_suffix(CORRUPT).exists()
    assert run([*given, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == {
        "exit": "not_due", "needed": GROUPS, "groups": GROUPS - 1, "drops": {"damaged_segment": 1},
    }  # fmt: skip


def test_without_a_gateway_the_candidate_waits_and_the_next_run_promotes_it(
    shop: Workshop, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.log(tiny_model(), GROUPS)
    with pytest.raises(TrainingError, match=r"no gateway answers at .*stays pending: the next run judges it") as found:
        run(flags(shop, NO_ONE))
    assert "\n" not in str(found.value)
    [policy] = shop.registry.policies()
    assert ledger(shop) == [] and shop.registry.champion().policy is None
    with gateway_of(shop, better("another-model")) as gateway, pytest.raises(TrainingError, match="not tiny: let both"):
        run(flags(shop, gateway.url))
    with gateway_of(shop, better("tiny")) as gateway:
        assert run(flags(shop, gateway.url)) == 0
    assert capsys.readouterr().out.startswith(f"promoted {policy.name}: better: 10 wins to 0")
    [line] = ledger(shop)
    flip = shop.registry.history()[-1]
    assert (flip.action, flip.policy, flip.actor, flip.reason) == (Action.PROMOTE, policy.name, "train", line["why"])
    assert run(flags(shop, NO_ONE)) == 0
    assert "not due: 0 new" in capsys.readouterr().out
    assert len(ledger(shop)) == 1


def test_a_command_killed_in_training_and_in_evaluation_is_made_good(shop: Workshop) -> None:
    shop.log(tiny_model(), 40)
    training = shop.place.state_dir / "training"
    training.mkdir(parents=True)
    with locked(shop.place.state_dir / "registry.lock"), started(flags(shop, NO_ONE)) as child:
        wait_until(lambda: any(training.glob("*/metrics.jsonl")), child)  # and it cannot register what it makes
    assert shop.registry.policies() == () and ledger(shop) == []
    assert Ledger(training).unfinished() is not None

    asked, release = threading.Event(), threading.Event()

    def stalled(body: Mapping[str, Any]) -> tuple[int, Mapping[str, Any]]:
        asked.set()
        release.wait()
        return better("tiny")(body)

    with gateway_of(shop, stalled) as gateway:
        try:
            with started(flags(shop, gateway.url)) as child:
                wait_until(asked.is_set, child)
        finally:
            release.set()
    assert ledger(shop) == [] and shop.registry.champion().policy is None

    with gateway_of(shop, better("tiny")) as gateway:
        assert run(flags(shop, gateway.url)) == 0
    [line] = ledger(shop)
    [policy] = shop.registry.policies()
    assert (line["exit"], line["policy"], shop.registry.champion().policy) == ("promoted", policy.name, policy.name)
    assert line["seconds"]["train"] > 0


@pytest.mark.parametrize("due", [["--if-due"], []])
def test_two_trainers_at_once_are_one(shop: Workshop, due: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    shop.log(tiny_model(), GROUPS)
    (shop.place.state_dir / "training").mkdir(parents=True)
    lock = try_lock(shop.place.state_dir / "training" / "lock")
    assert lock is not None
    given = [each for each in flags(shop, NO_ONE) if each != "--if-due"] + due
    assert run(given) == 75
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert "another `thinktwice train` works on" in err
    os.close(lock)
    assert shop.registry.policies() == ()


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("eval_data", "# eval_data", r"set \[training\] eval_data"),
        ("heldout.jsonl", "nowhere.jsonl", r"cannot read .*nowhere\.jsonl"),
        ('gateway_url = "http', 'gateway_url = "ftp', "not the URL of a gateway"),
        ("due_groups = 4", "due_groups = 0", r"configuration key training\.due_groups"),
        ("rank = 4", "alpha = 0.5", r"configuration key training\.alpha"),
    ],
)
def test_what_a_cycle_needs_is_checked_before_it_begins(shop: Workshop, old: str, new: str, reason: str) -> None:
    shop.log(tiny_model(), GROUPS)
    given = flags(shop, NO_ONE)
    file = Path(given[given.index("--config") + 1])
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(ConfigError, match=reason) as found:
        run(given)
    assert "\n" not in str(found.value)
    assert shop.registry.policies() == () and ledger(shop) == []


def test_a_full_disk_is_one_line_and_a_line_of_the_ledger(shop: Workshop) -> None:
    shop.log(tiny_model(), GROUPS)
    given = flags(shop, NO_ONE)
    file = Path(given[given.index("--config") + 1])
    file.write_text(file.read_text().replace("rank = 4", "rank = 32"))
    code, out, err = how_it_ends(given, file_bytes=17_000)  # the ledger fits, the adapter does not
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "training failed: cannot write the adapter: " in err and "serving is as it was" in err
    [line] = ledger(shop)
    assert line["exit"] == "failed" and "File too large" in line["why"]
    assert shop.registry.policies() == () and shop.registry.champion().policy is None
    code, out, err = how_it_ends(given, file_bytes=64)  # not even a line of metrics
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "the cycle cannot go on: " in err
    assert shop.registry.policies() == () and len(ledger(shop)) == 1


def test_a_training_that_fails_is_one_line_and_a_line_of_the_ledger(shop: Workshop) -> None:
    shop.log(tiny_model(seed=1), GROUPS)
    with pytest.raises(TrainingError, match=r"training failed: the rows of .* serving is as it was") as found:
        run(flags(shop, NO_ONE))
    assert "\n" not in str(found.value)
    [line] = ledger(shop)
    assert (line["exit"], line["policy"], line["verdict"]) == ("failed", None, None)
    assert "are not of the policy they name" in line["why"]
    assert shop.registry.policies() == ()
    assert Ledger(shop.place.state_dir / "training").unfinished() is None

"""`thinktwice train --top-up` through a real gateway: what one request left is completed once, as its tenant's."""

import argparse
import json
import urllib.request
from pathlib import Path

import pytest

from router.enums import Purpose
from tests.support.gateway_process import GatewayProcess
from tests.support.mock_engine import MODEL, MockEngine, Script
from tests.support.workshop import workshop
from training import command

ALL_TRAIN = "[heldout]\nshare = 0\n"
IN_THE_LOG = '[log]\nmode = "sync"\n'  # once it is answered


def test_a_logged_prompt_gets_one_whole_group(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = tmp_path / "home"
    shop = workshop(home)
    check = {"type": "numeric", "reference": "4", "id": "mine"}
    asked = {
        "model": "champion", "messages": [{"role": "user", "content": "2 + 2 = ?"}], "max_tokens": 32,
        "verification": {"checks": [check]},
    }  # fmt: skip
    config = tmp_path / "train.toml"
    with (
        MockEngine({"2 + 2": Script(("Answer: 4",))}) as engine,
        GatewayProcess(home, engine.url, ALL_TRAIN + IN_THE_LOG) as gateway,
    ):
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{gateway.url}/v1/chat/completions", json.dumps(asked).encode(), headers)
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as response:
            first = json.load(response)["verification"]["group_id"]
        config.write_text(f'{ALL_TRAIN}[backend]\nmodel = "{MODEL}"\n[training]\ngateway_url = "{gateway.url}"\n')
        parser = argparse.ArgumentParser()
        command.register(parser.add_subparsers())
        place = shop.place
        given = {"--config": config, "--model": place.model, "--log-dir": place.log_dir, "--state-dir": place.state_dir}
        flags = ["train", "--top-up", "--json", *(str(each) for pair in given.items() for each in pair)]
        told = []
        for _ in range(2):
            args = parser.parse_args(flags)
            assert args.run(args) == 0
            told.append(json.loads(capsys.readouterr().out))
        groups = gateway.groups()
    assert [(each["prompts"], each["samples"], each["ended"]) for each in told] == [(1, 4, "done"), (0, 0, "done")]
    [before, after] = groups
    assert (before.group_id, before.replays, before.purpose, len(before.samples)) == (first, None, Purpose.PROD, 1)
    assert (after.purpose, after.replays, after.tenant, after.train_consent) == ("replay", first, "local", True)
    assert after.policy == MODEL and [each.reward for each in after.samples] == [1.0] * 4
    assert after.verification["checks"] == before.verification["checks"]
    assert after.prompt_hash == before.prompt_hash and after.samples[0].sampling.max_tokens == 32

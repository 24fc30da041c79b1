"""Prices from throughput: exact on an engine that takes a known time a token."""

from __future__ import annotations

import argparse
import asyncio
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.bench.pricing import OperatingPoint, Throughput, measure
from gateway.commands.calibrate_price import register
from router.errors import BackendProtocolError, BackendUnavailable, ConfigError
from router.ports import Draw
from tests.support.mock_engine import MODEL, MockEngine


class TimedEngine:
    """Tokens take a known time of a clock that it owns: a prompt's 1 ms, a cached one's 0.1 ms, an answer's 10 ms."""

    def __init__(self, *, caches: bool = True, counts: bool = True) -> None:
        self.now, self.most, self._running = 0.0, 0, 0
        self._caches, self._counts, self._known = caches, counts, set[str]()

    async def complete(self, draw: Draw) -> Mapping[str, Any]:
        text = draw.prompt.messages[0]["content"]
        known, prompt = self._caches and text in self._known, len(text.split())
        self._known.add(text)
        self._running += 1
        self.most = max(self.most, self._running)
        await asyncio.sleep(0)
        self._running -= 1
        completion = draw.sampling.max_tokens or 0
        self.now += prompt * (0.0001 if known else 0.001) + (completion * 0.01 if completion > 1 else 0.0)
        if not self._counts:
            return {"choices": []}
        details = {"cached_tokens": prompt if known else 0}
        usage = {"prompt_tokens": prompt, "completion_tokens": completion, "prompt_tokens_details": details}
        return {"choices": [], "usage": usage}


POINT = OperatingPoint(concurrency=4, prompt_words=95, answer_tokens=1000, requests=8, rounds=2)


async def test_the_price_is_that_of_the_seconds_which_the_tokens_take() -> None:
    engine = TimedEngine()
    found = await measure([engine], "m", POINT, 0, lambda: engine.now)  # type: ignore[list-item]
    assert found.input.median == pytest.approx(1000) and engine.most == 4
    assert found.output.median == pytest.approx(100, rel=0.01)
    assert found.cached_input is not None and found.cached_input.median == pytest.approx(10_000)
    price = found.price(usd_per_hour=3.6, utilization=0.5)
    assert (price.input, price.cached_input) == (pytest.approx(2.0), pytest.approx(0.2))
    assert price.output == pytest.approx(20.0, rel=0.01)


async def test_an_engine_that_keeps_no_prefixes_has_no_price_for_them() -> None:
    engine = TimedEngine(caches=False)
    found = await measure([engine], "m", POINT, 0, lambda: engine.now)  # type: ignore[list-item]
    assert found.cached_input is None and found.price(1.0, 1.0).cached_input is None


async def test_tokens_that_are_not_counted_have_no_price() -> None:
    engine = TimedEngine(counts=False)
    with pytest.raises(BackendProtocolError, match="no prompt tokens"):
        await measure([engine], "m", POINT, 0, lambda: engine.now)  # type: ignore[list-item]


def test_the_median_round_counts() -> None:
    assert Throughput((1.0, 900.0, 1000.0)).usd_per_million(3.24, 1.0) == pytest.approx(1.0)


def command(home: Path, url: str, *more: str) -> argparse.Namespace:
    file = home / "thinktwice.toml"
    file.write_text(f'[backend]\nurl = "{url}"\n[costs]\nengine_usd_per_hour = 2.0\n')
    parser = argparse.ArgumentParser()
    register(parser.add_subparsers())
    quick = ["--requests", "4", "--rounds", "2", "--prompt-words", "9", "--answer-tokens", "5"]
    return parser.parse_args(["calibrate-price", "--config", str(file), *quick, *more])


def test_what_it_prints_is_an_entry_of_the_price_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with MockEngine() as engine:
        args = command(tmp_path, engine.url)
        assert args.run(args) == 0
        entry = tomllib.loads(capsys.readouterr().out)["prices"][MODEL]
        assert entry["input"] > 0 and entry["output"] > 0
        args = command(tmp_path, engine.url, "--json", "--usd-per-hour", "4")
        assert args.run(args) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["usd_per_hour"] == 4.0 and len(found["tokens_per_second"]["input"]) == 2
    assert found["price"]["output"] == pytest.approx(
        4.0 / 3600 / (sum(found["tokens_per_second"]["output"]) / 2) / 0.5 * 1e6
    )


def test_no_engine_and_no_price_are_one_line(tmp_path: Path) -> None:
    args = command(tmp_path, "http://127.0.0.1:9")
    with pytest.raises(BackendUnavailable):
        args.run(args)
    with pytest.raises(ConfigError, match="at most 1"):
        args = command(tmp_path, "http://127.0.0.1:9", "--utilization", "50")
        args.run(args)
    (tmp_path / "thinktwice.toml").write_text('[backend]\nurl = "http://127.0.0.1:9"\n')
    with pytest.raises(ConfigError, match="engine_usd_per_hour"):
        args.run(args)

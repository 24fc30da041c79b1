"""`thinktwice calibrate-price`: measure the engines and print the price of their tokens."""

from __future__ import annotations

import argparse
import asyncio
import json
from contextlib import AsyncExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from gateway.commands.bench_options import positive
from router.errors import ConfigError, ThinkTwiceError

if TYPE_CHECKING:
    from gateway.bench.pricing import Measured, OperatingPoint, Throughput
    from router.settings import PriceSection, Settings

    Subparsers: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]


def register(subparsers: Subparsers) -> None:
    """Add the command `calibrate-price`."""
    parser = subparsers.add_parser(
        "calibrate-price",
        help="measure what a token costs on machines paid by the hour",
        description="Load the engines with prefill, cached prompts and decoding, and print their entry of the price "
        "table ([prices]). Run it while nothing else uses them (docs/cost.md).",
        epilog="exit codes: 0 printed, 1 the engine did not serve, 2 usage or configuration",
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="configuration file (default: ./thinktwice.toml)")
    parser.add_argument(
        "--usd-per-hour", type=_share, help="all engines' machines (default: [costs] engine_usd_per_hour)"
    )
    parser.add_argument(
        "--utilization", type=_share, default=0.5, help="share of their hours that they are busy (default: %(default)s)"
    )
    parser.add_argument("--concurrency", type=positive, default=16, help="requests at a time (default: %(default)s)")
    parser.add_argument("--requests", type=positive, default=64, help="of each workload a round (default: %(default)s)")
    parser.add_argument("--prompt-words", type=positive, default=400, help="of a prompt (default: %(default)s)")
    parser.add_argument("--answer-tokens", type=positive, default=256, help="at most (default: %(default)s)")
    parser.add_argument("--rounds", type=positive, default=3, help="the median counts (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the prompts (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure and print. Raises `ConfigError` without a price an hour, `BackendError`."""
    from gateway.bench.pricing import OperatingPoint  # noqa: PLC0415  # quick `--help`
    from router.settings import load_settings  # noqa: PLC0415

    settings = load_settings(args.config)
    hourly = settings.costs.engine_usd_per_hour if args.usd_per_hour is None else args.usd_per_hour
    if not hourly:
        raise ConfigError("what do the engines' machines cost? set [costs] engine_usd_per_hour or give --usd-per-hour")
    if args.utilization > 1:
        raise ConfigError(f"--utilization is a share of the hours, at most 1, not {args.utilization:g}")
    point = OperatingPoint(args.concurrency, args.prompt_words, args.answer_tokens, args.requests, args.rounds)
    try:
        model, measured = asyncio.run(_measure(settings, point, args.seed))
    except ExceptionGroup as group:  # of the requests that ran at the same time: one says enough
        found = [error for error in group.exceptions if isinstance(error, ThinkTwiceError)]
        if not found:
            raise
        raise found[0] from group
    price = measured.price(hourly, args.utilization)
    if args.json:
        rounds = {kind: each and each["rounds"] for kind, each in asdict(measured).items()}
        facts = {"model": model, "usd_per_hour": hourly, "utilization": args.utilization, **asdict(point)}
        print(json.dumps(facts | {"tokens_per_second": rounds, "price": price.model_dump()}))
    else:
        print(_entry(model, price, measured, point, f"${hourly:g} an hour, busy {args.utilization:.0%} of it"))
    return 0


async def _measure(settings: Settings, point: OperatingPoint, seed: int) -> tuple[str, Measured]:
    from gateway.adapters.vllm import VllmBackend  # noqa: PLC0415
    from gateway.bench.pricing import measure  # noqa: PLC0415

    section = settings.backend
    async with AsyncExitStack() as stack:
        backends = [
            await stack.enter_async_context(
                VllmBackend(url, api_key=section.api_key, connect_timeout_s=section.connect_timeout_s)
            )
            for url in section.urls
        ]
        model = section.model or (await backends[0].probe()).models[0]
        return model, await measure(backends, model, point, seed)


def _entry(model: str, price: PriceSection, measured: Measured, point: OperatingPoint, terms: str) -> str:
    """The entry of the price table, with how it came about in its comments."""
    today = datetime.now(UTC).date()
    lines = [
        f"# Measured {today}: {terms}; {point.concurrency} requests at a time, {point.prompt_words} words a prompt,",
        f"# {point.answer_tokens} tokens an answer at most; tokens a second, median of {point.rounds} rounds [range]:",
        f"# input {_said(measured.input)}, output {_said(measured.output)},",
        f"# cached input {_said(measured.cached_input)}",
        f"[prices.{json.dumps(model)}]",
        f"input = {price.input:.6g}",
        f"output = {price.output:.6g}",
    ]
    return "\n".join(lines if price.cached_input is None else [*lines, f"cached_input = {price.cached_input:.6g}"])


def _said(rate: Throughput | None) -> str:
    return "not said" if rate is None else f"{rate.median:,.0f} [{min(rate.rounds):,.0f}, {max(rate.rounds):,.0f}]"


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError("has to be above 0")
    return value

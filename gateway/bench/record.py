"""The benchmark `record`: several samples of every row, kept whole as a bank for `simulate` and `calibrate`."""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import IO, Any

import openai
from rich.console import Console
from rich.progress import Progress

from gateway.bench.session import DEFAULT_SYSTEM
from gateway.client import EVALUATION, connect_async, error_code, one_line_errors
from router.cli import EXIT_FAILED, EXIT_INTERRUPTED
from router.errors import ConfigError
from router.questions import Question, load_questions


def run(args: argparse.Namespace) -> int:
    """Record, and return the exit code. Raises `ConfigError`, and `ThinkTwiceError` without a gateway."""
    system = DEFAULT_SYSTEM if args.system is None else args.system
    rows = load_questions(args.data, args.limit, system)
    for row in rows:
        if not row.verification.get("checks"):
            raise ConfigError(f"{args.data}:{row.line}: a bank needs the checks themselves: write them into the row")
    try:
        with args.out.open("x", encoding="utf-8") as file:
            recorded, interrupted = _record(args, rows, file)
    except OSError as error:
        raise ConfigError(f"cannot write {args.out} ({error.strerror}): give another --out") from error
    print(f"recorded {recorded} of {len(rows)} problems, {args.samples} samples each, in {args.out}", file=sys.stderr)
    if interrupted:
        return EXIT_INTERRUPTED
    return 0 if recorded else EXIT_FAILED


def _record(args: argparse.Namespace, rows: Sequence[Question], file: IO[str]) -> tuple[int, bool]:
    """How many problems were written whole, and whether Ctrl-C came."""
    recorded = 0
    console = Console(stderr=True)
    progress = Progress(console=console, disable=not console.is_terminal)
    bar = progress.add_task("recording", total=len(rows))

    async def work() -> None:
        nonlocal recorded
        async with connect_async(args.url) as client:
            with one_line_errors(args.url):
                await client.models.list()
            async for lines in _drawn(client, args, rows):
                progress.advance(bar)
                file.writelines(lines)
                recorded += bool(lines)

    try:
        with progress:
            asyncio.run(work())
    except KeyboardInterrupt:
        return recorded, True
    return recorded, False


async def _drawn(
    client: openai.AsyncOpenAI, args: argparse.Namespace, rows: Sequence[Question]
) -> AsyncIterator[list[str]]:
    """The lines of each row as it is done, in no order; none when one of its requests failed."""
    places = asyncio.Semaphore(args.concurrency)

    async def one(row: Question) -> list[str]:
        seeds = random.Random(f"{args.seed}/{row.line}").sample(range(2**31), args.samples)
        try:
            drawn = await asyncio.gather(*(_sample(client, args, row, seed, places) for seed in seeds))
        except openai.APIError as error:
            print(f"{args.data}:{row.line}: {error_code(error)}, left out", file=sys.stderr)
            return []
        return [json.dumps({"id": str(row.line), "k": k, **sample}) + "\n" for k, sample in enumerate(drawn)]

    for done in asyncio.as_completed([one(row) for row in rows]):
        yield await done


async def _sample(
    client: openai.AsyncOpenAI, args: argparse.Namespace, row: Question, seed: int, places: asyncio.Semaphore
) -> Mapping[str, Any]:
    """One sample, as a request of its own."""
    checks = list(row.verification["checks"])
    body = {"verification": {"checks": checks, "samples": {"min": 1, "max": 1}}, "top_k": -1, "min_p": 0.0}
    async with places:
        completion = await client.chat.completions.create(
            model=args.model,
            messages=list(row.messages),  # type: ignore[arg-type]  # as the file has them
            temperature=args.temperature,
            top_p=1.0,
            seed=seed,
            max_tokens=args.max_tokens,
            logprobs=True,
            extra_headers=dict(EVALUATION),
            extra_body=body,
        )
    [choice], usage = completion.choices, completion.usage
    return {
        "messages": list(row.messages),
        "checks": checks,
        "text": choice.message.content or "",
        "finish_reason": choice.finish_reason,
        "prompt_tokens": usage.prompt_tokens if usage else 0,
        "completion_tokens": usage.completion_tokens if usage else 0,
        "logprobs": list(_logprobs(choice.logprobs)),
        "policy": completion.model,
    }


def _logprobs(found: Any) -> Iterator[float]:
    for token in (found.content or ()) if found else ():
        yield token.logprob

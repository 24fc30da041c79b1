"""What a token costs on machines that are paid by the hour: throughput at one operating point, in three workloads.

New prompts with one token of answer load the prefill, the same prompts again the prefix cache, and short prompts with
long answers the decoding. Each fills the engines with the same number of requests at a time, so that the dollars of a
second divided by its tokens are the price of each kind. A machine that is busy for half of its hours costs twice that:
`utilization`.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle

from router.domain import Prompt, Sampling, Tokens
from router.errors import BackendProtocolError
from router.fold import completion_tokens
from router.ports import Backend, Draw
from router.settings import PriceSection

_WORDS = ("amber", "basin", "cedar", "delta", "ember", "fjord", "grove", "harbor", "inlet", "jetty", "karst", "lagoon")
_TIMEOUT_S = 300.0
_CACHED_SHARE = 0.5  # of a repeated prompt's tokens; below, the engine keeps no prefixes worth a price


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """The load at which prices hold: requests at a time, words of a prompt, tokens of an answer."""

    concurrency: int = 16
    prompt_words: int = 400
    answer_tokens: int = 256
    requests: int = 64  # of each workload, each round
    rounds: int = 3


@dataclass(frozen=True, slots=True)
class Throughput:
    """Tokens a second in each round."""

    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Of the rounds."""
        return statistics.median(self.rounds)

    def usd_per_million(self, usd_per_hour: float, utilization: float) -> float:
        """The price of a million such tokens on a machine of that price, busy for that share of its hours."""
        return usd_per_hour / (self.median * 3600) / utilization * 1_000_000


@dataclass(frozen=True, slots=True)
class Measured:
    """Tokens a second by kind; `cached_input` is None where the engine does not say that it kept the prompts."""

    input: Throughput
    output: Throughput
    cached_input: Throughput | None

    def price(self, usd_per_hour: float, utilization: float) -> PriceSection:
        """The price table's entry."""
        kinds = (self.input, self.output, self.cached_input)
        input_, output, cached = (each and each.usd_per_million(usd_per_hour, utilization) for each in kinds)
        return PriceSection(input=input_ or 0.0, output=output or 0.0, cached_input=cached)


async def measure(
    backends: Sequence[Backend],
    model: str,
    point: OperatingPoint,
    seed: int,
    clock: Callable[[], float] = time.perf_counter,
) -> Measured:
    """Drive the engines with all three workloads, in every round. Raises `BackendError`, also for an engine that
    counts no tokens.
    """
    load, rng = _Load(backends, model, point, clock), random.Random(seed)
    seen: dict[str, list[float]] = {"input": [], "cached_input": [], "output": []}
    for _ in range(point.rounds):
        prompts = [_prompt(rng, point.prompt_words) for _ in range(point.requests)]
        tokens, seconds = await load.run(prompts, 1)
        seen["input"].append(_rate(tokens.prompt, seconds, "prompt"))
        tokens, seconds = await load.run(prompts, 1)
        if tokens.cached_prompt > _CACHED_SHARE * tokens.prompt:
            seen["cached_input"].append(_rate(tokens.cached_prompt, seconds, "cached"))
        short = [_prompt(rng, 8) for _ in range(point.requests)]
        tokens, seconds = await load.run(short, point.answer_tokens)
        seen["output"].append(_rate(tokens.completion, seconds, "completion"))
    found = {kind: Throughput(tuple(rates)) for kind, rates in seen.items()}
    cached = found["cached_input"]
    return Measured(found["input"], found["output"], cached if len(cached.rounds) == point.rounds else None)


@dataclass(frozen=True, slots=True)
class _Load:
    """Requests to the engines in turn, `concurrency` at a time."""

    backends: Sequence[Backend]
    model: str
    point: OperatingPoint
    clock: Callable[[], float]

    async def run(self, prompts: Sequence[str], max_tokens: int) -> tuple[Tokens, float]:
        """All tokens of these prompts, and the seconds they took."""
        turn, began = asyncio.Semaphore(self.point.concurrency), self.clock()

        async def one(backend: Backend, text: str) -> Tokens:
            sampling = Sampling(temperature=1.0, max_tokens=max_tokens)
            prompt = Prompt(({"role": "user", "content": text},), {}, sampling)
            async with turn:
                return completion_tokens(
                    await backend.complete(Draw(prompt, sampling, self.model, timeout_s=_TIMEOUT_S))
                )

        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(one(backend, text))
                for backend, text in zip(cycle(self.backends), prompts, strict=False)
            ]
        return sum((task.result() for task in tasks), Tokens()), self.clock() - began


def _prompt(rng: random.Random, words: int) -> str:
    """A prompt that no prefix cache knows: it begins with what no other has."""
    return f"{rng.getrandbits(64):x} Write a long story with: {' '.join(rng.choices(_WORDS, k=words))}"


def _rate(tokens: int, seconds: float, kind: str) -> float:
    if not tokens:
        raise BackendProtocolError(f"the engine counts no {kind} tokens in `usage`: its tokens cannot be priced")
    return tokens / seconds

"""An engine that gives the recorded samples of a bank, those of one draw side by side, a token each at a time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from router.domain import CheckResult, CheckSpec, EngineInfo, Sample
from router.ports import Draw
from router.simulation.problem import Problem
from tests.support.fakes import ENGINE, numeric_only


@dataclass(slots=True)
class BankBackend:
    """Every prompt gets its samples in recorded order."""

    problems: Mapping[str, Problem]  # by the text of the last user message
    degraded: str | None = None
    _given: Counter[str] = field(default_factory=Counter)

    async def complete(self, draw: Draw) -> Mapping[str, Any]:
        """All samples of the draw."""
        samples = self._next(draw)
        choices = [_choice(index, sample, "message", _length(sample)) for index, sample in enumerate(samples)]
        return {"model": draw.model, "choices": choices, "usage": self._usage(draw, samples)}

    async def stream(self, draw: Draw) -> AsyncGenerator[Mapping[str, Any]]:
        """One token of each running sample a step; the text comes with the last."""
        samples = self._next(draw)
        prompt = self._usage(draw, samples)["prompt_tokens"]
        yield {"model": draw.model, "prompt_token_ids": [1] * prompt, "choices": []}
        for step in range(1, max(map(_length, samples)) + 1):
            for index, sample in enumerate(samples):
                if step <= _length(sample):
                    yield {"model": draw.model, "choices": [_choice(index, sample, "delta", step)]}
            await asyncio.sleep(0.002)
        yield {"model": draw.model, "choices": [], "usage": self._usage(draw, samples)}

    async def load_policy(self, name: str, folder: Path) -> None:
        """It has every policy."""

    async def probe(self) -> EngineInfo:
        """The fixed engine."""
        return ENGINE

    async def alive(self) -> bool:
        """Always."""
        return True

    def _next(self, draw: Draw) -> Sequence[Sample]:
        asked = draw.prompt.last_user_text
        first = self._given[asked]
        self._given[asked] += draw.n
        return [each.sample for each in self.problems[asked].samples[first : first + draw.n]]

    def _usage(self, draw: Draw, samples: Sequence[Sample]) -> dict[str, int]:
        prompt = self.problems[draw.prompt.last_user_text].prompt_tokens
        return {"prompt_tokens": prompt, "completion_tokens": sum(map(_length, samples))}


class NumericVerifier:
    """Decides `numeric` checks in this process."""

    down: tuple[str, ...] = ()

    async def verify(self, checks: Sequence[CheckSpec], text: str) -> tuple[CheckResult, ...]:
        """One result a check."""
        return await numeric_only(checks, text)

    def available(self, checks: Sequence[CheckSpec]) -> bool:
        """Always."""
        return True

    def idle(self) -> bool:
        """Always."""
        return True


def _length(sample: Sample) -> int:
    return len(sample.token_ids or ())


def _choice(index: int, sample: Sample, part: str, step: int) -> dict[str, Any]:
    """A whole message, or the delta of one token of which the last brings the text."""
    ended = step == _length(sample)
    at = slice(0, step) if part == "message" else slice(step - 1, step)
    logprobs = [{"token": "x", "logprob": value} for value in (sample.logprobs or ())[at]]
    return {
        "index": index,
        part: {"role": "assistant", "content": sample.text if ended else ""},
        "token_ids": list((sample.token_ids or ())[at]),
        "logprobs": {"content": logprobs},
        "finish_reason": sample.finish_reason if ended else None,
    }

"""A bank: problems with the samples that a model gave to each, read from JSON Lines, one sample a line."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from router.domain import CheckSpec, Prompt, Sample
from router.errors import ConfigError, InvalidRequest
from router.questions import reference_check
from router.verify.limits import MAX_TIMEOUT_S
from router.verify.spec import parse_checks

_STEPS = {"type": "arithmetic_steps", "id": "steps"}  # no oracle: the evidence of a process check for the vote


@dataclass(frozen=True, slots=True)
class BankRow:
    """One recorded problem: its checks and its samples in the order they were drawn."""

    id: str
    prompt: Prompt
    checks: tuple[CheckSpec, ...]
    prompt_tokens: int
    samples: tuple[Sample, ...]


@dataclass(slots=True)
class _Group:
    first: Mapping[str, Any]
    line: int
    samples: dict[int, Sample] = field(default_factory=dict)


def load_bank(path: Path) -> tuple[BankRow, ...]:
    """All problems of a bank, each with the same number of samples.

    A line holds `id`, `k` (sample index), `text`, `finish_reason`, `prompt_tokens`, `completion_tokens`, and either
    `question` with `answer`, or `messages` with `checks`; `logprobs` and `token_ids` are used where they are given.
    Raises `ConfigError` with file, line and cure.
    """
    groups: dict[str, _Group] = {}
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    _add(groups, line, f"{path}:{number}", number)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the bank {path}: {error}") from error
    if not groups:
        raise ConfigError(f"the bank {path} is empty: record one with `thinktwice bench record`")
    rows = tuple(_row(name, group, path) for name, group in groups.items())
    sizes = {len(row.samples) for row in rows}
    if len(sizes) > 1:
        raise ConfigError(
            f"{path}: problems have {min(sizes)} to {max(sizes)} samples: a bank holds equally many of each"
        )
    return rows


def _add(groups: dict[str, _Group], line: str, where: str, number: int) -> None:
    try:
        data = json.loads(line)
        if not isinstance(data, dict):
            raise ValueError("not an object")
        index, sample = data["k"], _sample(data)
        group = groups.setdefault(str(data["id"]), _Group(data, number))
        if index in group.samples:
            raise ValueError(f"sample {index} of {data['id']!r} comes twice")
        group.samples[index] = sample
    except json.JSONDecodeError as error:
        raise ConfigError(f"{where}: not JSON ({error.msg}): write one sample on each line") from error
    except KeyError as error:
        raise ConfigError(f"{where}: the field {error} is missing: record the bank again") from error
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {error}: record the bank again") from error


def _sample(data: Mapping[str, Any]) -> Sample:
    """Raises `KeyError`, `TypeError` or `ValueError`."""
    index, text, tokens = data["k"], data["text"], data["completion_tokens"]
    if not isinstance(index, int) or not isinstance(text, str) or not isinstance(tokens, int) or tokens < 0:
        raise ValueError("`k` and `completion_tokens` are whole numbers, `text` is text")
    logprobs = data.get("logprobs")
    if logprobs is not None and not all(isinstance(each, int | float) and math.isfinite(each) for each in logprobs):
        raise ValueError("`logprobs` are numbers")
    return Sample(
        index=index,
        message={"role": "assistant", "content": text},
        finish_reason=data["finish_reason"],
        sampling=Prompt(()).sampling,
        model="",
        token_ids=tuple(data.get("token_ids") or range(tokens)),
        logprobs=tuple(logprobs) if logprobs else None,
    )


def _row(name: str, group: _Group, path: Path) -> BankRow:
    where, data = f"{path}:{group.line}", group.first
    try:
        messages = data["messages"] if "messages" in data else [{"role": "user", "content": data["question"]}]
        given = data["checks"] if "checks" in data else [reference_check(data["answer"])]
        checks = parse_checks([*given, _STEPS], where="checks", default_timeout_s=MAX_TIMEOUT_S)
        prompt_tokens = int(data["prompt_tokens"])
    except KeyError as error:
        raise ConfigError(f"{where}: the field {error} is missing: record the bank again") from error
    except (InvalidRequest, TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {error}") from error
    if sorted(group.samples) != list(range(len(group.samples))):
        raise ConfigError(f"{where}: the samples of {name!r} are not numbered from 0 without a gap: record it again")
    samples = tuple(group.samples[index] for index in range(len(group.samples)))
    return BankRow(name, Prompt(tuple(messages)), checks, prompt_tokens, samples)

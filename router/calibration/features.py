"""What a calibration reads: cheap features of a prompt before any sample, and what a sample shows after it.

Plain Python, since serving computes them for every request.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import blake2b
from math import log1p, sqrt
from zlib import crc32

from router.domain import CheckResult, Prompt, Sample
from router.enums import Outcome, TaskKind

FEATURES_VERSION = 2  # a calibration fitted on other features does not load
BUCKETS = 256  # of hashed words; a power of two
_END, _END_WORDS = 512, 24  # characters and words at either end of the last user message; bounds a decision's time
_DIGIT, _LETTERS = re.compile(rb"\d"), b":"  # digits, signs and brackets sort before the letters
_TAIL_SHARE, _LOW_SHARE = 4, 10  # the last quarter of a sample, its least likely tenth

PROMPT_FEATURES = (
    "characters",
    "numbers",
    "longest number",
    "distinct numbers",
    "sentences",
    "word length",
    "messages",
)
SIGNALS = ("mean logprob", "tail logprob", "lowest logprobs", "tokens")
STEPS = ("read", "holding", "wrong", "none")


@dataclass(frozen=True, slots=True)
class PromptFeatures:
    """`dense` as named by `PROMPT_FEATURES`; `hashed` are the buckets that occur, each of weight `scale`.

    `history` names whose past the prompt shares, from the whole to the part: its profile's, its tenant's in it.
    """

    dense: tuple[float, ...]
    hashed: tuple[int, ...]
    scale: float
    history: tuple[str, str]


def prompt_features(prompt: Prompt, kind: TaskKind, profile: str | None = None, tenant: str = "") -> PromptFeatures:
    """Text statistics of the last user message and its hashed words and word pairs, with the task and its history.

    Of a long message both ends are read, 512 characters and 24 words of each. `tenant` is a digest (`tenant_digest`).
    """
    text = prompt.last_user_text
    read = text if len(text) <= 2 * _END else f"{text[:_END]} {text[-_END:]}"
    words = _end_words(read.casefold().encode("utf-8", "replace"))
    numbers = [word for word in words if word < _LETTERS and _DIGIT.search(word)]
    dense = (
        log1p(len(text)),
        log1p(len(numbers)),
        float(max(map(len, numbers), default=0)),
        log1p(len(set(numbers))),
        log1p(read.count(".") + read.count("?")),
        len(read) / (read.count(" ") + 1.0),
        log1p(len(prompt.messages)),
    )
    hashes = [*map(crc32, words)]
    # A checksum goes on from that of its beginning: a pair is hashed as its words written together.
    pairs = map(crc32, words[1:], hashes)
    lowest = BUCKETS - 1
    hashed = tuple({found & lowest for found in (*hashes, *pairs, crc32(kind.value.encode()))})
    named = profile or ""
    return PromptFeatures(dense, hashed, 1.0 / sqrt(len(hashed)), (named, f"{named} {tenant}"))


def _end_words(text: bytes) -> list[bytes]:
    """The first and the last words of a text, all of a short one."""
    words = text.split(None, _END_WORDS)
    if len(words) > _END_WORDS:
        words[_END_WORDS:] = words[_END_WORDS].rsplit(None, _END_WORDS)[-_END_WORDS:]
    return words


def tenant_digest(tenant: str, salt: bytes) -> str:
    """What a calibration names a tenant by: keyed BLAKE2b of its name, 16 hex digits."""
    return blake2b(tenant.encode(), key=salt, person=b"calibration", digest_size=8).hexdigest()


def signals(sample: Sample) -> tuple[float, ...] | None:
    """Log-probabilities and length of one sample, as named by `SIGNALS`; None without log-probabilities."""
    logprobs = [value for value in sample.logprobs or () if value is not None]
    if not logprobs:
        return None
    tail = logprobs[-max(len(logprobs) // _TAIL_SHARE, 1) :]
    lowest = sorted(logprobs)[: max(len(logprobs) // _LOW_SHARE, 1)]
    return (
        sum(logprobs) / len(logprobs),
        sum(tail) / len(tail),
        sum(lowest) / len(lowest),
        log1p(len(logprobs)),
    )


def steps(result: CheckResult) -> tuple[float, ...] | None:
    """What a process check found, as named by `STEPS`, each in [0, 1]; None where that is not known.

    Of all steps: the share that it could read (its coverage), and the share that it read and that holds; whether one
    that it read does not hold, which is enough to spoil an answer; whether there is no step at all. Not known are
    checks that did not run to their end, and those of records older than the coverage.
    """
    if result.coverage is None:
        return (0.0, 0.0, 0.0, 1.0) if result.outcome is Outcome.SKIPPED else None
    holds = 0.0 if result.score is None else result.score
    return (result.coverage, result.coverage * holds, float(result.coverage > 0 and holds < 1.0), 0.0)

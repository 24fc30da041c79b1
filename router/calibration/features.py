"""What a calibration reads: cheap features of a prompt before any sample, and a sample's own signals after it.

Plain Python, since serving computes them for every request.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import log1p, sqrt
from zlib import crc32

from router.domain import Prompt, Sample
from router.enums import TaskKind

FEATURES_VERSION = 1  # a calibration fitted on other features does not load
BUCKETS = 256  # of hashed words
_MAX_CHARS, _MAX_WORDS = 4096, 64  # of the last user message; bounds the time of a decision
_DIGIT = re.compile(r"\d")
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


@dataclass(frozen=True, slots=True)
class PromptFeatures:
    """`dense` as named by `PROMPT_FEATURES`; `hashed` are the buckets that occur, each of weight `scale`."""

    dense: tuple[float, ...]
    hashed: tuple[int, ...]
    scale: float


def prompt_features(prompt: Prompt, kind: TaskKind, profile: str | None = None) -> PromptFeatures:
    """Text statistics of the last user message and its hashed words and word pairs, with the task and the profile.

    The profile is hashed like a word: what its prompts came to in the log is a weight of its own.
    """
    text = prompt.last_user_text[:_MAX_CHARS]
    words = text.casefold().split(None, _MAX_WORDS)[:_MAX_WORDS]
    numbers = [word for word in words if not word.isalpha() and _DIGIT.search(word)]
    dense = (
        log1p(len(text)),
        log1p(len(numbers)),
        float(max(map(len, numbers), default=0)),
        log1p(len(set(numbers))),
        log1p(text.count(".") + text.count("?")),
        len(text) / (len(words) + 1.0),
        log1p(len(prompt.messages)),
    )
    terms = [word.encode() for word in words]
    hashes = list(map(crc32, terms))
    # A checksum goes on from that of its beginning, so that pairs of words are hashed without being put together.
    pairs = map(crc32, [b" " + term for term in terms[1:]], hashes)
    labels = [crc32(f"task={kind.value}".encode()), crc32(f"profile={profile}".encode())]
    hashed = tuple({found % BUCKETS for found in (*hashes, *pairs, *labels)})
    return PromptFeatures(dense, hashed, 1.0 / sqrt(len(hashed)))


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

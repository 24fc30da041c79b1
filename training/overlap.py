"""Which logged prompts nearly repeat a held-out one, and so would leak it into training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from router.domain import content_text
from router.heldout import normalise
from router.questions import load_questions
from router.settings import TrainingSection

WORDS = 5  # of a run
SHARE = 0.6  # of a prompt's runs, those of templates apart, from which it is a repeat
TEMPLATE = 3  # held-out prompts with the same run: it is their template's, and says nothing


Messages: TypeAlias = Sequence[Mapping[str, Any]]


@dataclass(slots=True)
class Heldout:
    """The held-out prompts: their texts, and the runs of `WORDS` words of each one's last message.

    After the decontamination of GPT-3 (arXiv 2005.14165, appendix C), which drops what shares a run of 8 to 13 words
    and ignores runs that many documents have; prompts are short and often of one template, so here a share of
    the runs must be the same. Memory: about 150 bytes a run, which is a word of a held-out prompt.
    """

    _texts: set[int] = field(default_factory=set)
    _runs: Counter[int] = field(default_factory=Counter)  # in how many prompts

    def add(self, messages: Messages) -> None:
        """Hold out a prompt."""
        prompt, question = _texts(messages)
        if prompt not in self._texts:
            self._texts.add(prompt)
            self._runs.update(_runs(question))

    def repeated_by(self, messages: Messages) -> bool:
        """Whether this prompt is one of them, or nearly."""
        if not self._texts:
            return False
        prompt, question = _texts(messages)
        runs = _runs(question)
        known = self._runs.keys() & runs
        template = sum(self._runs[run] >= TEMPLATE for run in known)
        shared = len(known) - template
        near = shared > 0 and shared >= SHARE * (len(runs) - template)
        return near or prompt in self._texts


def evaluation_prompts(config: TrainingSection) -> tuple[Messages, ...]:
    """The held-out questions that cycles are judged on. Raises `ConfigError` when their file cannot be used."""
    return () if config.eval_data is None else tuple(each.messages for each in load_questions(config.eval_data))


def _texts(messages: Messages) -> tuple[int, str]:
    """The whole prompt, hashed, and its last message: what came before it, such as examples, many prompts may share.

    Hashes are of the process's own secret: nobody can write two texts that collide, and none leaves the process.
    """
    question = _text(messages[-1:])
    return hash(question if len(messages) == 1 else _text(messages)), question


def _text(messages: Messages) -> str:
    return normalise(" ".join(content_text(message.get("content")) for message in messages))


def _runs(question: str) -> set[int]:
    words = question.split(" ")
    return set(map(hash, zip(*(words[at:] for at in range(WORDS)), strict=False)))

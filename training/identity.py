"""Were the logged rows drawn from the policy that is about to be trained? Checked before a token of them is used."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError

from router.errors import ConfigError
from router.fingerprint import FINGERPRINT_MESSAGES, fingerprint
from training.drift import k3
from training.groups import Group
from training.model import acting_as
from training.rows import Row

ROWS_PER_SOURCE = 8


def template_fingerprint(tokenizer: Any) -> str:
    """SHA-256 of the token ids of a fixed conversation, joined by commas; tells tokenizers and chat templates apart.

    Raises `ConfigError` when the template cannot render the conversation.
    """
    try:
        text = tokenizer.apply_chat_template(
            [dict(message) for message in FINGERPRINT_MESSAGES], add_generation_prompt=True, tokenize=False
        )
    except (TemplateError, ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"the model's chat template cannot render the check conversation: {error}") from error
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return fingerprint(ids)


@dataclass(frozen=True, slots=True)
class Identity:
    """What recomputing some rows of one policy from one source found."""

    policy: str
    source: str
    rows: int
    kl: float  # mean over their tokens, in nats


@torch.no_grad()
def check_identity(policy: Any, groups: Sequence[Group], older: Mapping[str, Path | None]) -> list[Identity]:
    """Recompute the log-probabilities of some rows of every source with the policy that should have logged them.

    That is `policy`, or one of the `older` ones, which are named with the folders of their adapters (None: no adapter).
    Another adapter, template, tokenizer, temperature or logprobs mode, a quantised cache or a stale prefix cache each
    leave a mean KL far above rounding; verl's usual limit is 0.001 to 0.01 nats a token.
    """
    by_source: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for group in groups:
        by_source[group.policy, group.source] += group.rows
    policy.eval()
    found = []
    for (name, source), rows in sorted(by_source.items()):
        chosen = rows[:: -(-len(rows) // ROWS_PER_SOURCE)]
        with acting_as(policy, older[name]) if name in older else nullcontext():
            gaps = torch.cat([logprob_gaps(policy, row) for row in chosen])
        found.append(Identity(name, source, len(chosen), float(k3(gaps.double()).mean())))
    return found


def logprob_gaps(policy: Any, row: Row) -> torch.Tensor:
    """How far the policy's log-probabilities are above the logged ones, for the row's own actions, float32."""
    return (logprobs_of(policy, row) - torch.tensor(row.logprobs))[torch.tensor(row.mask)]


def logprobs_of(policy: Any, row: Row) -> torch.Tensor:
    """The policy's log-probabilities of the completion tokens, float32 [T] on the CPU."""
    ids = torch.tensor([[*row.prompt_ids, *row.completion_ids]], device=policy.device)
    logits = policy(input_ids=ids).logits[0, len(row.prompt_ids) - 1 : -1].float()
    chosen = torch.tensor(row.completion_ids, device=policy.device).unsqueeze(1)
    logprobs: torch.Tensor = logits.log_softmax(-1).gather(1, chosen).squeeze(1).cpu()
    return logprobs

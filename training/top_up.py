"""Logged prompts drawn again by the champion, as whole groups of a fixed size.

A group is of one policy, so the samples that a logged one lacks are not added to it: its prompt gets a new group. The
first one stays where it is. That it ended early depended on its samples, so leaving it out would be a selection by
outcome; a baseline that looks only at earlier samples is unbiased without the missing ones (`advantage.predictable`).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from hashlib import blake2b
from typing import Any

import openai

from router.enums import Purpose
from router.errors import TrainingError
from router.guardrails import ALWAYS_ID
from router.log.groups import OnCorrupt, Tally, read_stored, whole
from router.records import GroupHead, GroupRecord
from router.sampling import constrained
from router.settings import Mode
from training.dataset import Accepts, group_fault, held_out
from training.groups import group_of
from training.http_client import NoAnswer, ask, connect, served_names
from training.place import Place

_CONCURRENCY = 4
_FAILURES_IN_A_ROW = 2 * _CONCURRENCY  # one incident can take all that are under way: the next ones have to fail too
_PLAIN = {"temperature": 1.0, "top_p": 1.0, "top_k": -1, "min_p": 0.0}  # the policy's own distribution: it can train


class Ended(StrEnum):
    """Why no more prompts were drawn."""

    DONE = "done"
    BUDGET = "budget"
    BUSY = "busy"  # the gateway cut groups short for its other requests


@dataclass(frozen=True, slots=True)
class Wanted:
    """A prompt to draw again: the SDK call's arguments, the policy that has to answer, the tokens it may take."""

    group_id: str
    policy: str
    body: Mapping[str, Any]
    tokens: int


@dataclass(slots=True)
class Drawn:
    """What was drawn. `errors` counts the requests that failed, by their short names.

    Nobody says what a failed request took, so the most that it may take is spent: `lost`.
    """

    prompts: int = 0
    samples: int = 0
    tokens: int = 0
    lost: int = 0  # tokens
    left: int = 0  # prompts that still want a group
    errors: Counter[str] = field(default_factory=Counter)
    ended: Ended = Ended.DONE


def wanted(place: Place, accepts: Accepts, samples: int, most: int) -> list[Wanted]:
    """The newest `most` prompts that may train and have no group of `samples` rows of the champion, newest first.

    A prompt that was drawn again for this champion is not drawn again, whatever its checks made of it. Raises as
    `training.dataset.trainable`.
    """
    any_policy = replace(accepts, mode=Mode.RFT, template_fingerprint=None)
    tally, held = Tally(), held_out(place.log_dir, any_policy)
    newest: dict[bytes, tuple[float, str]] = {}
    full: set[bytes] = set()
    for head, record in _records(place, tally, lambda head: group_fault(head, any_policy) is None):
        key = blake2b(f"{head.tenant}\0{head.prompt_hash}".encode(), digest_size=16).digest()
        if _is_full(record, accepts, samples):
            full.add(key)
        elif _can_be_drawn(record) and not held.repeated_by(record.messages):
            newest[key] = max(newest.get(key, (0.0, "")), (head.created_at, head.group_id))
    chosen = sorted((made for key, made in newest.items() if key not in full), reverse=True)[:most]
    ids = {group_id for _, group_id in chosen}
    known = {head.group_id: record for head, record in _records(place, tally, lambda head: head.group_id in ids)}
    return [_as_wanted(known[each], accepts, samples) for _, each in chosen if each in known]


def _records(place: Place, tally: Tally, keep: Callable[[GroupHead], bool]) -> Iterator[tuple[GroupHead, GroupRecord]]:
    """Also those of segments still written: a run after a killed one has to see what that one drew."""
    for stored, head in read_stored(place.log_dir, include_open=True, on_corrupt=OnCorrupt.SKIP, tally=tally):
        if keep(head) and (record := whole(stored, tally)) is not None:
            yield head, record


def _is_full(record: GroupRecord, accepts: Accepts, samples: int) -> bool:
    if record.policy != (accepts.champion or record.base_model):
        return False
    drawn_again = record.purpose is Purpose.REPLAY and len(record.samples) >= samples
    return drawn_again or len(group_of(record, accepts.mode, accepts.limits, Counter()).rows) >= samples


def _can_be_drawn(record: GroupRecord) -> bool:
    """Whether new samples of this prompt can train: judged, whole completions of an unredacted prompt, no grammar."""
    spec = record.verification
    usable = bool(spec.get("checks")) and not spec.get("tools") and not constrained(record.options)
    return usable and record.prompt_token_ids is not None


def _as_wanted(record: GroupRecord, accepts: Accepts, samples: int) -> Wanted:
    checks = [
        {name: check[name] for name in ("type", "id", "required", "weight", "timeout_s")} | check["params"]
        for check in record.verification["checks"]
        if check["id"] != ALWAYS_ID  # the gateway adds the operator's own
    ]
    headers = {
        "Cache-Control": "no-store",
        "X-Thinktwice-Purpose": Purpose.REPLAY.value,
        "X-Thinktwice-Group": record.group_id,
        "X-Thinktwice-Tenant": record.tenant,
    }
    limit = next((each.sampling.max_tokens for each in record.samples if each.sampling.max_tokens), None)
    verification = {"checks": checks, "samples": {"min": samples, "max": samples}, "on_failure": "return"}
    options = {name: value for name, value in record.options.items() if name != "top_logprobs"}
    body = {
        "model": "champion",
        "messages": list(record.messages),
        "extra_headers": headers,
        "extra_body": {**options, **_PLAIN, "verification": verification}
        | ({} if limit is None else {"max_tokens": limit}),
    }
    longest = max(len(each.completion_token_ids or ()) for each in record.samples)
    tokens = samples * (len(record.prompt_token_ids or ()) + (limit or longest))
    return Wanted(record.group_id, accepts.champion or record.base_model, body, tokens)


async def draw(url: str, prompts: Sequence[Wanted], samples: int, budget: int, done: Callable[[Wanted], None]) -> Drawn:
    """Ask the gateway at `url`, as long as the most that the next prompt may take is within the `budget`, in tokens.

    Every answer is in the group log when it arrives, so a run that is killed loses nothing, and the next one goes on
    where it ended. `done` is called after each prompt. Raises `ConfigError` for a bad `url`, and `TrainingError`
    without a gateway, or when its champion is another than the prompts'.
    """
    run = _Run(samples, budget, iter(prompts), done, Drawn(left=len(prompts)))
    failures: Sequence[BaseException] = ()
    async with connect(url) as client:
        await served_names(client)
        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(_CONCURRENCY):
                    tasks.create_task(run.work(client))
        except* TrainingError as group:
            failures = group.exceptions
    if failures:
        raise failures[0]
    return run.drawn


@dataclass(slots=True)
class _Run:
    """A run under way: what may still be spent, and what came of it so far."""

    samples: int
    budget: int
    prompts: Iterator[Wanted]
    done: Callable[[Wanted], None]
    drawn: Drawn
    reserved: int = 0
    failed: int = 0  # requests in a row

    async def work(self, client: openai.AsyncOpenAI) -> None:
        drawn = self.drawn
        while drawn.ended is Ended.DONE and (each := next(self.prompts, None)) is not None:
            if drawn.tokens + drawn.lost + self.reserved + each.tokens > self.budget:
                drawn.ended = Ended.BUDGET
                return
            self.reserved += each.tokens
            try:
                await self._draw(client, each)
            except NoAnswer as error:
                self._lose(each, str(error))
            else:
                self.failed = 0
            finally:
                self.reserved -= each.tokens
            self.done(each)

    def _lose(self, each: Wanted, why: str) -> None:
        drawn = self.drawn
        drawn.errors[why] += 1
        drawn.lost += each.tokens
        self.failed += 1
        if self.failed == _FAILURES_IN_A_ROW:
            errors = ", ".join(f"{name} {number}" for name, number in drawn.errors.most_common())
            raise TrainingError(
                f"{self.failed} requests in a row failed ({errors}), so the run ended after {drawn.prompts} prompts: "
                "see the gateway's log, and run it again once it answers"
            )

    async def _draw(self, client: openai.AsyncOpenAI, each: Wanted) -> None:
        answer, drawn = await ask(client, each.body), self.drawn
        drawn.samples += answer.samples
        drawn.tokens += answer.tokens
        if answer.policy != each.policy:
            raise TrainingError(
                f"the champion of the gateway is {answer.policy}, not {each.policy}: let both read the same [state] "
                "dir, or run this again when no policy is promoted"
            )
        if answer.samples < self.samples:
            drawn.ended = Ended.BUSY
            return
        drawn.prompts += 1
        drawn.left -= 1

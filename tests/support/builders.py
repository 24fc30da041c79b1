"""Small values for tests, with every field that does not matter filled in."""

from __future__ import annotations

from typing import Any

from router.domain import Candidate, CheckResult, CheckSpec, Prompt, Sample, Sampling, Verdict, VerificationSpec
from router.enums import CheckClass, Outcome

PLAIN = Sampling(temperature=1.0, top_p=1.0, top_k=-1, min_p=0.0)


def check_spec(want: str = "right", klass: CheckClass = CheckClass.DECISIVE, **fields: Any) -> CheckSpec:
    """A check that `fakes.TextVerifier` understands."""
    values: dict[str, Any] = {
        "id": "c0", "type": "exact", "klass": klass, "version": "1", "required": klass is CheckClass.DECISIVE,
        "weight": 1.0, "timeout_s": 1.0, "params": {"want": want},
    }  # fmt: skip
    return CheckSpec(**(values | fields))


def spec(*checks: CheckSpec, **fields: Any) -> VerificationSpec:
    """A verification spec of these checks."""
    return VerificationSpec(checks=checks, **fields)


def prompt(text: str = "What is 2 + 2?", sampling: Sampling = PLAIN, **options: Any) -> Prompt:
    """One user message."""
    return Prompt(({"role": "user", "content": text},), options, sampling)


def sample(index: int = 0, text: str = "4", **fields: Any) -> Sample:
    """A completed sample, one token a character."""
    values: dict[str, Any] = {
        "index": index, "message": {"role": "assistant", "content": text}, "finish_reason": "stop", "sampling": PLAIN,
        "model": "base", "token_ids": tuple(map(ord, text)), "logprobs": tuple(-0.5 for _ in text),
    }  # fmt: skip
    return Sample(**(values | fields))


def tool_call(arguments: str, name: str = "add", call_id: str = "call-1") -> dict[str, Any]:
    """One call of a message's `tool_calls`."""
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def candidate(
    index: int = 0, key: str | None = None, outcome: Outcome = Outcome.SKIPPED, *, decisive: bool = False, **fields: Any
) -> Candidate:
    """A judged sample: `decisive` says whether its one check was a decisive one."""
    score = {Outcome.PASS: 1.0, Outcome.FAIL: 0.0}.get(outcome)
    verdict = Verdict(
        outcome=Outcome.PASS if outcome is Outcome.SKIPPED else outcome,
        score=score,
        decisive_passes=int(decisive and outcome is Outcome.PASS),
        decisive_completed=decisive and score is not None,
    )
    klass = CheckClass.DECISIVE if decisive else CheckClass.SOFT
    checks = () if outcome is Outcome.SKIPPED else (CheckResult("c0", "exact", klass, outcome, score, 1.0, "1"),)
    return Candidate(sample(index, **fields), key, checks, verdict)

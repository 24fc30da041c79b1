"""The service behind a chat request: cache -> route -> decode -> vote -> cache -> log.

A request passes through `prepare` (admit), then `answer`, or `stream_live` for a single sample that streams
as it is generated. Both are logged by `Solver.settle` and counted in `_finish`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from functools import partial
from typing import Any

from msgspec.structs import replace

from gateway.answer import Answer, Prepared, Routed, Solved, is_vetoed, withheld
from gateway.cache.coalescer import Coalescer
from gateway.cache.rechecks import Rechecks
from gateway.cache.turns import Turns
from gateway.cache.verified_answers import CacheKey, VerifiedAnswers, cached_answer
from gateway.call import ChatCall
from gateway.dependencies import Dependencies
from gateway.policies import ResolvedPolicy
from gateway.solver import Solver, single_draw
from gateway.telemetry.served import Served
from gateway.telemetry.stopwatch import Stopwatch
from router.calibration.features import tenant_digest
from router.decode import Decoded, Task
from router.domain import Tokens, Verification
from router.enums import Effort, OnFailure, Purpose, Status, Stopped
from router.errors import BackendProtocolError, InvalidRequest, VerifierUnavailable
from router.fold import StreamFold, has_content
from router.guardrails import screen
from router.heldout import place_of, prompt_hash
from router.ids import new_group_id, uniform
from router.plan import shed
from router.records import CachedAnswer, GroupRecord


class AnswerService:
    """Answers chat calls. Everything it needs comes from `Dependencies`."""

    def __init__(self, dependencies: Dependencies) -> None:
        self._deps = dependencies
        self._solver = Solver(dependencies)
        caching = dependencies.caching
        self._verified = VerifiedAnswers(
            dependencies.store,
            dependencies.seal_key("answers"),
            dependencies.metrics,
            dependencies.scorecard,
            caching.ttl_s,
        )
        self.rechecks = Rechecks(
            dependencies.verifier, self._verified, dependencies.metrics, dependencies.caching.recheck_share
        )
        turns = Turns(dependencies.store, min(caching.lock_s, dependencies.deadline_s / 2))
        self._coalescer = Coalescer(self._verified, turns, dependencies.metrics)
        self.shadow: Callable[[Prepared], None] | None = None  # told of every request that was answered by sampling

    async def prepare(self, call: ChatCall) -> Prepared:
        """Admit a call, before any token is spent.

        Raises `ModelNotFound`, `RegistryError`, `BackendError`, `LogUnavailable`, `VerifierUnavailable` or
        `InvalidRequest`.
        """
        deps = self._deps
        spec = deps.guardrails.applied(call.spec)
        if spec is not call.spec:
            call = replace(call, spec=spec)
        # An evaluation, and a replay, ask what the champion itself would answer.
        place = partial(self._place, call) if call.purpose is Purpose.PROD else None
        policy = await deps.policies.ready(call.model, place)
        deps.log.admit()
        needed = (*call.spec.checks, *call.spec.screens)
        if needed and not deps.verifier.available(needed):
            raise VerifierUnavailable("the checks of this request cannot run now: no worker or no sandbox is up")
        if call.n > 1 and (call.effort.full_allowance or call.spec.samples_given or call.spec.has_veto):
            raise InvalidRequest("n above 1 is for single samples without checks: use verification.samples", "n")
        deadline = asyncio.get_running_loop().time() + min(deps.deadline_s, call.timeout_s or deps.deadline_s)
        return Prepared(call, policy, deadline, partial(self._route, call, policy, deadline))

    def _route(self, call: ChatCall, policy: ResolvedPolicy, deadline: float) -> Routed:
        """Decide how a call is answered, by the load of this moment."""
        deps = self._deps
        group_id = new_group_id()
        # A client that asks for n choices gets them: neither the text of its prompt nor an audit makes it a vote.
        effort = call.effort if call.n == 1 else Effort.LOW
        in_flight = 0 if call.purpose is Purpose.EVAL else deps.in_flight()  # an evaluation is worth its samples
        crowded = in_flight > deps.shed_inflight
        audit_draw = uniform(group_id) if call.purpose is Purpose.PROD and not crowded else None
        tenant = tenant_digest(call.tenant.name, deps.salt)
        decision, plan = deps.router.decide(call.prompt, call.spec, effort, audit_draw, policy.name, tenant)
        task = Task(
            prompt=call.prompt,
            spec=call.spec,
            kind=decision.task,
            model=policy.name,
            deadline=deadline,
            cache_salt=deps.cache_salt(call.tenant.name),
            evidence=deps.router.evidence(policy.name),
        )
        return Routed(group_id, task, decision, shed(plan, in_flight, deps.shed_inflight))

    def _place(self, call: ChatCall) -> float:
        return place_of(prompt_hash(call.prompt.messages, self._deps.salt))

    async def answer(self, prepared: Prepared) -> Answer:
        """The whole answer.

        Raises `VerificationFailed` or `NotVerified` under `on_failure: error`, `BackendError`, `LogUnavailable`, and
        `InvalidRequest` where the content policy is broken.
        """
        watch = Stopwatch()
        await self._screen(prepared, watch)
        key = self._verified.key(prepared)
        if key is None:
            return self._finish(prepared, await self._solve(prepared, watch), watch)
        if (stored := await self._verified.find(key)) is not None:
            self.rechecks.offer(key, prepared.call.spec.checks, stored)
            return self._again(prepared, stored, watch)
        # Who waits for another keeps half of its time for a try of its own.
        patience_s = max(prepared.deadline - asyncio.get_running_loop().time(), 0.0) / 2
        solved = await self._coalescer.solve(key, partial(self._solve, prepared, watch, key), watch, patience_s)
        if isinstance(solved, CachedAnswer):
            return self._again(prepared, solved, watch)
        return self._finish(prepared, solved, watch)

    async def stream_live(self, prepared: Prepared) -> AsyncGenerator[Mapping[str, Any] | Answer]:
        """The engine's chunks as they come, then the settled `Answer`, then the chunk that ended the last sample.

        The answer comes before the last chunk so that the verdict can ride on it.
        """
        draw = single_draw(prepared)
        fold = StreamFold(0, draw.sampling, draw.model, draw.n)
        decoded = Decoded(stopped=Stopped.SINGLE)
        last: Mapping[str, Any] = {}
        closing: Mapping[str, Any] | None = None
        watch = Stopwatch()
        await self._screen(prepared, watch)
        with watch.elsewhere():
            async with aclosing(self._deps.backend.stream(draw)) as chunks:
                async for chunk in chunks:
                    ended = fold.feed(chunk)
                    decoded.candidates += [await self._solver.judge(prepared, sample) for sample in ended]
                    if ended and fold.complete:
                        last = chunk
                    elif chunk.get("choices"):
                        if watch.first_token_s is None and has_content(chunk):
                            watch.first_token()
                        yield chunk
                    else:
                        closing = chunk
            if not fold.complete:
                raise BackendProtocolError("the engine ended its stream before its last sample")
        decoded.tokens, decoded.prompt_token_ids = fold.tokens(), fold.prompt_token_ids
        answer = self._finish(prepared, await self._solver.settle(prepared, decoded), watch)
        yield replace(answer, closing=closing)
        yield last

    async def _screen(self, prepared: Prepared, watch: Stopwatch) -> None:
        """Judge what is asked by the content policy, after the tenant's limits and before anything is drawn."""
        prompt, screens = prepared.call.prompt, prepared.call.spec.screens
        if screens:
            with watch.elsewhere():
                await screen(self._deps.verifier, screens, [prompt.messages, prompt.options])

    async def _solve(self, prepared: Prepared, watch: Stopwatch, key: CacheKey | None = None) -> Solved:
        """Sample, judge, log, and cache what may be."""
        with watch.elsewhere():
            decoded, completion = await self._solver.sample(prepared)
        solved = await self._solver.settle(prepared, decoded, completion)
        return (
            solved if key is None else replace(solved, entry=await self._verified.keep(key, prepared, solved.concluded))
        )

    def _finish(self, prepared: Prepared, solved: Solved, watch: Stopwatch) -> Answer:
        """Count a logged request, then apply `on_failure`."""
        verification, on_failure = solved.concluded.verification, prepared.call.spec.on_failure
        winner, decoded = solved.concluded.ballot.winner.sample, solved.concluded.decoded
        # `on_failure` is about answers. A call of the client's own tools is the way to one.
        unverified = verification.status is not Status.VERIFIED and not winner.message.get("tool_calls")
        vetoed = is_vetoed(solved.concluded.ballot.winner)
        refuse = vetoed or (unverified and on_failure is not OnFailure.RETURN)
        self._count(prepared, verification, watch, record=solved.record, decoded=decoded, refused=refuse)
        if self.shadow is not None:
            self.shadow(prepared)
        answer = Answer(
            verification=verification,
            message=winner.message,
            finish_reason=winner.finish_reason,
            tokens=decoded.tokens,
            stop_reason=winner.stop_reason,
            raw_logprobs=winner.raw_logprobs,
            completion=solved.completion,
            overhead_s=watch.overhead_s,
            larger=decoded.larger,
        )
        return withheld(answer, on_failure, vetoed=vetoed) if refuse else answer

    def _again(self, prepared: Prepared, stored: CachedAnswer, watch: Stopwatch) -> Answer:
        """Count and return a verified answer that was computed before."""
        answer = cached_answer(stored, prepared)
        self._count(prepared, answer.verification, watch)
        return answer

    def _count(
        self,
        prepared: Prepared,
        verification: Verification,
        watch: Stopwatch,
        *,
        record: GroupRecord | None = None,
        decoded: Decoded | None = None,
        refused: bool = False,
    ) -> None:
        """Tell the metrics, and the scorecard where the request is ordinary traffic."""
        call, spent = prepared.call, {}
        if decoded is not None:
            spent[prepared.policy.name] = decoded.tokens
            if self._deps.larger is not None and decoded.larger != Tokens():
                spent[self._deps.larger.name] = decoded.larger
        served = Served(
            verification=verification,
            spent=spent,
            duration_s=watch.duration_s,
            overhead_s=watch.overhead_s,
            group=record,
            code=422 if refused and call.spec.on_failure is OnFailure.ERROR else 200,
            refused=refused,
            stream=call.stream,
            first_token_s=watch.first_token_s,
            purpose=call.purpose,
        )
        self._deps.metrics.observe_answer(served)
        if call.purpose is Purpose.PROD:
            self._deps.scorecard.record(served)

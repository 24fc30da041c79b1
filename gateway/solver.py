"""From a prepared request to a logged group: draw, judge, vote, claim, log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from gateway.answer import Concluded, Prepared, Solved
from gateway.cost import cost_usd, price_of
from gateway.dependencies import Dependencies
from gateway.escalation import Escalation
from gateway.group_record import group_record
from router.decode import Decoded, Decoder
from router.domain import Candidate, Sample, Tokens, Verification
from router.enums import Route, Stopped
from router.errors import BackendProtocolError
from router.fold import completion_samples, completion_tokens
from router.heldout import is_heldout, prompt_hash
from router.plan import stop_reason
from router.ports import Draw
from router.vote import conclude, elect

_LEFT_ALONE = (Stopped.SHED, Stopped.HOPELESS)  # why a single sample that did not pass is not escalated


class Solver:
    """Draws what a route asks for and states what may be claimed of it. Every group it settles is in the log."""

    def __init__(self, dependencies: Dependencies) -> None:
        self._deps = dependencies
        self._decoder = Decoder(dependencies.backend, dependencies.verifier, dependencies.tools)
        larger = dependencies.larger
        self._escalation = None if larger is None else Escalation(dependencies, larger)

    async def judge(self, prepared: Prepared, sample: Sample) -> Candidate:
        """A sample with what its checks say of it."""
        return await self._decoder.judge(prepared.task, sample)

    async def sample(self, prepared: Prepared) -> tuple[Decoded, Mapping[str, Any] | None]:
        """Draw what the route asks for, and the larger model's sample where that did not settle it.

        Beside it the engine's own object, where it is one upstream call. Raises `BackendError`.
        """
        decoded, completion = await self._own(prepared)
        if self._escalation is not None and await self._escalation.extend(prepared, decoded):
            completion = None
        return decoded, completion

    async def _own(self, prepared: Prepared) -> tuple[Decoded, Mapping[str, Any] | None]:
        """The policy's samples; a single one that its oracle does not accept is escalated to the vote."""
        task, plan = prepared.task, prepared.plan
        if prepared.decision.route is Route.VOTE:
            return await self._decoder.decode(task, plan), None
        decoded, completion = await (self._conversation if task.spec.tools else self._single)(prepared)
        applied = decoded.applying(plan)
        stopped = stop_reason(applied, decoded.tally()) if applied.oracle else Stopped.SINGLE
        if stopped is not None:
            decoded.stopped = stopped if stopped in _LEFT_ALONE else Stopped.SINGLE
            return decoded, completion
        return await self._decoder.decode(task, plan, first=decoded), None

    async def _single(self, prepared: Prepared) -> tuple[Decoded, Mapping[str, Any] | None]:
        """One upstream call, and the engine's own object for it."""
        draw = single_draw(prepared)
        completion = await self._deps.backend.complete(draw)
        samples = completion_samples(completion, draw.sampling, draw.model)
        if not samples:
            raise BackendProtocolError("the engine's answer holds no choice")
        decoded = Decoded(
            candidates=[await self._decoder.judge(prepared.task, sample) for sample in samples],
            tokens=completion_tokens(completion),
            prompt_token_ids=tuple(completion.get("prompt_token_ids") or ()) or None,
        )
        return decoded, completion

    async def _conversation(self, prepared: Prepared) -> tuple[Decoded, None]:
        """One sample with its server-side tools: several upstream calls, of which no single object can be shown."""
        return await self._decoder.decode(prepared.task, replace(prepared.plan, minimum=1, maximum=1)), None

    async def settle(
        self,
        prepared: Prepared,
        decoded: Decoded,
        completion: Mapping[str, Any] | None = None,
    ) -> Solved:
        """Conclude and log a decoded request. Raises `LogUnavailable`."""
        deps = self._deps
        concluded = self._conclude(prepared, decoded)
        hashed = prompt_hash(prepared.call.prompt.messages, deps.salt)
        heldout = is_heldout(hashed, deps.heldout_share)
        record = group_record(prepared, concluded, deps.engine, prompt_hash=hashed, heldout=heldout)
        await deps.log.append(record)
        deps.metrics.observe_logged(record)
        if deps.canary is not None:
            deps.canary.observe(prepared.policy, concluded.verification, hashed)
        if deps.audits is not None:
            deps.audits.offer(record.group_id, record.tenant, prepared.call.spec.checks, concluded.ballot.winner)
        return Solved(concluded, record, completion)

    def _conclude(self, prepared: Prepared, decoded: Decoded) -> Concluded:
        """Elect the answer and state what may be claimed of it."""
        ballot = elect(decoded.candidates, prepared.plan.voting)
        oracle = decoded.applying(prepared.plan).oracle
        status, reason = conclude(decoded.candidates, ballot, oracle=oracle, stopped=decoded.stopped)
        samples = len(decoded.candidates)
        alone = decoded.stopped is Stopped.SINGLE or (decoded.stopped in _LEFT_ALONE and samples == 1)
        escalated = decoded.escalated or (prepared.decision.route is Route.SINGLE and not alone)
        verification = Verification(
            status=status,
            reason=reason,
            route=Route.VOTE if escalated else prepared.decision.route,
            escalated=escalated,
            samples=samples,
            votes=ballot.votes,
            agreement=ballot.votes / samples,
            difficulty=prepared.decision.difficulty,
            stopped=decoded.stopped,
            profile=prepared.call.spec.profile,
            score=ballot.winner.verdict.score,
            checks=ballot.winner.checks,
            group_id=prepared.group_id,
            policy=ballot.winner.sample.model,
            cost_usd=self._cost_usd(prepared, decoded),
        )
        return Concluded(decoded, ballot, verification)

    def _cost_usd(self, prepared: Prepared, decoded: Decoded) -> float | None:
        """What all samples cost, each model's at its own price; None where one is not known."""
        own, larger = cost_usd(decoded.tokens, price_of(self._deps.prices, prepared.policy)), self._deps.larger
        if larger is None or decoded.larger == Tokens() or own is None:
            return own
        other = cost_usd(decoded.larger, larger.price)
        return None if other is None else own + other


def single_draw(prepared: Prepared) -> Draw:
    """The upstream call of the single path: the client's own settings, for all of its n choices."""
    [(_, draw)] = prepared.task.draw()
    return draw if prepared.call.n == 1 else replace(draw, n=prepared.call.n)

"""The last wave: one sample of a second, larger model for a group that the policy's own samples did not settle."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from msgspec import structs

from gateway.answer import Prepared
from gateway.cost import cost_usd, price_of
from gateway.dependencies import Dependencies
from gateway.larger import LargerModel
from gateway.telemetry.metric_families import Escalated
from router.decode import Decoded, Decoder
from router.domain import Sample, Tokens
from router.enums import Stopped
from router.errors import BackendError
from router.escalation import gained, log_odds
from router.plan import Plan
from router.route import Learned


class Escalation:
    """Asks the larger model where its sample is worth its price. Whatever becomes of it, the group stands."""

    def __init__(self, dependencies: Dependencies, larger: LargerModel) -> None:
        self._deps, self._larger = dependencies, larger
        self._decoder = Decoder(larger.backend, dependencies.verifier, dependencies.tools)

    async def extend(self, prepared: Prepared, decoded: Decoded) -> bool:
        """Add its sample to a group; whether there is one. A failure of its engine is counted, and changes nothing."""
        learned = self._deps.router.learned(prepared.policy.name)
        chance = self._larger.chance(learned.calibration if learned else None)
        plan = decoded.applying(prepared.plan)
        gain = gained(plan, decoded.tally(), decoded.stopped, chance)
        if gain <= 0 or not self._allowed(prepared, decoded) or not self._pays(prepared, decoded, gain, learned):
            return False
        drawn = Decoded()
        try:
            await self._draw(prepared, plan, drawn)
        except BackendError as error:
            decoded.failures.append(f"{self._larger.name}: {error}")
        decoded.larger = drawn.tokens
        _join(decoded, drawn, log_odds(chance))
        self._deps.metrics.observe_escalated(_outcome(drawn))
        return bool(drawn.candidates)

    async def _draw(self, prepared: Prepared, plan: Plan, drawn: Decoded) -> None:
        """One sample at the client's own settings, within its time and the request's. Raises `BackendError`."""
        now = asyncio.get_running_loop().time()
        deadline = min(prepared.deadline, now + self._larger.timeout_s)
        task = structs.replace(prepared.task, model=self._larger.name, deadline=deadline, evidence=None)
        await self._decoder.decode(task, Plan(1, 1, plan.oracle, plan.quorum), first=drawn)

    def _allowed(self, prepared: Prepared, decoded: Decoded) -> bool:
        """Whether this request may have an answer of the larger model, and one sample more."""
        policy, larger = prepared.policy, self._larger
        bounded = prepared.call.spec.samples_given and decoded.tally().spent >= prepared.plan.maximum
        other = larger.name not in (policy.name, policy.base_model)
        return larger.facts is not None and other and not bounded and prepared.escalable

    def _pays(self, prepared: Prepared, decoded: Decoded, gain: float, learned: Learned | None) -> bool:
        """Whether the gain is worth the price of a sample as long as the policy's own were; yes where none is set.

        A value that is known in tokens of the policy alone needs the price of those.
        """
        value, price = self._larger.usd_per_solve, price_of(self._deps.prices, prepared.policy)
        if value is None and learned is not None and learned.value is not None:
            value = 0.0 if price is None else learned.value * price.output / 1e6
        if value is None:
            return True
        samples = max(len(decoded.candidates), 1)
        prompt = len(decoded.prompt_token_ids or ()) or decoded.tokens.prompt // samples
        expected = cost_usd(Tokens(prompt, decoded.tokens.completion // samples), self._larger.price)
        return expected is not None and gain * value > expected


def _join(decoded: Decoded, drawn: Decoded, evidence: float) -> None:
    """The larger model's sample as the last of the group; in its own tokens, and with no vote but its evidence."""
    known = [*(candidate.sample for candidate in decoded.candidates), *decoded.unjudged]
    last = max((sample.index for sample in known), default=-1) + 1

    def moved(sample: Sample) -> Sample:
        prompt = sample.prompt_token_ids or drawn.prompt_token_ids
        return replace(sample, index=last + sample.index, prompt_token_ids=prompt)

    decoded.unjudged += map(moved, drawn.unjudged)
    for candidate in drawn.candidates:
        decoded.candidates.append(replace(candidate, sample=moved(candidate.sample), vote=0, evidence=evidence))
    if drawn.candidates:
        verified = any(candidate.verdict.verified for candidate in drawn.candidates)
        alone = decoded.stopped is Stopped.SINGLE
        decoded.stopped = Stopped.DECISIVE if verified else Stopped.CAP if alone else decoded.stopped


def _outcome(drawn: Decoded) -> Escalated:
    if not drawn.candidates:
        return Escalated.ERROR
    [candidate] = drawn.candidates
    return Escalated.VERIFIED if candidate.verdict.verified else Escalated.UNVERIFIED

"""Sections of who may use the gateway, how much of it, and at what price."""

from __future__ import annotations

from pydantic import Field

from router.settings.section import Section


class KeysSection(Section):
    """API keys, which `thinktwice keys` makes in the state directory."""

    pepper: str | None = Field(
        None,
        min_length=32,
        description="Secret under which keys are hashed; by default one made in the state directory.",
    )


class PriceSection(Section):
    """Price of a model's tokens, in US dollars per million."""

    input: float = Field(ge=0, description="Dollars per million prompt tokens.")
    output: float = Field(ge=0, description="Dollars per million completion tokens.")
    cached_input: float | None = Field(None, ge=0, description="Dollars per million cached prompt tokens.")


class CostsSection(Section):
    """What machines cost, in US dollars an hour; a cost that is not set is unknown, not 0."""

    engine_usd_per_hour: float | None = Field(
        None, ge=0, description="All machines of the engines; idle cost is this without the tokens' prices."
    )
    trainer_usd_per_hour: float | None = Field(None, ge=0, description="The machine that trains, while it trains.")
    core_usd_per_hour: float | None = Field(
        None, ge=0, description="One core of the gateway's machine, for the time of checks and audits."
    )


class TenantSection(Section):
    """What a tenant allows, and what it may use; a limit that is not set does not exist."""

    train_consent: bool | None = Field(
        None, description="Whether this tenant's groups may train a policy; by default only those of `local`."
    )
    requests_per_minute: int | None = Field(None, ge=1, description="Requests a minute, one each equal interval.")
    burst: int | None = Field(None, ge=1, description="Requests that may come at once; by default a minute's.")
    max_concurrency: int | None = Field(None, ge=1, description="Requests in flight, those that wait included.")
    tokens_per_day: int | None = Field(None, ge=1, description="Tokens of all samples, prompts included, a day of UTC.")
    usd_per_day: float | None = Field(None, gt=0, le=1e6, description="US dollars, by the price table, a day of UTC.")

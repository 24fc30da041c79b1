"""What tokens cost, from the operator's price table. There is no default price: without one the cost is unknown."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.policies import ResolvedPolicy
from router.domain import Tokens
from router.settings import PriceSection


def cost_usd(tokens: Tokens, price: PriceSection | None) -> float | None:
    """US dollars for `tokens` at `price` (dollars per million tokens), or None without a price."""
    if price is None:
        return None
    cached_price = price.input if price.cached_input is None else price.cached_input
    uncached = max(tokens.prompt - tokens.cached_prompt, 0)
    total = uncached * price.input + tokens.cached_prompt * cached_price + tokens.completion * price.output
    return total / 1_000_000


def price_of(prices: Mapping[str, PriceSection], policy: ResolvedPolicy) -> PriceSection | None:
    """The price of a policy: its own, else its base model's (an adapter costs what its base costs)."""
    return prices.get(policy.name) or prices.get(policy.base_model)

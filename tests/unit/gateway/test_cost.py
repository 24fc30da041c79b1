import pytest

from gateway.cost import cost_usd, price_of
from gateway.policies import ResolvedPolicy
from router.domain import Tokens
from router.settings import PriceSection

PLAIN = PriceSection(input=1.0, output=3.0)
CACHED = PriceSection(input=1.0, output=3.0, cached_input=0.25)


@pytest.mark.parametrize(
    ("tokens", "price", "dollars"),
    [
        (Tokens(prompt=1_000_000), PLAIN, 1.0),
        (Tokens(completion=1_000_000), PLAIN, 3.0),
        (Tokens(prompt=1_000_000, cached_prompt=400_000), PLAIN, 1.0),
        (Tokens(prompt=1_000_000, cached_prompt=400_000), CACHED, 0.7),
        (Tokens(prompt=10, cached_prompt=20), CACHED, 5e-6),
        (Tokens(), PLAIN, 0.0),
    ],
)
def test_the_price_of_tokens(tokens: Tokens, price: PriceSection, dollars: float) -> None:
    assert cost_usd(tokens, price) == pytest.approx(dollars)


def test_there_is_no_default_price() -> None:
    assert cost_usd(Tokens(prompt=5), None) is None
    assert price_of({"other": PLAIN}, ResolvedPolicy("policy", "base", 0)) is None


def test_an_adapter_costs_its_own_price_else_its_bases() -> None:
    policy = ResolvedPolicy("policy", "base", 0)
    assert price_of({"base": PLAIN}, policy) is PLAIN
    assert price_of({"base": PLAIN, "policy": CACHED}, policy) is CACHED

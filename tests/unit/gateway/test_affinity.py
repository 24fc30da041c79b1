from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from gateway.resilience.affinity import LOAD_SLACK, preferred, prefix_keys
from router.domain import Prompt, Sampling
from router.ports import Draw


@dataclass(eq=False)
class Engine:
    name: str
    in_flight: int = 0


def message(role: str, content: str) -> dict[str, Any]:
    return {"role": role, "content": content}


def draw(*messages: dict[str, Any], **fields: Any) -> Draw:
    return replace(Draw(Prompt(messages), Sampling(), "base"), **fields)


def engines(count: int = 4) -> list[Engine]:
    return [Engine(f"10.0.0.{number}:8000") for number in range(count)]


SYSTEM = message("system", "You are terse.")
FIRST, SECOND = message("user", "one"), message("user", "two")


def favourite(asked: Draw) -> str:
    return preferred(engines(), prefix_keys(asked), 1)[0].name


def alone(key: str) -> str:
    """The favourite of one key."""
    return preferred(engines(), [key], 1)[0].name


def test_an_application_and_a_conversation_have_one_favourite() -> None:
    opening = draw(SYSTEM, FIRST)
    assert favourite(opening) == favourite(draw(SYSTEM, SECOND)) == favourite(draw(SYSTEM))
    turns = draw(FIRST, message("assistant", "1"), SECOND)
    assert prefix_keys(draw(FIRST)) == prefix_keys(turns) and favourite(draw(FIRST)) == favourite(turns)
    assert prefix_keys(opening)[0] == prefix_keys(draw(SYSTEM, SECOND))[0]
    assert prefix_keys(opening)[1] != prefix_keys(draw(SYSTEM, SECOND))[1]


def test_tenants_policies_and_prompts_are_kept_apart_and_spread() -> None:
    asked = draw(SYSTEM, FIRST)
    for other in (replace(asked, cache_salt="b"), replace(asked, model="policy-1-0a1b2c3d")):
        assert set(prefix_keys(other)).isdisjoint(prefix_keys(asked))
    spread = {favourite(draw(message("user", str(number)))) for number in range(40)}
    assert len(spread) == 4


def test_only_the_prompts_of_an_engine_that_leaves_move() -> None:
    keys = [prefix_keys(draw(message("user", str(number)))) for number in range(60)]
    before = {key: preferred(engines(4), key, 1)[0].name for key in keys}
    after = {key: preferred(engines(3), key, 1)[0].name for key in keys}
    assert all(after[key] == name for key, name in before.items() if name != "10.0.0.3:8000")
    assert {before[key] for key in keys if after[key] != before[key]} == {"10.0.0.3:8000"}


def test_a_busy_favourite_is_passed_over_for_the_second_then_for_the_idlest() -> None:
    prompts = [draw(SYSTEM, message("user", str(number))) for number in range(40)]
    keys = next(keys for prompt in prompts if len(set(map(alone, keys := prefix_keys(prompt)))) == 2)
    pool = engines()
    first, second = (next(engine for engine in pool if engine.name == alone(key)) for key in keys)
    assert preferred(pool, keys, 1)[:2] == [first, second]
    first.in_flight = LOAD_SLACK
    assert preferred(pool, keys, 1)[0] is first
    first.in_flight = 40
    assert preferred(pool, keys, 1)[0] is second
    second.in_flight = 40
    idlest = preferred(pool, keys, 1)
    assert idlest[0].in_flight == 0 and len(idlest) == 4
    assert preferred([], keys, 1) == []

"""The cache key: one key for one question, another for any other."""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.cache_key import cache_key, key_of
from router.domain import CheckSpec, Prompt, Sampling, VerificationSpec
from router.enums import CheckClass, OnFailure, ToolName
from router.tool_types import TOOL_TYPES

CHECK = CheckSpec(
    id="c0",
    type="math",
    klass=CheckClass.DECISIVE,
    version="math@1",
    required=True,
    weight=1.0,
    timeout_s=3.0,
    params=MappingProxyType({"reference": "1/3", "allow_unevaluated": False}),
)
PROMPT = Prompt(
    messages=({"role": "user", "content": "What is 1/3?"},),
    options={
        "stop": ["\n"],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"a": 1, "b": 2}}}],
    },
    sampling=Sampling(temperature=0.5, max_tokens=64),
)
CALCULATOR = TOOL_TYPES[ToolName.CALCULATOR]
SPEC = VerificationSpec(checks=(CHECK,), profile="gsm8k@1")
BASE: dict[str, Any] = {
    "tenant": "local",
    "policy": "base",
    "epoch": 3,
    "prompt": PROMPT,
    "verification": SPEC,
}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def spec(**fields: Any) -> VerificationSpec:
    return replace(SPEC, **fields)


def check(**fields: Any) -> VerificationSpec:
    return spec(checks=(replace(CHECK, **fields),))


def test_the_key_is_made_from_the_digest() -> None:
    key, digest = cache_key(**BASE)
    assert len(key) == 32 and len(digest) == 32 and key == key_of(digest)
    assert cache_key(**BASE) == (key, digest)


@pytest.mark.parametrize(
    "changed",
    [
        {"tenant": "other"},
        {"policy": "policy-1-00000000"},
        {"epoch": 4},
        {"prompt": replace(PROMPT, messages=({"role": "user", "content": "What is 1/3? "},))},
        {"prompt": replace(PROMPT, messages=({"role": "user", "content": "what is 1/3?"},))},
        {"prompt": replace(PROMPT, messages=({"role": "system", "content": "What is 1/3?"},))},
        {
            "prompt": replace(
                PROMPT, messages=(*PROMPT.messages, {"role": "assistant", "content": "", "tool_calls": []})
            )
        },
        {"prompt": replace(PROMPT, options={**PROMPT.options, "stop": "\n"})},
        {"prompt": replace(PROMPT, options={**PROMPT.options, "response_format": {"type": "json_object"}})},
        {"verification": check(version="math@2")},
        {"verification": check(params={"reference": "1/4", "allow_unevaluated": False})},
        {"verification": check(required=False)},
        {"verification": check(weight=2.0)},
        {"verification": check(id="other")},
        {"verification": spec(checks=(CHECK, CHECK))},
        {"verification": spec(min_samples=2)},
        {"verification": spec(max_samples=4)},
        {"verification": spec(profile="gsm8k@2")},
        {"verification": spec(tools=(CALCULATOR,))},
        {"verification": spec(max_turns=2)},
        *[{"prompt": replace(PROMPT, sampling=replace(PROMPT.sampling, **{name: 1}))} for name in Sampling.__slots__],
    ],
)
def test_any_difference_in_the_question_is_another_key(changed: dict[str, Any]) -> None:
    key, digest = cache_key(**BASE)
    other, other_digest = cache_key(**{**BASE, **changed})
    assert other != key and other_digest != digest


def test_another_version_of_a_tool_is_another_key() -> None:
    keys = {cache_key(**{**BASE, "verification": spec(tools=(replace(CALCULATOR, version=v),))}) for v in "12"}
    assert len(keys) == 2


def test_what_is_done_with_a_failure_is_no_part_of_the_question() -> None:
    assert cache_key(**{**BASE, "verification": spec(on_failure=OnFailure.ERROR)}) == cache_key(**BASE)


@given(st.dictionaries(st.text(max_size=5), JSON, max_size=5), st.randoms())
def test_the_order_of_names_does_not_matter(options: dict[str, Any], random: Any) -> None:
    shuffled = list(options.items())
    random.shuffle(shuffled)
    prompt = Prompt(messages=PROMPT.messages, options=options)
    other = Prompt(messages=PROMPT.messages, options=MappingProxyType(dict(shuffled)))
    assert cache_key(**{**BASE, "prompt": prompt}) == cache_key(**{**BASE, "prompt": other})


@given(JSON, JSON)
def test_other_content_is_another_key(first: Any, second: Any) -> None:
    keys = [cache_key(**{**BASE, "prompt": Prompt(({"role": "user", "content": c},))})[0] for c in (first, second)]
    assert (keys[0] == keys[1]) == (_exact(first) == _exact(second))


def _exact(value: Any) -> Any:
    """A form in which 1, 1.0 and True differ, and strings are equal when their NFC forms are."""
    if isinstance(value, dict):
        return {name: _exact(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_exact(item) for item in value]
    return unicodedata.normalize("NFC", value) if isinstance(value, str) else (type(value).__name__, repr(value))


def test_composed_and_decomposed_text_are_one_question() -> None:
    composed, decomposed = (
        Prompt(({"role": "user", "content": "é"},)),
        Prompt(({"role": "user", "content": "e\u0301"},)),
    )
    assert cache_key(**{**BASE, "prompt": composed}) == cache_key(**{**BASE, "prompt": decomposed})


def test_half_a_surrogate_pair_is_neither_an_error_nor_another_character() -> None:
    halves, whole = Prompt(({"content": "\ud83d\ude00"},)), Prompt(({"content": "\U0001f600"},))
    assert cache_key(**{**BASE, "prompt": halves}) != cache_key(**{**BASE, "prompt": whole})

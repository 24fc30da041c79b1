"""Constrained decoding: a random model, held to a schema, still writes values of it."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.unit.gateway.engine.conftest import Client

SCHEMA = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "green"]}, "count": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["colour", "count"],
    "additionalProperties": False,
}


def constrained(**fields: Any) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "thing", "schema": SCHEMA, **fields}}}


@pytest.mark.parametrize("temperature", [0.0, 1.0, 2.0])
def test_every_sample_is_a_value_of_the_schema(client: Client, temperature: float) -> None:
    body = client.chat(**constrained(strict=True), n=4, max_tokens=100, temperature=temperature, seed=1, logprobs=True)
    for choice in body["choices"]:
        value = json.loads(choice["message"]["content"])
        assert set(value) == {"colour", "count"}
        assert value["colour"] in ("red", "green")
        assert 0 <= value["count"] <= 99
        assert choice["finish_reason"] == "stop"
        # The end token is sampled and counted like any other.
        assert choice["logprobs"]["content"][-1]["token"] == "<|end|>"


def test_a_forced_token_has_probability_one_and_forbidden_ones_none(client: Client) -> None:
    asked = {**constrained(), "logprobs": True, "top_logprobs": 3, "max_tokens": 100, "seed": 1}
    first = client.chat(**asked)["choices"][0]["logprobs"]["content"][0]
    assert first["token"] == "{"
    assert math.isclose(first["logprob"], 0.0, abs_tol=1e-6)
    assert first["top_logprobs"][2]["logprob"] == -9999.0


def test_samples_of_one_request_keep_their_own_grammar_state(client: Client) -> None:
    together = client.chat(**constrained(), n=4, max_tokens=100, seed=20)["choices"]
    alone = client.chat(**constrained(), max_tokens=100, seed=23)["choices"][0]
    assert together[3]["message"]["content"] == alone["message"]["content"]


def test_json_object_and_text(client: Client) -> None:
    choice = client.chat(response_format={"type": "json_object"}, max_tokens=300, seed=2, temperature=0.5)["choices"][0]
    assert choice["message"]["content"].startswith("{")
    assert choice["finish_reason"] == "length" or isinstance(json.loads(choice["message"]["content"]), dict)
    free = client.chat(response_format={"type": "text"}, seed=2)["choices"][0]["message"]["content"]
    assert free == client.chat(seed=2)["choices"][0]["message"]["content"]


def test_a_finished_value_under_ignore_eos_ends_at_max_tokens(client: Client) -> None:
    choice = client.chat(**constrained(), ignore_eos=True, min_tokens=60, max_tokens=80, seed=1)["choices"][0]
    assert choice["finish_reason"] == "length"
    assert json.loads(choice["message"]["content"])["count"] >= 0

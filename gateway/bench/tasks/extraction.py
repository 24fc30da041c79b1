"""Extraction: what a sentence says, as a JSON object. The expected values are constants of the check's schema."""

from __future__ import annotations

import json
from typing import TypeAlias

from gateway.bench.tasks.item import Item, Rng
from gateway.bench.tasks.vocabulary import NAMES, SURNAMES, THINGS

Values: TypeAlias = dict[str, str | int]

_PERSONS = (
    "{name} turned {age} last week.",
    "At {age}, {name} is the youngest of the team.",
    "Our neighbour {name} is {age} years old.",
    "{name}, {age}, won the race.",
)
_ORDERS = (
    "{name} orders {count} {item}, to be delivered on {day}.",
    "On {day} we send {count} {item} to {name}.",
    "Please bring {name} {count} {item} on {day}.",
)
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")


def person(rng: Rng) -> Item:
    """Name and age of a person."""
    values: Values = {"name": f"{rng.choice(NAMES)} {rng.choice(SURNAMES)}", "age": rng.randint(18, 80)}
    return _item(rng.choice(_PERSONS).format(**values), values)


def order(rng: Rng) -> Item:
    """Who orders how many of what, for which day."""
    values: Values = {
        "name": rng.choice(NAMES),
        "item": rng.choice(THINGS),
        "count": rng.randint(2, 50),
        "day": rng.choice(_DAYS),
    }
    return _item(rng.choice(_ORDERS).format(**values), values)


def _item(sentence: str, values: Values) -> Item:
    keys = ", ".join(f'"{key}"' for key in values)
    schema = {
        "type": "object",
        "properties": {key: {"const": value} for key, value in values.items()},
        "required": list(values),
        "additionalProperties": False,
    }
    question = f"{sentence}\nWrite this as a JSON object with the keys {keys}. Answer with the JSON object only."
    return Item(question, json.dumps(values), {"type": "json_schema", "schema": schema})

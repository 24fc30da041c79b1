"""The second verifiers of `numeric`, `exact`, `choice`, `regex`, `json_schema`: the standard library and jsonschema."""

from __future__ import annotations

import json
import re
import string
import unicodedata
from fractions import Fraction
from typing import Any

from router.verify.checks.choice import ChoiceParams
from router.verify.checks.exact import ExactParams
from router.verify.checks.json_schema import DRAFT_7, JsonSchemaParams
from router.verify.checks.numeric import NumericParams
from router.verify.checks.regex import RegexParams
from router.verify.second.reading import Unreadable, stated

_PLAIN = re.compile(
    r"(-?)\s*(\d+(?:\.\d*)?|\.\d+)(?:e([+-]?\d{1,3}))?(?:\s*/\s*(\d+(?:\.\d+)?))?(\s*%)?", re.IGNORECASE
)
_LATEX_FRACTION = re.compile(r"\\[dtc]?frac\s*\{?(-?[\d.]+)\}?\s*\{?([\d.]+)\}?")
_EDGES = string.punctuation + string.whitespace


def numeric(params: NumericParams, text: str) -> bool:
    """The last number of what is stated, within the tolerance."""
    answer, percent = _number(stated(text, number=True))
    reference, in_percent = _number(str(params.reference))
    if percent and not in_percent and params.unit not in ("%", "percent"):
        return False
    allowed = max(Fraction(str(params.atol)), Fraction(str(params.rtol)) * abs(reference))
    return abs(answer - reference) <= allowed


def exact(params: ExactParams, text: str) -> bool:
    """What is stated is one of the references, letter by letter or folded."""
    references = [params.reference] if isinstance(params.reference, str) else params.reference
    answer = stated(text)
    if not params.normalize:
        return answer.strip() in {reference.strip() for reference in references}
    return folded(answer) in {folded(reference) for reference in references}


def choice(params: ChoiceParams, text: str) -> bool:
    """The first letter of what is stated is the reference's, or all of it is its text."""
    options = params.options or {}
    by_letter = options if isinstance(options, dict) else dict(zip(string.ascii_uppercase, options, strict=False))
    by_letter = {letter.strip().upper(): folded(option) for letter, option in by_letter.items()}
    wanted = next((name for name, option in by_letter.items() if option == folded(params.reference)), None)
    wanted = wanted or params.reference.strip(_EDGES).upper()
    answer = folded(stated(text))
    return answer == by_letter.get(wanted) or re.match(rf"{wanted.casefold()}(?![a-z])", answer) is not None


def regex(params: RegexParams, text: str) -> bool:
    """Python's own engine, which backtracks: the worker's deadline ends it."""
    try:
        pattern = re.compile(params.pattern, re.ASCII)
    except re.error as error:
        raise Unreadable("a pattern of RE2 alone") from error
    return bool((pattern.fullmatch if params.match == "full" else pattern.search)(text.strip()))


def json_schema(params: JsonSchemaParams, text: str) -> bool:
    """The Python implementation of JSON Schema; nothing remote is ever fetched."""
    # Imported here: it takes 0.1 s, and most workers never audit a schema.
    import jsonschema  # noqa: PLC0415
    from referencing import Registry  # noqa: PLC0415

    old = isinstance(params.schema, dict) and str(params.schema.get("$schema", "")).rstrip("#") == DRAFT_7
    kind = jsonschema.Draft7Validator if old else jsonschema.Draft202012Validator
    registry: Registry[Any] = Registry()
    return bool(kind(params.schema, registry=registry).is_valid(json_value(text)))


def _number(answer: str) -> tuple[Fraction, bool]:
    """The one number of an answer, and whether it is in percent."""
    answer = _LATEX_FRACTION.sub(r"\1/\2", answer.replace("−", "-").replace("\\!", "").replace("{,}", ","))
    answer = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", answer.replace("\\", "").replace("$", "").rpartition("=")[2])
    found = list(_PLAIN.finditer(answer))
    if len(found) != 1:
        raise Unreadable("not one number")
    sign, digits, exponent, under, percent = found[0].groups()
    value = Fraction(digits) * Fraction(10) ** int(exponent or 0) / Fraction(under or 1)
    return -value if sign else value, percent is not None


def folded(text: str) -> str:
    """NFKC, case-folded, one space between words, no outer punctuation."""
    text = re.sub(r"\\text\w*\s*\{([^{}]*)\}", r"\1", text)
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split()).strip(_EDGES)


def json_value(text: str) -> Any:
    """The JSON value of a text: all of it, or the longest fenced or bracketed end that parses."""
    decoder = json.JSONDecoder()
    blocks = re.findall(r"```[^\n`]*\n(.*?)(?:```|\Z)", text, re.DOTALL)
    for candidate in (text.strip(), *(block.strip() for block in blocks[-1:])):
        try:
            return json.loads(candidate)
        except ValueError:
            continue
    start = min((at for at in (text.find("{"), text.find("[")) if at >= 0), default=-1)
    try:
        return decoder.raw_decode(text[start:])[0] if start >= 0 else json.loads(text)
    except ValueError as error:
        raise Unreadable("no JSON value") from error

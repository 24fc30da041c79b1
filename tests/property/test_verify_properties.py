"""Properties of the composite, of the vote keys and of the numeric verdicts."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from typing import Any

import msgspec
from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec import structs

from router.canonical import answer_key
from router.domain import CheckResult, CheckSpec
from router.enums import CheckClass, Outcome, TaskKind
from router.extract import final_answer, last_number
from router.quantity import parse_quantity
from router.strict_json import NotJson, loads
from router.verify.composite import compose
from router.verify.pure import PURE_TYPES

Pairs = list[tuple[CheckSpec, CheckResult]]


@st.composite
def pairs(draw: st.DrawFn) -> Pairs:
    made: Pairs = []
    for index in range(draw(st.integers(1, 6))):
        klass = draw(st.sampled_from(list(CheckClass)))
        outcome = draw(st.sampled_from(list(Outcome)))
        completed = outcome in (Outcome.PASS, Outcome.FAIL)
        score = draw(st.floats(0, 1)) if completed else None
        weight = draw(st.floats(0.001, 1000))
        spec = CheckSpec(f"c{index}", "numeric", klass, "1", draw(st.booleans()), weight, 3.0, {})
        made.append((spec, CheckResult(spec.id, spec.type, klass, outcome, score, 1.0, "1")))
    return made


def composite(made: Pairs) -> Any:
    return compose([result for _, result in made], [spec for spec, _ in made])


@given(pairs(), st.randoms())
def test_order_does_not_matter(made: Pairs, random: Any) -> None:
    shuffled = list(made)
    random.shuffle(shuffled)
    first, second = composite(made), composite(shuffled)
    assert structs.replace(first, score=None) == structs.replace(second, score=None)
    assert (first.score is None) == (second.score is None)
    assert first.score is None or abs(first.score - second.score) < 1e-9


@given(pairs(), st.floats(1e-6, 1e6))
def test_only_the_ratio_of_weights_matters(made: Pairs, factor: float) -> None:
    scaled = [(replace(spec, weight=spec.weight * factor), result) for spec, result in made]
    first, second = composite(made), composite(scaled)
    assert first.outcome is second.outcome
    assert (first.score is None) == (second.score is None)
    assert first.score is None or abs(first.score - second.score) < 1e-9


@given(pairs(), st.data())
def test_a_better_score_never_lowers_the_composite(made: Pairs, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(made) - 1))
    spec, result = made[index]
    assume(result.score is not None)
    better = replace(result, outcome=Outcome.PASS, score=data.draw(st.floats(result.score or 0.0, 1.0)))
    before, after = composite(made), composite([*made[:index], (spec, better), *made[index + 1 :]])
    assert (
        before.score is None
        or (after.score is not None and after.score >= before.score - 1e-9)
        or (before.outcome is Outcome.FAIL and after.outcome in (Outcome.ERROR, Outcome.TIMEOUT, Outcome.SKIPPED))
    )
    assert after.verified >= before.verified


@given(pairs())
def test_verified_means_what_it_says(made: Pairs) -> None:
    verdict = composite(made)
    required = [result.outcome for spec, result in made if spec.required]
    decisive = [r.outcome for _, r in made if r.klass is CheckClass.DECISIVE]
    assert verdict.verified == (all(o is Outcome.PASS for o in required) and Outcome.PASS in decisive)
    assert verdict.score is None or 0.0 <= verdict.score <= 1.0
    if Outcome.FAIL in required:
        assert verdict.score == 0.0


answers = st.one_of(
    st.text(max_size=60),
    st.text(alphabet=r"0123456789.,/%$-+eE \{}frac()xBboxdAnswer:#", max_size=60),
    st.builds("Answer: {}".format, st.text(alphabet="0123456789.,/% cmABC", max_size=12)),
)


@given(answers, st.sampled_from(list(TaskKind)))
def test_a_key_is_its_own_key(text: str, kind: TaskKind) -> None:
    key = answer_key(text, kind)
    assert key is None or answer_key(key, kind) == key


@given(
    answers, st.sampled_from([TaskKind.NUMBER, TaskKind.CHOICE, TaskKind.SHORT]), st.sampled_from([" ", "\n", "\t "])
)
def test_outer_space_does_not_matter(text: str, kind: TaskKind, space: str) -> None:
    assume(text == text.strip())
    assert answer_key(text + space, kind) == answer_key(text, kind)


@given(st.fractions(max_denominator=10**6).filter(lambda value: abs(value.numerator) < 10**12))
def test_every_spelling_of_a_number_has_one_key(value: Fraction) -> None:
    sign = "-" if value < 0 else ""
    over, under = abs(value.numerator), value.denominator
    spellings = [
        f"{value.numerator}/{under}",
        rf"{sign}\frac{{{over}}}{{{under}}}",
        rf"{sign}\dfrac{{ {over} }}{{ {under} }}",
        rf"\frac{{{value.numerator}}}{{{under}}}",
        f"{sign}{over:,}/{under:,}",
        f"{value.numerator * 3}/{under * 3}",
    ]
    keys = {answer_key(rf"\boxed{{{spelling}}}", TaskKind.NUMBER) for spelling in spellings}
    assert keys == {str(value)}


@given(st.integers(-(10**12), 10**12), st.integers(0, 6), st.integers(-(10**12), 10**12))
def test_numeric_and_math_accept_equals_only(digits: int, places: int, other: int) -> None:
    value = Fraction(digits, 10**places)
    decimal = (
        f"{'-' if digits < 0 else ''}{abs(digits) // 10**places}.{abs(digits) % 10**places:0{places}d}"
        if places
        else str(digits)
    )
    for name in ("numeric", "math"):
        kind = PURE_TYPES[name]
        params = msgspec.convert({"reference": decimal}, kind.params)
        assert kind.run(params, f"\\boxed{{{value}}}").outcome is Outcome.PASS
        stated = Fraction(other, 10**places)
        expected = Outcome.PASS if stated == value else Outcome.FAIL
        assert kind.run(params, f"Answer: {stated}").outcome is expected


@given(answers)
def test_checks_never_raise_on_any_text(text: str) -> None:
    for name, raw in (
        ("numeric", {"reference": 5}),
        ("math", {"reference": "5"}),
        ("exact", {"reference": "a"}),
        ("choice", {"reference": "A", "options": ["x", "y"]}),
        ("regex", {"pattern": "a+"}),
        ("json_schema", {"schema": {"type": "integer"}}),
        ("arithmetic_steps", {}),
        ("constraints", {"rules": [{"rule": "unique"}, {"rule": "countdown", "numbers": [1, 2], "target": 3}]}),
        ("constraints", {"rules": [{"rule": "sum", "max": 5}, {"rule": "sudoku", "puzzle": ["...."] * 4}]}),
        ("format", {"max_tokens": 5, "numbered_steps": True, "single_final_answer": True}),
    ):
        kind = PURE_TYPES[name]
        outcome = kind.run(msgspec.convert(raw, kind.params), text.encode(errors="replace").decode()).outcome
        assert outcome in (Outcome.PASS, Outcome.FAIL, Outcome.SKIPPED)


@given(st.text(max_size=200))
def test_reading_any_text_is_safe(text: str) -> None:
    for found in (final_answer(text), last_number(text)):
        assert (found.text is None) != (found.missing is None)
    parse_quantity(text)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(json_values)
def test_json_survives_and_keys_do_not_depend_on_order(value: Any) -> None:
    assert loads(json.dumps(value)) == value
    assume(not isinstance(value, str))
    if isinstance(value, dict):
        backwards = dict(reversed(list(value.items())))
        assert answer_key(json.dumps(backwards), TaskKind.JSON) == answer_key(json.dumps(value), TaskKind.JSON)


@given(st.text(alphabet='[]{}",:0123456789.eE-NaIntruefalsn \\', max_size=40))
def test_our_json_is_a_subset_of_the_standard_library(text: str) -> None:
    try:
        value = loads(text)
    except NotJson:
        return
    assert json.loads(text) == value

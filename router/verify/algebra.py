"""Equality of two mathematical answers, over math-verify. Runs in a worker only: importing it loads the algebra system.

math-verify's verdict is necessary, never sufficient: the two must also agree to 1000 digits, and in strict mode the
answer must be as closed a form as the reference.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import sympy
from latex2sympy2_extended.latex2sympy2 import ConversionConfig, latex2sympy
from math_verify import verify
from math_verify.grader import should_treat_as_complex

from router.verify.math_text import Form, Group, Relation, Scalar, Words, plain_number

_CONFIRMED_DIGITS = 1100  # more than MAX_EXPONENT: no admitted literal is small enough to hide in the difference
_GUARD_DIGITS = 80
_FLIPPED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "=": "=", "!=": "!="}
_DECIMAL = re.compile(r"\d+\.\d*|\.\d+")
_BASE = re.compile(r"[\d)}]\s*_\s*(\{[^{}]*\}|\w)")
_POINTS = ((137, 101), (-89, 53), (211, 97), (-31, 67), (59, 23))
_CONVERSION = ConversionConfig(interpret_as_mixed_fractions=False, lowercase_symbols=False)
_UNEVALUATED = (
    sympy.Integral,
    sympy.Sum,
    sympy.Product,
    sympy.Limit,
    sympy.Derivative,
    sympy.factorial,
    sympy.binomial,
)


class Unparsable(Exception):
    """The algebra system cannot read one of the two: nothing is decided."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Whether the two are equal; if not, why, in words that quote neither."""

    equal: bool
    why: str = ""

    def __bool__(self) -> bool:
        return self.equal


_EQUAL = Comparison(True)
_DIFFERENT = Comparison(False, "the answer differs")
_OTHER_SHAPE = Comparison(False, "the answer has another shape than the reference")
_UNWORKED = Comparison(False, "the final answer is not evaluated")
_OTHER_UNIT = Comparison(False, "the unit differs")


def equal(reference: Form, answer: Form, *, strict: bool) -> Comparison:
    """Whether `answer` is `reference`; `strict` also wants it in closed form. Raises `Unparsable`."""
    if isinstance(reference, Scalar) and isinstance(answer, Scalar):
        return _scalars(reference, answer, strict)
    if isinstance(reference, Relation) and isinstance(answer, Relation):
        return _relations(reference, answer, strict)
    if isinstance(reference, Group) and isinstance(answer, Group):
        return _groups(reference, answer, strict)
    if isinstance(reference, Words) and isinstance(answer, Words):
        return _EQUAL if reference == answer else _DIFFERENT
    return _OTHER_SHAPE


def _groups(reference: Group, answer: Group, strict: bool) -> Comparison:
    if reference.kind != answer.kind or len(reference.items) != len(answer.items):
        return _OTHER_SHAPE
    if reference.kind not in ("set", "union"):
        for wanted, stated in zip(reference.items, answer.items, strict=True):
            if not (found := equal(wanted, stated, strict=strict)):
                return found
        return _EQUAL
    left = list(answer.items)
    for wanted in reference.items:
        match = next((item for item in left if equal(wanted, item, strict=strict)), None)
        if match is None:
            return _DIFFERENT
        left.remove(match)
    return _EQUAL


def _relations(reference: Relation, answer: Relation, strict: bool) -> Comparison:
    if len(reference.signs) != len(answer.signs):
        return _OTHER_SHAPE
    flipped = Relation(answer.sides[::-1], tuple(_FLIPPED[sign] for sign in answer.signs[::-1]))
    for stated in (answer, flipped):
        if stated.signs == reference.signs and all(
            _scalars(wanted, side, strict) for wanted, side in zip(reference.sides, stated.sides, strict=True)
        ):
            return _EQUAL
    solved = reference.sides[0].latex.replace(" ", "")
    if len(reference.signs) > 1 or (strict and (len(solved) == 1 or solved.endswith(")"))):
        return _DIFFERENT
    return _scaled(reference, answer)


def _scaled(reference: Relation, answer: Relation) -> Comparison:
    """`2x + y = 4` and `y = 4 - 2x`: the differences of the sides are in a constant, nonzero ratio."""
    first = _difference(reference, "reference")
    second = _difference(answer, "final answer")
    if first == 0 or second == 0:
        return _DIFFERENT
    ratio = sympy.simplify(first / second)
    if ratio.free_symbols or not ratio.is_real or ratio.is_zero is not False or not _confirmed(first, ratio * second):
        return _DIFFERENT
    sign = answer.signs[0] if ratio.is_positive else _FLIPPED[answer.signs[0]]
    return _EQUAL if sign == reference.signs[0] else _DIFFERENT


def _difference(relation: Relation, whose: str) -> Any:
    left, right = (_parsed(side, whose) for side in relation.sides)
    if isinstance(left, sympy.Set) or isinstance(right, sympy.Set):
        raise Unparsable(f"the {whose} relates sets")
    return left - right


def _scalars(reference: Scalar, answer: Scalar, strict: bool) -> Comparison:
    if reference.unit and reference.unit != answer.unit:
        return _OTHER_UNIT
    if reference.latex == answer.latex or _bases(reference.latex) != _bases(answer.latex):
        return _EQUAL if reference.latex == answer.latex else _DIFFERENT
    wanted, stated = plain_number(reference.latex), plain_number(answer.latex)
    if wanted is not None and stated is not None:
        return _EQUAL if wanted == stated else _DIFFERENT
    if wanted is not None and strict:
        return _UNWORKED
    over_complex = should_treat_as_complex(reference.latex) or should_treat_as_complex(answer.latex)
    gold = _parsed(reference, "reference", over_complex)
    prediction = _parsed(answer, "final answer", over_complex)
    if isinstance(gold, sympy.Set) or isinstance(prediction, sympy.Set):
        return _EQUAL if gold == prediction else _DIFFERENT
    if strict and not _as_closed(prediction, gold):
        return _UNWORKED
    if not _confirmed(gold, prediction):
        return _DIFFERENT
    found = verify(gold, prediction, timeout_seconds=None, raise_on_error=True)
    return _EQUAL if found else _DIFFERENT


def _bases(latex: str) -> list[str]:
    """The subscripts of numbers (`52_8`), which the parser drops."""
    return [base.strip("{} ") for base in _BASE.findall(latex)]


def _parsed(scalar: Scalar, whose: str, over_complex: bool = False) -> Any:
    """The expression, with every decimal as an exact fraction. Decimals would be compared rounded."""
    latex = _exact_decimals(scalar.latex)
    try:
        expression = latex2sympy(
            latex,
            is_real=not over_complex,
            convert_degrees=False,
            normalization_config=None,
            conversion_config=_CONVERSION,
        )
    except Exception as error:  # the parser raises bare Exception for syntax it does not know
        raise Unparsable(f"the {whose} cannot be parsed") from error
    if not isinstance(expression, sympy.Expr | sympy.Set):
        raise Unparsable(f"the {whose} is not an expression")
    if expression.has(sympy.nan, sympy.zoo):
        raise Unparsable(f"the {whose} has no value")
    return expression


def _exact_decimals(latex: str) -> str:
    """LaTeX with its decimal literals as fractions of integers."""
    return _DECIMAL.sub(_as_fraction, latex)


def _as_fraction(decimal: re.Match[str]) -> str:
    whole, _, places = decimal[0].partition(".")
    return f"(\\frac{{{int(whole + places)}}}{{{10 ** len(places)}}})"


def _as_closed(prediction: Any, gold: Any) -> bool:
    """Whether nothing is left to work out: no unevaluated operator, no arithmetic on literals, about as short as the
    reference, and a product where that is a product (so that an expression to be factored or expanded is not one).
    """
    if prediction.has(*_UNEVALUATED) and not gold.has(*_UNEVALUATED):
        return False
    if _literal_work(prediction) > _literal_work(gold):
        return False
    if sympy.count_ops(prediction) > 1.5 * sympy.count_ops(gold) + 3:
        return False
    return _polynomial_form(prediction) == _polynomial_form(gold)


def _literal_work(expression: Any) -> int:
    """How many sums and products of the tree combine two rational numbers that could be combined."""
    work = 0
    for node in sympy.preorder_traversal(expression):
        if isinstance(node, sympy.Add):
            work += max(0, sum(1 for argument in node.args if _rational(argument)) - 1)
        elif isinstance(node, sympy.Mul):
            factors = [argument for argument in _factors(node) if argument.is_Integer and abs(argument) != 1]
            work += max(0, len(factors) - 1)
    return work


def _factors(product: Any) -> list[Any]:
    return [
        factor
        for argument in product.args
        for factor in (_factors(argument) if isinstance(argument, sympy.Mul) else [argument])
    ]


def _rational(expression: Any) -> bool:
    """Whether a subtree is made of integers, sums, products and integer powers alone."""
    return all(
        node.is_Rational or isinstance(node, sympy.Add | sympy.Mul) or (node.is_Pow and node.exp.is_Integer)
        for node in sympy.preorder_traversal(expression)
    )


def _polynomial_form(expression: Any) -> str:
    """`product` when a factor is a sum in symbols or a power of one, `sum` when the whole is, otherwise `other`."""
    if isinstance(expression, sympy.Add) and expression.free_symbols:
        return "sum"
    factors = _factors(expression) if isinstance(expression, sympy.Mul) else [expression]
    sums = [
        factor
        for factor in factors
        if factor.free_symbols
        and (
            isinstance(factor, sympy.Add)
            or (factor.is_Pow and isinstance(factor.base, sympy.Add) and factor.exp.is_positive)
        )
    ]
    symbolic = [factor for factor in factors if factor.free_symbols]
    if len(sums) == 1 and len(symbolic) == 1 and isinstance(sums[0], sympy.Add):
        return "sum"  # a constant times a sum
    return "product" if sums else "other"


def _confirmed(gold: Any, prediction: Any) -> bool:
    """Whether the two agree to 1000 digits: as numbers, or at fixed points of their symbols."""
    if gold == prediction:
        return True
    if (gold - prediction).is_zero is False:
        return False
    symbols = sorted(gold.free_symbols | prediction.free_symbols, key=lambda symbol: symbol.name)
    agreed = 0
    for shift in range(len(_POINTS)):
        point = {s: sympy.Rational(*_POINTS[(shift + i) % len(_POINTS)]) + i for i, s in enumerate(symbols)}
        difference = sympy.N((gold - prediction).subs(point), _CONFIRMED_DIGITS)
        scale = sympy.N(gold.subs(point), _CONFIRMED_DIGITS)
        if not (difference.is_number and difference.is_finite and scale.is_number and scale.is_finite):
            continue
        if abs(difference) > sympy.Float(10) ** (_GUARD_DIGITS - _CONFIRMED_DIGITS) * (1 + abs(scale)):
            return False
        agreed += 1
        if not symbols:
            break
    return agreed > 0 or bool(sympy.simplify(gold - prediction) == 0)

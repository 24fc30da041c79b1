"""What may reach the algebra system at all: bounded length, nesting, digits and powers, known commands, no words."""

from __future__ import annotations

import re

MAX_NESTING = 32
MAX_DIGITS = 50
MAX_EXPONENT = 1000
MAX_POWER_OF_POWERS = 10_000
MAX_UNEVALUATED_DIGITS = 4  # of any literal beside a sum, an integral, a factorial, ... when those are allowed
MAX_VARIABLES_IN_A_ROW = 3


class NotAdmitted(ValueError):
    """The text is no answer we compare; the message completes "the final answer ..."."""


class NotRead(NotAdmitted):
    """It may be mathematics, but our grammar does not cover it: nothing is decided."""


_OPERATORS_TO_WORK_OUT = """int iint iiint oint sum prod lim limsup liminf binom dbinom tbinom gcd lcm det max min sup
    inf arg mod bmod pmod lfloor rfloor lceil rceil partial nabla cdots ldots dots vdots ddots"""
_READ = """frac sqrt pi cdot times div pm mp infty sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh ln log lg
    exp alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho sigma tau
    upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega cup in le leq leqslant ge geq
    geqslant lt gt ne neq emptyset varnothing mathbb begin end vert lvert rvert lbrace rbrace unit"""
UNEVALUATED_COMMANDS = frozenset(_OPERATORS_TO_WORK_OUT.split())
COMMANDS = frozenset(_READ.split()) | UNEVALUATED_COMMANDS | {"\\"}
COMMAND = re.compile(r"\\([A-Za-z]+|.)")
OPEN, CLOSE = "([{", ")]}"
_LITERAL = re.compile(r"\d+(?:\.\d*)?|\.\d+")
_LETTERS = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")
_TWO_NUMBERS = re.compile(r"(?<![_^\d.])\d+(?:\.\d+)? \d")
_NOT_LETTERS = re.compile(r"\\unit\{[^{}]*\}|\{[pbvB]?matrix\}")


def check(text: str, *, allow_unevaluated: bool) -> None:
    """Raise `NotAdmitted` for a text that could hang the algebra system or is not a worked-out answer."""
    if not text:
        raise NotAdmitted("is empty")
    if not text.isascii() or not text.isprintable() or set(text) & set("\"'`@#?%;~"):
        raise NotAdmitted("has characters that are not mathematics")
    commands = {found[1] for found in COMMAND.finditer(text)}
    if not commands <= COMMANDS:
        raise NotRead("has a command we do not read")
    unevaluated = bool(commands & UNEVALUATED_COMMANDS) or re.search(r"[\d)}]\s*!", text) is not None
    if unevaluated and not allow_unevaluated:
        raise NotAdmitted("is not evaluated")
    longest = max((len(found[0]) for found in _LITERAL.finditer(text)), default=0)
    if longest > (MAX_UNEVALUATED_DIGITS if unevaluated else MAX_DIGITS):
        raise NotAdmitted("has a number with too many digits")
    if unevaluated and re.search(r"!\s*!|\)\s*!|\}\s*!|\\infty", text):
        raise NotAdmitted("has a factorial or a bound that is too large")
    if any(len(found[0]) > MAX_VARIABLES_IN_A_ROW for found in _LETTERS.finditer(_NOT_LETTERS.sub("", text))):
        raise NotAdmitted("has words in it")
    if ".." in text:
        raise NotAdmitted("goes on and on")
    if _TWO_NUMBERS.search(text):
        raise NotAdmitted("has two numbers in a row")
    _check_nesting(text)
    _check_powers(text)


def _check_nesting(text: str) -> None:
    level = 0
    for char in text:
        level += (char in OPEN) - (char in CLOSE)
        if level > MAX_NESTING:
            raise NotAdmitted(f"is nested deeper than {MAX_NESTING}")
        if level < 0:
            raise NotAdmitted("has an unmatched bracket")
    if level:
        raise NotAdmitted("has an open bracket")


def _check_powers(text: str) -> None:
    """No tower of literals, no large exponent, no long power of powers."""
    product = 1
    for match in re.finditer(r"\^\s*", text):
        start = match.end()
        end = (matching(text, start) or len(text)) + 1 if text[start : start + 1] in ("{", "(") else start + 1
        exponent = text[start:end]
        if "^" in exponent or text[end:].lstrip(" })").startswith("^"):
            if any(int(float(literal)) > 10 for literal in _LITERAL.findall(exponent)) or not re.search(
                r"[A-Za-z]", exponent
            ):
                raise NotAdmitted("has a tower of powers")
            if exponent.count("^") > 1:
                raise NotAdmitted("has a tower of powers")
        for literal in _LITERAL.findall(exponent):
            if float(literal) > MAX_EXPONENT:
                raise NotAdmitted("has an exponent that is too large")
            if text[: match.start()].rstrip()[-1:] in (")", "}", "]"):
                product *= max(1, int(float(literal)))
    if product > MAX_POWER_OF_POWERS:
        raise NotAdmitted("has a power of powers that is too large")


def matching(text: str, opening: int) -> int | None:
    """The index of the bracket that closes the one at `opening`."""
    level = 0
    for index in range(opening, len(text)):
        level += (text[index] in OPEN) - (text[index] in CLOSE)
        if level == 0:
            return index
    return None

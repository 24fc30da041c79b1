"""Plain numbers with their percent sign, currency or unit, read exactly. Regular expressions here are linear.

A plain number is an integer, a decimal, a fraction of two of them, a mixed number or scientific notation. Thousands
separators count only in groups of three; anything that still has to be worked out is not a plain number.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

MAX_CHARS = 256
MAX_DIGITS = 50
MAX_EXPONENT = 300
CURRENCIES = frozenset("$€£¥₹")


@dataclass(frozen=True, slots=True)
class Quantity:
    """An exact number. `unit` is canonical: `%`, a currency sign, a unit of measurement or a noun, or empty."""

    value: Fraction
    unit: str = ""

    def missing_unit(self, stated: Quantity) -> bool:
        """Whether `stated` has another unit than this reference, which has one. A currency sign may be left out."""
        return self.unit not in ("", stated.unit) and not (self.unit in CURRENCIES and not stated.unit)

    @property
    def percent(self) -> bool:
        """Whether the number is stated in percent."""
        return self.unit == "%"


_DECIMAL = r"(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d*)?|\.\d+)"
_PLAIN = re.compile(
    rf"""(?P<sign>[+-]?)\s*(?P<currency>[$€£¥₹])?\s*(?P<inner>-?)\s*
    (?:(?P<whole>\d+)[ ]+(?P<mixed_over>\d+)/(?P<mixed_under>\d+)
      |(?P<over>{_DECIMAL})\s*/\s*(?P<under>{_DECIMAL})
      |(?P<number>{_DECIMAL})(?:[eE](?P<exponent>[+-]?\d{{1,4}})
        |\s*(?:×|x|\*|\\times|\\cdot)\s*10\s*\^\s*\{{?\s*(?P<power>[+-]?\d{{1,4}})\s*\}}?)?)
    (?P<space>\s*)(?P<unit>[^\d\s].*)?""",
    re.VERBOSE | re.DOTALL,
)
_FRACTION = re.compile(r"\\[dtc]?frac\s*(?:\{\s*(-?[\d.,]+)\s*\}|(\d))\s*(?:\{\s*(-?[\d.,]+)\s*\}|(\d))")
_TEXT = re.compile(r"\\(?:text|mathrm|textrm|textnormal|textbf|mathbf|mbox|textit|operatorname)\s*\{([^{}]*)\}")
_WRAPPERS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("**", "**"), ("`", "`"))
_REPLACEMENTS = str.maketrans(
    {"−": "-", "–": "-", "⁄": "/", "\u00a0": " ", "\u202f": " ", "\u2009": " ", "％": "%", "＄": "$"}
    | {
        char: f" {over}/{under}"
        for char, over, under in (("½", 1, 2), ("⅓", 1, 3), ("⅔", 2, 3), ("¼", 1, 4), ("¾", 3, 4))
    }
)
_INLINE_MATH = re.compile(r"(?<!\\)\$([^$]*)(?<!\\)\$")
_LATEX_SPACE = re.compile(r"\\[,;:! ]|~|\\q?quad\b|\\(?:display|text)style\b")

_ALIASES = {
    alias: unit
    for unit, aliases in {
        "%": "percent pct percents percentage",
        "$": "dollar dollars usd",
        "€": "euro euros eur",
        "£": "gbp",
        "cent": "cents ¢",
        "mm": "millimeter millimeters millimetre millimetres",
        "cm": "centimeter centimeters centimetre centimetres",
        "m": "meter meters metre metres",
        "km": "kilometer kilometers kilometre kilometres",
        "in": "inch inches",
        "ft": "foot feet",
        "yd": "yard yards",
        "mi": "mile miles",
        "mg": "milligram milligrams",
        "g": "gram grams",
        "kg": "kilogram kilograms kgs",
        "lb": "lbs pound pounds",
        "oz": "ounce ounces",
        "ml": "milliliter milliliters millilitre millilitres mL",
        "l": "liter liters litre litres L",
        "s": "second seconds sec secs",
        "min": "minute minutes mins",
        "h": "hour hours hr hrs",
        "day": "days",
        "week": "weeks",
        "month": "months",
        "year": "years yr yrs",
        "°": "degree degrees deg",
        "km/h": "kmh kph",
        "mph": "",
        "m/s": "",
        "m^2": "m² m2 sqm",
        "cm^2": "cm² cm2",
        "m^3": "m³ m3",
        "cm^3": "cm³ cm3",
        "°C": "",
        "°F": "",
    }.items()
    for alias in (unit, *aliases.split())
}
MEASURES = frozenset(_ALIASES.values())
_SCALES = """thousand thousands million millions billion billions trillion trillions hundred hundreds dozen dozens score
    half halves third thirds quarter quarters fifth fifths tenth tenths hundredth hundredths lakh lakhs crore crores k
    mil mn bn tn mio gross mille basis"""
_OPERATIONS = "squared cubed factorial plus minus times over divided multiplied mod modulo choose or to"
_OTHER_WORDS = """pi tau e i sqrt log ln exp sin cos tan and not no nor but than more less fewer at least most between
    about x y z n t infinity remainder r base binary octal hex hexadecimal radians rad negative
    twice"""
_SCALE_WORDS = frozenset(_SCALES.split())
_VALUE_WORDS = _SCALE_WORDS | frozenset(_OPERATIONS.split())
_NOT_UNITS = _VALUE_WORDS | frozenset(_OTHER_WORDS.split())
_ILLIONS = re.compile(r"[a-z]*illions?")  # quadrillion, zillion, ...
_UNIT = re.compile(r"[A-Za-z°¢$€£¥₹%²³][A-Za-z°²³^/ .'-]*")


def parse_quantity(text: str) -> Quantity | None:
    """The plain number that `text` is, whole; `None` when it is anything else or out of bounds."""
    if len(text) > MAX_CHARS:
        return None
    match = _PLAIN.fullmatch(_normalised(text))
    if match is None:
        return None
    value = _value(match)
    unit = _unit(match["unit"] or "")
    if unit and not match["space"] and unit not in MEASURES:  # `5abc` is a product of variables
        return None
    if value is None or unit is None or (match["currency"] and unit not in ("", match["currency"], "$")):
        return None
    if match["sign"] and match["inner"]:
        return None
    negative = "-" in (match["sign"], match["inner"])
    return Quantity(-value if negative else value, unit or match["currency"] or "")


def exact_number(number: int | float) -> Fraction | None:
    """A JSON number as the decimal it was written as; `None` for NaN, infinities and numbers out of bounds."""
    if isinstance(number, int):
        return Fraction(number) if abs(number) < 10**MAX_DIGITS else None
    quantity = parse_quantity(repr(number))  # `nan` and `inf` are no numbers there
    return None if quantity is None else quantity.value


def spoken(text: str) -> str:
    """`text` with its words free of the LaTeX commands around them."""
    return _TEXT.sub(r" \1 ", text)


def scales(word: str) -> bool:
    """Whether a word behind a number multiplies it: `thousand`, `dozen`, `thirds`, any `...illion`."""
    return word.casefold() in _SCALE_WORDS or _ILLIONS.fullmatch(word.casefold()) is not None


def changes_value(word: str) -> bool:
    """Whether a word behind a number makes it another one: a scale or an operation."""
    return scales(word) or word.casefold() in _VALUE_WORDS


def canonical_unit(unit: str) -> str | None:
    """The canonical form of a unit; empty for none, `None` when the words are not a unit."""
    return _unit(_normalised(unit))


def _normalised(text: str) -> str:
    text = _LATEX_SPACE.sub(lambda found: "" if found[0] == r"\!" else " ", text.translate(_REPLACEMENTS))
    text = text.strip().rstrip("\\").strip()  # `5\ ` that was stripped
    for _ in range(4):
        text = text.rstrip(".").strip() if text.endswith(".") and not text.endswith("..") else text
        for opening, closing in _WRAPPERS:
            if text.startswith(opening) and text.endswith(closing) and len(text) > len(opening) + len(closing):
                text = text[len(opening) : -len(closing)].strip()
    text = _INLINE_MATH.sub(r" \1 ", text)
    text = spoken(text).replace("{,}", ",").replace(r"\$", "$").replace(r"\%", "%")
    text = text.replace(r"^{\circ}", "°").replace(r"^\circ", "°").replace(r"\circ", "°").replace(r"\degree", "°")
    text = _FRACTION.sub(lambda found: f" {found[1] or found[2]}/{found[3] or found[4]}", text)
    return text.replace("- ", "-").strip()


def _value(match: re.Match[str]) -> Fraction | None:
    if sum(char.isdigit() for char in match[0]) > MAX_DIGITS or _odd_digits(match[0]):
        return None
    if match["whole"]:
        over, under = int(match["mixed_over"]), int(match["mixed_under"])
        return int(match["whole"]) + Fraction(over, under) if 0 < over < under else None
    if match["over"]:
        under_value = Fraction(match["under"].replace(",", ""))
        return Fraction(match["over"].replace(",", "")) / under_value if under_value else None
    exponent = int(match["exponent"] or match["power"] or 0)
    if abs(exponent) > MAX_EXPONENT:
        return None
    return Fraction(match["number"].replace(",", "")) * Fraction(10) ** exponent


def _odd_digits(text: str) -> bool:
    """Digits of other scripts, which `\\d` takes: we do not read them."""
    return any(char.isdecimal() and not char.isascii() for char in text)


def _unit(text: str) -> str | None:
    text = text.strip().removesuffix(".").strip().replace(" ^", "^").replace("^{2}", "^2").replace("^{3}", "^3")
    if not text:
        return ""
    known = _ALIASES.get(text) or _ALIASES.get(text.casefold())
    if known:
        return known
    words = text.casefold().replace("/", " ").split()
    if len(text) > 40 or _UNIT.fullmatch(text) is None or not _NOT_UNITS.isdisjoint(words):
        return None
    if any(map(scales, re.split(r"[^a-z]+", text.casefold()))):
        return None
    if len(text) <= 2:  # a lone letter or two is a variable, unless it is a known unit
        return None
    return " ".join(text.casefold().split())

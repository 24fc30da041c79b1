"""math-verify as it comes, for comparison: its own parsing and extraction, its default settings."""

from __future__ import annotations

import logging

from gateway.bench.truth import Fact
from router.enums import Outcome

BARE = "math-verify alone"
_TIMEOUT_S = 3


def bare_math_verify(fact: Fact) -> str:
    """What math-verify says of a fact of the table `math`, on the main thread: its deadlines are alarms."""
    # Imported here: the algebra system takes a second to load, and other commands do not need it.
    from math_verify import parse, verify  # noqa: PLC0415
    from math_verify.errors import TimeoutException  # noqa: PLC0415

    if fact.spec is None:
        return "refused"
    logging.getLogger("math_verify").setLevel(logging.CRITICAL)
    reference = str(fact.spec.params["reference"])
    try:
        as_latex = reference if "$" in reference else f"${reference}$"
        gold = parse(as_latex, parsing_timeout=_TIMEOUT_S) or parse(reference, parsing_timeout=_TIMEOUT_S)
        answer = parse(fact.text, parsing_timeout=_TIMEOUT_S)
        if not gold or not answer:
            return Outcome.ERROR
        return Outcome.PASS if verify(gold, answer, timeout_seconds=_TIMEOUT_S, raise_on_error=True) else Outcome.FAIL
    except (TimeoutException, Exception):  # noqa: BLE001  # the process boundary of a library under measurement
        return Outcome.ERROR

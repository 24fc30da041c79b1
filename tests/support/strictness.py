"""Inputs on which a second verifier and its check are compared, and the comparison."""

from __future__ import annotations

from typing import Any

from hypothesis import assume, settings
from hypothesis import strategies as st

from router.enums import Outcome
from router.errors import InvalidRequest
from router.verify.protocol import Task
from router.verify.second.registry import PREFIX
from router.verify.spec import parse_checks
from router.verify.worker import judge

EXAMPLES = settings(max_examples=100, deadline=None)


def refute(check: dict[str, Any], text: str) -> None:
    """Fail the test when the second verifier accepts what the check does not."""
    try:
        (spec,) = parse_checks([check], where="checks", default_timeout_s=3.0)
    except InvalidRequest:
        assume(False)
    params = dict(spec.params)
    if judge(Task(f"{PREFIX}{spec.type}", params), text).outcome is Outcome.PASS:
        assert judge(Task(spec.type, params), text).outcome is Outcome.PASS, (check, text)


FRAMES = (
    r"\boxed{%s}",
    "Answer: %s",
    "#### %s",
    "Answer: **%s**",
    r"\boxed{\text{%s}}",
    "The answer: $%s$.",
    "**Answer:** (%s)",
    r"Maybe \boxed{%s}",
    r"\boxed{\boxed{%s}}",
    "Answer:\n%s",
    "reanswer: %s",
    "##### %s",
    r"\boxed {%s}",
    "She has **%s** now.",
    r"It is \(%s\).",
    "We get $x = %s$.",
    "so %s",
    "It is %s.",
    r"\boxed{a %s}",
    "Answer: not %s",
    "x = %s",
    "= %s or so",
    "Answer: `%s`",
    "Answer: %s\n\nWait",
    "answer*: %s",
    r"\boxed{%s",
    r"\boxed{%s\}}",
    "Answer: %s, I think",
    r"\boxed{x \boxed{%s}}",
    "",
    "Draft %s",
    'Answer: "%s"',
    "5 to %s",
    "y = x + %s",
    r"-\boxed{%s}",
    r"is not \boxed{%s}",
    r"so $x=3$ \boxed{%s}",
    r"\boxed{%s} thousand",
    r"$\boxed{%s}$, 4",
    r"\boxed{%s}^2",
    r"**\boxed{%s}** apples",
    r"\sqrt{\boxed{%s}}",
    "The answer is %s",
    "x - 1 = %s",
)
texts = st.lists(
    st.tuples(st.sampled_from(FRAMES), st.sampled_from(("", "\n", "\n\n", " ", " \n \n", "\r\n\r\n"))),
    min_size=1,
    max_size=3,
)


@st.composite
def completions(draw: st.DrawFn, answers: st.SearchStrategy[str]) -> str:
    """A text that states one answer or two in one way or several."""
    pool = draw(st.lists(answers, min_size=1, max_size=2))
    parts = draw(texts)
    return "".join(frame.replace("%s", draw(st.sampled_from(pool))) + end for frame, end in parts)

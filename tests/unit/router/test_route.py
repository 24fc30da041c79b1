from math import exp

import pytest

from router.difficulty import detect_task, difficulty
from router.domain import CheckSpec, RouteDecision
from router.enums import CheckClass, Effort, Route, TaskKind
from router.plan import Plan
from router.route import Learned, Router, RouterSettings
from router.stopping import PassRate, Seen, VoteBelief, best_return
from tests.support.builders import check_spec, prompt, spec
from tests.support.calibrations import calibration

ROUTER = Router(RouterSettings(threshold=0.5, quorum=0.9, max_samples=5, audit_share=0.02))
NO_AUDIT = 0.9
HARD = "A shop sells 12 boxes of 24 pens each. If 37 pens are broken and each pen costs 3 dollars, how much is left?"


def decide(text="What is 2 + 2?", *checks, effort=Effort.MEDIUM, audit=NO_AUDIT, **fields):
    return ROUTER.decide(prompt(text), spec(*checks, **fields), effort, audit)


def test_easy_arithmetic_takes_one_sample_and_a_word_problem_is_voted() -> None:
    assert decide("What is 2 + 2?")[0].route is Route.SINGLE
    assert decide(HARD)[0].route is Route.VOTE


def test_prose_has_nothing_to_vote_on() -> None:
    decision, _ = decide("Write a poem about the sea, then explain each line, step by step, with 3 examples.")
    assert (decision.route, decision.task) == (Route.SINGLE, TaskKind.OPEN)


@pytest.mark.parametrize("effort", [Effort.NONE, Effort.MINIMAL, Effort.LOW])
def test_low_effort_is_one_sample_even_for_a_hard_prompt_with_a_check(effort: Effort) -> None:
    decision, plan = decide(HARD, check_spec(), effort=effort)
    assert (decision.route, plan.maximum) == (Route.SINGLE, 1)


@pytest.mark.parametrize("effort", [Effort.HIGH, Effort.XHIGH])
def test_high_effort_votes_even_where_answers_cannot_be_compared(effort: Effort) -> None:
    decision, plan = decide("Write a poem.", effort=effort)
    assert (decision.route, plan.maximum, plan.full) == (Route.VOTE, 5, False)


def test_sample_bounds_beat_the_effort() -> None:
    decision, plan = decide(effort=Effort.LOW, min_samples=2, max_samples=3, samples_given=True)
    assert (decision.route, plan.minimum, plan.maximum) == (Route.VOTE, 2, 3)
    decision, plan = decide(HARD, effort=Effort.HIGH, max_samples=1, samples_given=True)
    assert (decision.route, plan.maximum) == (Route.SINGLE, 1)


def test_an_easy_prompt_with_an_oracle_may_escalate() -> None:
    decision, plan = decide("What is 2 + 2?", check_spec())
    assert (decision.route, plan.maximum, plan.oracle) == (Route.SINGLE, 5, True)


def test_an_audited_prompt_gets_a_full_group_with_its_propensity() -> None:
    decision, plan = decide(audit=0.01)
    assert (decision.route, decision.audit, decision.propensity) == (Route.VOTE, True, 0.02)
    assert (plan.minimum, plan.maximum, plan.full) == (5, 5, True)
    assert decide(audit=0.02)[0].propensity == pytest.approx(0.98)


def test_what_cannot_be_voted_is_not_audited() -> None:
    assert not decide("Write a poem.", audit=0.0)[0].audit


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("How many apples are left?", TaskKind.NUMBER),
        ("What is 17 * 3?", TaskKind.NUMBER),
        ("12 * 4 =", TaskKind.NUMBER),
        ("Which is blue?\nA) the sky\nB) grass", TaskKind.CHOICE),
        ("Is ice cold? Answer with yes or no.", TaskKind.SHORT),
        ("Return the address as JSON.", TaskKind.JSON),
        ("Tell me about Rome.", TaskKind.OPEN),
    ],
)
def test_task_detection(text: str, kind: TaskKind) -> None:
    assert detect_task(prompt(text)) is kind


def test_the_checks_say_what_the_answer_is() -> None:
    numeric = check_spec(type="numeric")
    assert detect_task(prompt("Tell me about Rome."), (numeric,)) is TaskKind.NUMBER
    assert detect_task(prompt("How many?", tools=[{"type": "function"}])) is TaskKind.OPEN
    code = check_spec(type="python_outputs", klass=CheckClass.SOFT)
    assert detect_task(prompt("Write a function."), (code,)) is TaskKind.CODE
    process = check_spec(type="arithmetic_steps", klass=CheckClass.PROCESS)
    assert detect_task(prompt("Tell me about Rome."), (process,)) is TaskKind.OPEN


def test_no_tag_in_a_prompt_selects_the_route() -> None:
    for tag in ("<vote>", "reasoning_effort: high", "use 5 samples", "[thinktwice:vote]"):
        assert decide(f"{tag} Tell me about Rome.")[0].route is Route.SINGLE


def test_difficulty_is_a_probability_on_any_text() -> None:
    for text in ("", "a" * 100_000, "1 " * 5000, "\x00☃" * 100):
        assert 0.0 <= difficulty(prompt(text)) <= 1.0


EXPLORING = Router(RouterSettings(threshold=0.5, quorum=0.9, max_samples=5, audit_share=0.02, explore_share=0.1))
NEAR = "A shop sells 12 pens and 7 books, then 30 more pens. How many pens are left in total?"


def test_near_the_threshold_a_share_is_routed_by_a_fair_coin() -> None:
    asked = prompt(NEAR)
    assert abs(difficulty(asked) - 0.5) < 0.1
    drawn = [EXPLORING.decide(asked, spec(), Effort.MEDIUM, draw / 1000)[0] for draw in range(1000)]
    explored = [each for each in drawn if each.reason == "explore"]
    usual = next(each for each in drawn if each.reason in ("easy", "hard"))
    assert len(explored) == 50 and all(each.propensity == pytest.approx(0.05) for each in explored)
    assert {each.route for each in explored} == {Route.SINGLE, Route.VOTE} - {usual.route}
    assert usual.propensity == pytest.approx(0.93)
    assert sum(each.audit for each in drawn) == 20


def test_far_from_the_threshold_nothing_is_explored() -> None:
    for text in ("What is 2 + 2?", HARD):
        drawn = [EXPLORING.decide(prompt(text), spec(), Effort.MEDIUM, draw / 100)[0] for draw in range(100)]
        assert "explore" not in {each.reason for each in drawn}


def test_what_was_asked_for_is_not_explored() -> None:
    drawn = [EXPLORING.decide(prompt(NEAR), spec(), Effort.HIGH, draw / 100)[0] for draw in range(100)]
    assert {each.reason for each in drawn} == {"audit", "requested"}


PRICED = RouterSettings(threshold=0.5, quorum=0.9, max_samples=5, audit_share=0.02, explore_share=0.1)
RIGHT = check_spec(type="numeric")


def lottery(value: float, *checks: CheckSpec) -> list[tuple[RouteDecision, Plan]]:
    """A thousand tickets for a prompt of which one sample in two is right, each of ten tokens; the next one after a
    failure pays `value` / 40 of its cost. Its difficulty lies at the threshold.
    """
    router = Router(PRICED, Learned(calibration(), value))
    return [router.decide(prompt(NEAR), spec(*checks), Effort.MEDIUM, ticket / 1000, "base") for ticket in range(1000)]


@pytest.mark.parametrize(("value", "payable", "other"), [(36.0, 1, (Route.VOTE, 5)), (45.0, 2, (Route.SINGLE, 1))])
def test_near_its_price_a_share_takes_the_other_choice(value: float, payable: int, other: tuple[Route, int]) -> None:
    drawn = lottery(value, RIGHT)
    explored = [(each, plan.payable) for each, plan in drawn if each.reason == "explore"]
    assert [(each.route, most) for each, most in explored] == [other] * 50
    assert [each.propensity for each, _ in explored] == pytest.approx([0.05] * 50)
    usual = [(each, plan.payable) for each, plan in drawn if each.reason not in ("explore", "audit")]
    assert [each.propensity for each, _ in usual] == pytest.approx([0.93] * 930)
    assert {most for _, most in usual} == {payable}
    assert sum(each.audit for each, _ in drawn) == 20


@pytest.mark.parametrize("value", [20.0, 60.0])
def test_far_from_its_price_nothing_is_explored_wherever_the_threshold_lies(value: float) -> None:
    drawn = [each for each, _ in lottery(value, RIGHT)]
    assert "explore" not in {each.reason for each in drawn}
    assert [each.propensity for each in drawn if not each.audit] == pytest.approx([0.98] * 980)


@pytest.mark.parametrize(("times", "usual"), [(0.9, Route.SINGLE), (1.1, Route.VOTE)])
def test_a_vote_near_its_price_is_explored_too(times: float, usual: Route) -> None:
    belief = VoteBelief(PassRate.of(0.5, 1.0), calibration().spread)
    drawn = lottery(times * 10.0 / best_return(belief, Seen((1,), (exp(-1.0),), 1), 4, 1.0))
    explored = [(each.route, plan.worth) for each, plan in drawn if each.reason == "explore"]
    assert explored == [(Route.VOTE, None) if usual is Route.SINGLE else (Route.SINGLE, 0.0)] * 50
    assert {each.route for each, _ in drawn if each.reason in ("worth", "not_worth")} == {usual}


def test_a_question_is_found_at_either_end_of_a_long_prompt() -> None:
    padding = "It was a quiet day. " * 2000
    for text in (f"How many sheep are there? {padding}", f"{padding}How many sheep are there?"):
        assert detect_task(prompt(text)) is TaskKind.NUMBER
    assert detect_task(prompt(f"{padding}How many sheep are there? {padding}")) is TaskKind.OPEN

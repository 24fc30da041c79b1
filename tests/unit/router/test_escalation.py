from collections import Counter
from collections.abc import Sequence

import pytest

from router.domain import Candidate
from router.enums import Outcome, Stopped
from router.escalation import gained, log_odds
from router.plan import Plan, Tally
from router.stopping import PassRate, VoteBelief
from router.vote import elect
from tests.support.builders import candidate

ORACLE = Plan(1, 5, oracle=True, quorum=0.9)
BELIEF = VoteBelief(PassRate.of(0.5, 2.0), spread=5.0)
VOTE = Plan(1, 5, oracle=False, quorum=0.9, voting=BELIEF)
FAILED, SPLIT = Tally(5), Tally(5, votes=(2, 2, 1), evidence=(1.0, 1.0, 1.0))


@pytest.mark.parametrize(
    ("stopped", "gain"),
    [
        (Stopped.CAP, 0.3),
        (Stopped.HOPELESS, 0.3),
        (Stopped.SINGLE, 0.0),
        (Stopped.DECISIVE, 0.0),
        (Stopped.DEADLINE, 0.0),
        (Stopped.SHED, 0.0),
    ],
)
def test_with_an_oracle_only_an_ended_group_without_a_pass_gains(stopped: Stopped, gain: float) -> None:
    assert gained(ORACLE, FAILED, stopped, 0.3) == gain
    assert gained(ORACLE, Tally(5, verified=True), stopped, 0.3) == 0.0


def test_a_group_of_one_by_configuration_may_be_followed() -> None:
    assert gained(Plan(1, 1, oracle=True, quorum=0.9), Tally(1), Stopped.SINGLE, 0.3) == 0.3
    assert gained(Plan(1, 1, oracle=False, quorum=0.9, voting=BELIEF), Tally(1), Stopped.SINGLE, 0.9) == 0.0


def test_an_audited_group_stays_the_policys_own() -> None:
    assert gained(Plan(5, 5, oracle=True, quorum=0.9, full=True), FAILED, Stopped.CAP, 0.9) == 0.0


def test_a_vote_gains_what_the_larger_model_is_likelier_to_be_right_than_its_leader() -> None:
    confidence = BELIEF.confidence(SPLIT.seen)
    assert gained(VOTE, SPLIT, Stopped.CAP, confidence + 0.2) == pytest.approx(0.2)
    assert gained(VOTE, SPLIT, Stopped.CAP, confidence - 0.1) == 0.0


def test_a_vote_at_its_quorum_or_without_a_calibration_is_left_alone() -> None:
    assert gained(VOTE, Tally(5, votes=(5,), evidence=(1.0,)), Stopped.CAP, 0.99) == 0.0
    assert gained(Plan(1, 5, oracle=False, quorum=0.9), SPLIT, Stopped.CAP, 0.99) == 0.0


def larger(index: int, key: str, chance: float) -> Candidate:
    drawn = candidate(index, key, model="big")
    return Candidate(drawn.sample, key, drawn.checks, drawn.verdict, log_odds(chance), vote=0)


def drawing(belief: VoteBelief, answers: Sequence[str | None], right: str | None) -> float:
    """Chance of these answers, one after the other, when this one is right: an urn of passes, tables of wrong ones."""
    joint, solved, tables = 1.0, 0, Counter[str]()
    for drawn, answer in enumerate(answers):
        mean = (belief.pass_rate.solved + solved) / (belief.pass_rate.solved + belief.pass_rate.failed + drawn)
        joint *= mean if answer is not None and answer == right else 1.0 - mean
        if answer is not None and answer == right:
            solved += 1
        elif answer is not None:
            joint *= (tables[answer] or belief.spread) / (tables.total() + belief.spread)
            tables[answer] += 1
    return joint


@pytest.mark.parametrize("spread", [0.1, 1.0, 20.0, 100.0])
@pytest.mark.parametrize("answers", [("1", "1", "2", None, None), ("1", "1", "2", "3", "4"), ("1", "2", "3")])
def test_the_larger_models_word_weighs_its_log_odds_and_no_vote(answers: Sequence[str | None], spread: float) -> None:
    """Its answer that nobody gave wins where its odds exceed the likeliest one's against none of them being right."""
    belief = VoteBelief(PassRate.of(0.3, 2.0), spread)
    even = max(drawing(belief, answers, right) for right in answers if right) / drawing(belief, answers, None)
    own = [candidate(index, key) for index, key in enumerate(answers)]
    for odds, wins in ((even * 1.01, True), (even / 1.01, False)):
        elected = elect([*own, larger(len(own), "9", odds / (1 + odds))], belief).winner
        assert (elected.sample.model == "big") is wins


def test_without_a_calibration_its_answer_breaks_no_majority() -> None:
    own = [candidate(index, key) for index, key in enumerate(("1", "1", "2"))]
    assert elect([*own, larger(3, "2", 0.9)]).winner.answer_key == "1"


def test_its_verified_answer_wins_over_every_vote() -> None:
    own = [candidate(index, "1", Outcome.FAIL, decisive=True) for index in range(5)]
    right = candidate(5, "2", Outcome.PASS, decisive=True)
    won = Candidate(right.sample, "2", right.checks, right.verdict, log_odds(0.1), vote=0)
    assert elect([*own, won], BELIEF).winner is won

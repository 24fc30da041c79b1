import pytest

from router.enums import Outcome, Reason, Status, Stopped
from router.vote import conclude, elect, tally_votes
from tests.support.builders import candidate

PASS, FAIL, ERROR, TIMEOUT = Outcome.PASS, Outcome.FAIL, Outcome.ERROR, Outcome.TIMEOUT


def verdict_of(*candidates, oracle=False, stopped=Stopped.CAP):
    return conclude(candidates, elect(candidates), oracle=oracle, stopped=stopped)


def test_the_majority_wins() -> None:
    ballot = elect([candidate(0, "a"), candidate(1, "b"), candidate(2, "b")])
    assert (ballot.winner.answer_key, ballot.votes, ballot.tie) == ("b", 2, False)


def test_a_verified_answer_beats_any_majority() -> None:
    crowd = [candidate(i, "wrong", FAIL, decisive=True) for i in range(4)]
    ballot = elect([*crowd, candidate(4, "right", PASS, decisive=True)])
    assert ballot.winner.sample.index == 4
    assert verdict_of(*crowd, candidate(4, "right", PASS, decisive=True), oracle=True) == (
        Status.VERIFIED,
        Reason.DECISIVE_PASS,
    )


def test_an_answer_that_a_check_rejects_cannot_win_the_vote() -> None:
    ballot = elect([candidate(0, "a", FAIL), candidate(1, "a", FAIL), candidate(2, "b")])
    assert ballot.winner.answer_key == "b"


def test_agreement_alone_is_never_verified() -> None:
    assert verdict_of(*(candidate(i, "a") for i in range(5))) == (Status.CONSENSUS, Reason.MAJORITY)


def test_unparsable_answers_count_as_samples_but_do_not_vote() -> None:
    group = [candidate(0, "a"), candidate(1, "a"), candidate(2, None), candidate(3, None)]
    assert tally_votes(group) == (2,)
    assert verdict_of(*group)[0] is Status.UNVERIFIED


def test_a_tie_is_unverified() -> None:
    assert verdict_of(candidate(0, "a"), candidate(1, "b")) == (Status.UNVERIFIED, Reason.TIE)


def test_one_sample_without_an_oracle() -> None:
    assert verdict_of(candidate(0, "a"), stopped=Stopped.SINGLE) == (Status.UNVERIFIED, Reason.NO_ORACLE)


def test_failed_needs_every_decisive_check_completed() -> None:
    failing = [candidate(i, "a", FAIL, decisive=True) for i in range(2)]
    assert verdict_of(*failing, oracle=True) == (Status.FAILED, Reason.ALL_FAILED)
    broken = candidate(2, "b", ERROR, decisive=True)
    assert verdict_of(*failing, broken, oracle=True) == (Status.UNVERIFIED, Reason.VERIFIER_ERROR)


def test_a_deadline_leaves_samples_unseen_so_that_nothing_failed() -> None:
    failing = [candidate(i, "a", FAIL, decisive=True) for i in range(2)]
    verdict = verdict_of(*failing, oracle=True, stopped=Stopped.DEADLINE)
    assert verdict == (Status.UNVERIFIED, Reason.DEADLINE)


def test_a_verifier_timeout_is_neither_pass_nor_fail() -> None:
    assert verdict_of(candidate(0, "a", TIMEOUT, decisive=True), oracle=True) == (
        Status.UNVERIFIED,
        Reason.VERIFIER_TIMEOUT,
    )


def test_a_veto_without_an_oracle() -> None:
    assert verdict_of(candidate(0, "a", FAIL), candidate(1, "a", FAIL)) == (Status.UNVERIFIED, Reason.VETO)


def test_a_truncated_answer_and_a_deadline_are_named() -> None:
    assert verdict_of(candidate(0, None, finish_reason="length"))[1] is Reason.TRUNCATED
    assert verdict_of(candidate(0, "a"), stopped=Stopped.DEADLINE)[1] is Reason.DEADLINE


def test_ties_within_an_answer_go_to_confidence_then_length_then_order() -> None:
    sure = candidate(2, "a", text="xx", logprobs=(-0.1, -0.1))
    unsure = candidate(0, "a", text="xx", logprobs=(-1.0, -1.0))
    assert elect([unsure, sure]).winner is sure
    assert elect([candidate(1, "a", text="xx"), candidate(0, "a", text="xx")]).winner.sample.index == 0


def test_an_empty_vote_is_refused() -> None:
    with pytest.raises(ValueError, match="candidate"):
        elect([])

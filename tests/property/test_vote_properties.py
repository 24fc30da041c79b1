from hypothesis import given
from hypothesis import strategies as st

from router.domain import Candidate
from router.enums import Outcome, Status, Stopped
from router.vote import conclude, elect, tally_votes
from tests.support.builders import candidate

outcomes = st.sampled_from([Outcome.PASS, Outcome.FAIL, Outcome.ERROR, Outcome.TIMEOUT, Outcome.SKIPPED])


@st.composite
def groups(draw: st.DrawFn, oracle: bool = False) -> list[Candidate]:
    members = draw(st.lists(st.tuples(st.none() | st.sampled_from("abc"), outcomes), min_size=1, max_size=5))
    return [candidate(i, key, outcome, decisive=oracle) for i, (key, outcome) in enumerate(members)]


@given(groups() | groups(oracle=True), st.randoms())
def test_the_order_of_arrival_does_not_matter(group: list[Candidate], random: object) -> None:
    shuffled = list(group)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert elect(shuffled) == elect(group)
    assert tally_votes(shuffled) == tally_votes(group)


@given(groups(oracle=True))
def test_verified_exactly_when_a_decisive_check_passed(group: list[Candidate]) -> None:
    status, _ = conclude(group, elect(group), oracle=True, stopped=Stopped.CAP)
    assert (status is Status.VERIFIED) == any(c.verdict.verified for c in group)


@given(groups())
def test_without_an_oracle_nothing_is_verified_or_failed(group: list[Candidate]) -> None:
    status, _ = conclude(group, elect(group), oracle=False, stopped=Stopped.CAP)
    assert status in (Status.CONSENSUS, Status.UNVERIFIED)


@given(groups(oracle=True))
def test_failed_only_when_every_sample_was_proved_wrong(group: list[Candidate]) -> None:
    status, _ = conclude(group, elect(group), oracle=True, stopped=Stopped.CAP)
    if status is Status.FAILED:
        assert all(c.verdict.outcome is Outcome.FAIL for c in group)


@given(groups() | groups(oracle=True))
def test_the_winner_is_one_of_the_group_and_votes_are_counted(group: list[Candidate]) -> None:
    ballot = elect(group)
    assert ballot.winner in group
    assert 1 <= ballot.votes <= len(group)

from hypothesis import given
from hypothesis import strategies as st

from router.enums import Stopped
from router.plan import Plan, Tally, majority_confidence, next_wave, shed, stop_reason


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    maximum = draw(st.integers(1, 5))
    minimum = draw(st.integers(1, maximum))
    quorum = draw(st.sampled_from([0.6, 0.85, 0.9, 0.95, 0.99]))
    return Plan(minimum, maximum, draw(st.booleans()), quorum, full=draw(st.booleans()))


def group(plan: Plan, outcomes: list[tuple[bool, int | None]]) -> tuple[int, Stopped]:
    """Samples drawn and why sampling ended, one wave after another."""
    spent = 0
    while (stopped := stop_reason(plan, tally_of(outcomes[:spent]))) is None:
        spent += next_wave(plan, tally_of(outcomes[:spent]))
    return spent, stopped


loads = st.tuples(st.integers(0, 5000), st.integers(1, 1000))


@st.composite
def runs(draw: st.DrawFn) -> tuple[Plan, list[tuple[bool, int | None]]]:
    """A plan, and what each sample in turn would show: whether it verifies, and its answer."""
    plan = draw(plans())
    outcomes = draw(st.lists(st.tuples(st.booleans(), st.none() | st.integers(0, 2)), min_size=5, max_size=5))
    return plan, [(verified and plan.oracle, answer) for verified, answer in outcomes]


def tally_of(seen: list[tuple[bool, int | None]]) -> Tally:
    answers = [answer for _, answer in seen if answer is not None]
    votes = tuple(sorted((answers.count(answer) for answer in set(answers)), reverse=True))
    return Tally(len(seen), any(verified for verified, _ in seen), votes)


@given(runs())
def test_every_group_ends_within_its_bounds(run: tuple[Plan, list[tuple[bool, int | None]]]) -> None:
    plan, outcomes = run
    spent = 0
    while stop_reason(plan, tally_of(outcomes[:spent])) is None:
        wave = next_wave(plan, tally_of(outcomes[:spent]))
        assert 1 <= wave <= plan.maximum - spent
        spent += wave
    assert plan.minimum <= spent <= plan.maximum


@given(runs())
def test_only_an_oracle_stops_as_decisive_and_only_a_vote_as_quorum(
    run: tuple[Plan, list[tuple[bool, int | None]]],
) -> None:
    plan, outcomes = run
    for spent in range(plan.maximum + 1):
        stopped = stop_reason(plan, tally_of(outcomes[:spent]))
        if stopped is Stopped.DECISIVE:
            assert plan.oracle and any(verified for verified, _ in outcomes[:spent])
        if stopped is Stopped.QUORUM:
            assert not plan.oracle


@given(st.integers(0, 30), st.integers(0, 30))
def test_confidence_is_symmetric_and_grows_with_the_lead(first: int, second: int) -> None:
    assert abs(majority_confidence(first, second) + majority_confidence(second, first) - 1.0) < 1e-9
    assert majority_confidence(first + 1, second) > majority_confidence(first, second)


@given(runs())
def test_a_settled_vote_keeps_its_leader_whatever_comes(run: tuple[Plan, list[tuple[bool, int | None]]]) -> None:
    """Where the lead alone settles it (quorum 0.999 is out of reach in five), no continuation changes the winner."""
    _, outcomes = run
    strict = Plan(1, 5, oracle=False, quorum=0.999)
    for spent in range(1, 5):
        tally = tally_of([(False, answer) for _, answer in outcomes[:spent]])
        if stop_reason(strict, tally) is Stopped.QUORUM:
            first, second = tally.leaders
            assert first > second + (strict.maximum - spent)


@given(runs(), loads)
def test_load_takes_extra_samples_and_never_those_asked_for(
    run: tuple[Plan, list[tuple[bool, int | None]]], load: tuple[int, int]
) -> None:
    plan, outcomes = run
    lighter = shed(plan, *load)
    drawn, stopped = group(lighter, outcomes)
    assert plan.minimum <= drawn <= plan.maximum
    assert drawn <= (plan.maximum if lighter.shed_at is None else lighter.shed_at)
    if stopped is Stopped.SHED:
        assert drawn == lighter.shed_at and stop_reason(plan, tally_of(outcomes[:drawn])) is None
    else:
        assert stop_reason(plan, tally_of(outcomes[:drawn])) is stopped


@given(plans(), st.integers(1, 1000), st.integers(0, 5000), st.integers(0, 5000))
def test_more_load_never_leaves_more_samples(plan: Plan, limit: int, one: int, other: int) -> None:
    less, more = sorted((one, other))
    allowed = [shed(plan, load, limit).shed_at or plan.maximum for load in (less, more)]
    assert allowed[0] >= allowed[1]
    assert shed(plan, limit, limit) == plan
    assert (shed(plan, 2 * limit, limit).shed_at or plan.maximum) == plan.minimum

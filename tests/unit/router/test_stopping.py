from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import pytest

from router.stopping import HARD, JEFFREYS, PassRate, Seen, VoteBelief, best_return, paying_batch, wave_ends, worthwhile

RIGHT = "right"


def test_the_chance_of_a_pass_falls_with_every_failure() -> None:
    belief = PassRate.of(0.5, 2.0)
    assert [belief.chance_after(n) for n in range(3)] == pytest.approx([1 / 2, 1 / 3, 1 / 4])
    assert belief.survival(3) == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4])


def test_a_sample_is_drawn_while_it_repays_its_cost() -> None:
    belief = PassRate.of(0.5, 2.0)  # the chances are 1/2, 1/3, 1/4, 1/5, 1/6
    assert [worthwhile(belief, 5, worth) for worth in (0.5, 2.9, 3.1, 4.1, 100.0)] == [1, 1, 2, 3, 5]


@pytest.mark.parametrize("belief", [JEFFREYS, HARD, PassRate.of(0.9, 3.0), PassRate.of(0.05, 3.0), PassRate(1, 1)])
@pytest.mark.parametrize("slack", [0.0, 0.05, 0.1, 0.5])
def test_waves_waste_no_more_than_they_may(belief: PassRate, slack: float) -> None:
    ends, alive = wave_ends(belief, 5, slack), belief.survival(5)
    samples = sum((end - start) * alive[start] for start, end in zip((0, *ends[:-1]), ends, strict=True))
    assert samples <= (1 + slack) * sum(alive[:5]) + 1e-12
    assert slack > 0 or ends == (1, 2, 3, 4, 5)


def test_the_less_a_prompt_is_solved_the_larger_its_first_wave() -> None:
    first = [wave_ends(PassRate.of(mean, 1.5), 5, 0.1)[0] for mean in (0.9, 0.5, 0.2, 0.1, 0.02)]
    assert first == sorted(first) and first[0] == 1 and first[-1] == 5


@pytest.mark.parametrize("drawn", [(), ("a",), ("a", "a"), ("a", "b"), ("a", None), ("a", "a", "b"), (None,)])
@pytest.mark.parametrize(("rate", "spread"), [((0.4, 1.3), 2.5), ((0.1, 4.0), 0.3), ((0.8, 0.5), 50.0)])
def test_confidence_is_the_sum_over_all_continuations(
    drawn: tuple[str | None, ...], rate: tuple[float, float], spread: float
) -> None:
    belief = VoteBelief(PassRate.of(*rate), spread)
    counts = Counter(each for each in drawn if each is not None)
    seen = Seen(tuple(counts.values()), (1.0,) * len(counts), len(drawn))
    for more in range(min(4, 6 - len(drawn))):
        assert belief.confidence(seen, more) == pytest.approx(_by_enumeration(belief, drawn, more))


def test_evidence_moves_the_odds_by_its_likelihood_ratio() -> None:
    belief = VoteBelief(PassRate.of(0.5, 2.0), 3.0)
    plain, favoured = (belief.confidence(Seen((1,), (ratio,), 1)) for ratio in (1.0, 4.0))
    assert favoured / (1 - favoured) == pytest.approx(4.0 * plain / (1 - plain))


def test_samples_are_drawn_for_a_vote_only_while_they_can_pay() -> None:
    belief = VoteBelief(PassRate.of(0.6, 1.5), 5.0)
    split = Seen((1, 1), (1.0, 1.0), 2)
    assert paying_batch(belief, split, 3, worth=1.0)[0] == 0
    assert paying_batch(belief, split, 3, worth=1000.0)[0] >= 1
    assert paying_batch(belief, Seen((1,), (1.0,), 1), 4, worth=100.0)[0] == 2  # one more vote alone changes no winner
    assert paying_batch(belief, Seen((1,), (1e6,), 1), 4, worth=100.0)[0] == 0


@pytest.mark.parametrize("rate", [0.1, 0.4, 0.7, 0.95])
@pytest.mark.parametrize("tilt", [0.1, 0.37, 1.0, 5.0])
@pytest.mark.parametrize("worth", [0.5, 2.0, 4.0, 6.0, 9.0, 20.0, 200.0])
def test_a_batch_pays_where_the_best_return_is_above_its_price(rate: float, tilt: float, worth: float) -> None:
    belief, seen = VoteBelief(PassRate.of(rate, 1.5), 4.0), Seen((1,), (tilt,), 1)
    gains = [belief.elected(seen, more) - belief.elected(seen, 0) for more in range(5)]
    best = max(gains[more] / more for more in range(1, 5)) / belief.evidence(seen) * worth
    assert best_return(belief, seen, 4, worth) == pytest.approx(best)
    assert (best > 1.0) == (paying_batch(belief, seen, 4, worth)[0] > 0)


@pytest.mark.parametrize("votes", [(), (1,), (1, 1), (2,), (2, 1)])
def test_more_samples_never_make_a_vote_worse(votes: tuple[int, ...]) -> None:
    """What `paying_batch` relies on to stop early."""
    for mean, strength, spread in ((0.5, 1.0, 5.0), (0.1, 4.0, 0.3), (0.8, 0.5, 50.0)):
        belief = VoteBelief(PassRate.of(mean, strength), spread)
        seen = Seen(votes, tuple(0.5 + vote for vote in votes), sum(votes))
        chances = [belief.confidence(seen, more) for more in range(6 - sum(votes))]
        assert all(later >= sooner - 1e-12 for sooner, later in pairwise(chances))


def _by_enumeration(belief: VoteBelief, drawn: tuple[str | None, ...], more: int) -> float:
    """Over all ways in which the samples and `more` answers can come about, the best guess at the right answer."""
    joint: Counter[tuple[tuple[tuple[str, int], ...], str]] = Counter()
    total = 0.0
    for right in {*drawn, RIGHT} - {None}:
        chance = 1.0
        told: list[str] = []
        for position, each in enumerate(drawn):
            solved = told.count(right)
            of = belief.pass_rate.solved + belief.pass_rate.failed + position
            if each == right:
                chance *= (belief.pass_rate.solved + solved) / of
            else:
                chance *= (belief.pass_rate.failed + position - solved) / of
                chance *= 1.0 if each is None else _wrong(belief, told, right, each)
            told += [each] if each is not None else []
        total += chance
        for answers, continued in _continuations(belief, tuple(told), right, len(drawn), more):
            names = _names(answers)
            outcome = tuple(sorted(Counter(names[each] for each in answers).items()))
            joint[outcome, names.get(right, "")] += chance * continued
    best: dict[tuple[tuple[str, int], ...], float] = {}
    for (outcome, right), chance in joint.items():
        if right in dict(outcome):
            best[outcome] = max(best.get(outcome, 0.0), chance)
    return sum(best.values()) / total


def _continuations(
    belief: VoteBelief, told: tuple[str, ...], right: str, drawn: int, more: int
) -> Iterator[tuple[tuple[str, ...], float]]:
    if more == 0:
        yield told, 1.0
        return
    of = belief.pass_rate.solved + belief.pass_rate.failed + drawn
    solved = told.count(right)
    wrong = (belief.pass_rate.failed + drawn - solved) / of
    steps = {right: (belief.pass_rate.solved + solved) / of}
    fresh = f"new{drawn}"
    for each in {*told, fresh} - {right}:
        steps[each] = wrong * _wrong(belief, list(told), right, each)
    for each, chance in steps.items():
        for answers, rest in _continuations(belief, (*told, each), right, drawn + 1, more - 1):
            yield answers, chance * rest


def _names(told: tuple[str, ...]) -> dict[str, str]:
    """New answers are named by their order of appearance: a right one looks like any other."""
    names: dict[str, str] = {}
    for each in told:
        names.setdefault(each, each if len(each) == 1 else f"n{len(names)}")
    return names


def _wrong(belief: VoteBelief, told: list[str], right: str, each: str) -> float:
    others = [other for other in told if other != right]
    return (others.count(each) or belief.spread) / (belief.spread + len(others))

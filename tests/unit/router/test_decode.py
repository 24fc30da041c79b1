import asyncio

import pytest
from msgspec.structs import replace

from router.decode import Decoded, Decoder, Task
from router.domain import Sampling
from router.enums import CheckClass, Outcome, Status, Stopped, TaskKind
from router.errors import BackendError, BackendRejected, BackendTimeout, BackendUnavailable, VerifierUnavailable
from router.plan import Plan
from router.stopping import HARD
from router.vote import conclude, elect
from tests.support.builders import PLAIN, check_spec, prompt, spec, tool_call
from tests.support.fakes import Line, ScriptedBackend, TextVerifier

ORACLE = Plan(1, 5, oracle=True, quorum=0.9, belief=HARD)
VOTE = Plan(1, 5, oracle=False, quorum=0.9)


def task(*checks, sampling=PLAIN, deadline_s=10.0, kind=TaskKind.NUMBER):
    deadline = asyncio.get_running_loop().time() + deadline_s
    return Task(prompt(sampling=sampling), spec(*checks), kind, "base", deadline)


async def test_the_first_pass_ends_the_group_and_cancels_the_losers() -> None:
    backend = ScriptedBackend([Line("right", delay_s=0.0), Line("slow", delay_s=5.0)])
    decoded = await Decoder(backend, TextVerifier()).decode(task(check_spec()), ORACLE)
    assert decoded.stopped is Stopped.DECISIVE
    assert [c.sample.text for c in decoded.candidates] == ["right"]
    assert backend.cancelled == 1
    [censored] = decoded.unjudged
    assert (censored.index, censored.completed, censored.text) == (1, False, "sl")
    assert decoded.tokens.completion == len("right") + len("sl")


async def test_without_a_pass_every_sample_is_drawn() -> None:
    backend = ScriptedBackend([Line("wrong")])
    decoded = await Decoder(backend, TextVerifier()).decode(task(check_spec()), ORACLE)
    assert decoded.stopped is Stopped.CAP
    assert [c.sample.index for c in decoded.candidates] == [0, 1, 2, 3, 4]
    assert [draw.n for draw in backend.draws] == [2, 3]
    assert all(c.verdict.outcome is Outcome.FAIL for c in decoded.candidates)


async def test_unlike_settings_are_drawn_apart() -> None:
    backend = ScriptedBackend([Line("4")])
    await Decoder(backend, TextVerifier()).decode(task(sampling=Sampling(temperature=0.0)), VOTE)
    assert [(draw.n, draw.sampling.temperature) for draw in backend.draws] == [(1, 0.0), (2, 1.0)]


async def test_a_unanimous_vote_stops_at_three() -> None:
    decoded = await Decoder(ScriptedBackend([Line("4")]), TextVerifier()).decode(task(), VOTE)
    assert (decoded.stopped, len(decoded.candidates)) == (Stopped.QUORUM, 3)


async def test_a_truncated_sample_does_not_vote() -> None:
    decoded = await Decoder(ScriptedBackend([Line("4", "length")]), TextVerifier()).decode(task(), VOTE)
    assert decoded.stopped is Stopped.CAP
    assert all(c.answer_key is None for c in decoded.candidates)


async def test_an_escalated_group_goes_on_from_its_first_sample() -> None:
    decoder = Decoder(ScriptedBackend([Line("wrong"), Line("right")]), TextVerifier())
    job = task(check_spec())
    first = await decoder.decode(job, Plan(1, 1, oracle=True, quorum=0.9))
    decoded = await decoder.decode(job, ORACLE, first=first)
    assert [c.sample.index for c in decoded.candidates][:2] == [0, 1]
    assert decoded.stopped is Stopped.DECISIVE


async def test_a_failed_draw_is_data_and_the_group_goes_on() -> None:
    failing = Line("x", error=BackendUnavailable("gone"))
    backend = ScriptedBackend([failing, Line("right")])
    decoded = await Decoder(backend, TextVerifier()).decode(task(check_spec(), sampling=Sampling()), ORACLE)
    assert decoded.failures == ["gone"]
    assert decoded.stopped is Stopped.DECISIVE


async def test_an_engine_that_gives_nothing_twice_is_its_error() -> None:
    backend = ScriptedBackend([Line("x", error=BackendUnavailable("gone"))])
    with pytest.raises(BackendUnavailable, match="gone"):
        await Decoder(backend, TextVerifier()).decode(task(check_spec()), ORACLE)
    assert len(backend.draws) == 2


async def test_a_wave_lost_to_its_engine_is_followed_by_another() -> None:
    lost = Line("x", error=BackendUnavailable("gone"))
    backend = ScriptedBackend([lost, lost, Line("right")])
    decoded = await Decoder(backend, TextVerifier()).decode(task(check_spec()), ORACLE)
    assert decoded.stopped is Stopped.DECISIVE and decoded.failures == ["gone", "gone"]


@pytest.mark.parametrize("error", [BackendTimeout("late"), BackendRejected("no", 400, {})])
async def test_a_refusal_is_not_asked_twice(error: BackendError) -> None:
    backend = ScriptedBackend([Line("x", error=error)])
    with pytest.raises(type(error)):
        await Decoder(backend, TextVerifier()).decode(task(check_spec()), ORACLE)
    assert len(backend.draws) == 1


async def test_a_full_group_lost_to_its_engine_is_its_error() -> None:
    backend = ScriptedBackend([Line("x", error=BackendUnavailable("gone"))])
    with pytest.raises(BackendUnavailable, match="gone"):
        await Decoder(backend, TextVerifier()).decode(task(check_spec()), replace(ORACLE, minimum=5, full=True))


async def test_the_deadline_ends_the_group_with_what_there_is() -> None:
    backend = ScriptedBackend([Line("wrong"), Line("slow", delay_s=5.0)])
    decoded = await Decoder(backend, TextVerifier()).decode(task(check_spec(), deadline_s=0.3), ORACLE)
    assert decoded.stopped is Stopped.DEADLINE
    assert [c.sample.text for c in decoded.candidates] == ["wrong"]
    assert [s.text for s in decoded.unjudged] == ["sl"]


async def test_a_deadline_before_the_first_sample_is_a_timeout() -> None:
    backend = ScriptedBackend([Line("slow", delay_s=5.0)])
    with pytest.raises(BackendTimeout):
        await Decoder(backend, TextVerifier()).decode(task(check_spec(), deadline_s=0.2), ORACLE)
    assert backend.cancelled == 2


async def test_a_verifier_without_room_makes_errors_never_failures() -> None:
    class Full(TextVerifier):
        async def verify(self, checks, text):
            raise VerifierUnavailable("queue full")

    decoded = await Decoder(ScriptedBackend([Line("right")]), Full()).decode(task(check_spec()), ORACLE)
    assert {c.verdict.outcome for c in decoded.candidates} == {Outcome.ERROR}


async def test_cancelling_a_group_cancels_its_draws() -> None:
    backend = ScriptedBackend([Line("slow", delay_s=30.0)])
    running = asyncio.create_task(Decoder(backend, TextVerifier()).decode(task(check_spec()), ORACLE))
    await asyncio.sleep(0.05)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert backend.cancelled == 2


async def test_a_full_group_is_drawn_to_the_end_whatever_passes() -> None:
    plan = Plan(5, 5, oracle=True, quorum=0.9, full=True)
    backend = ScriptedBackend([Line("right")])
    decoded = await Decoder(backend, TextVerifier()).decode(task(check_spec()), plan, Decoded())
    assert (len(decoded.candidates), [draw.n for draw in backend.draws]) == (5, [5])


def calling(arguments: str, call_id: str = "call-1", text: str = "") -> Line:
    return Line(text, "tool_calls", tool_calls=(tool_call(arguments, call_id=call_id),))


async def test_samples_vote_by_the_value_of_their_tool_calls() -> None:
    lines = [calling('{"a": 1, "b": 2}', "x"), calling('{"b":2,"a":1.0}', "y"), calling('{"a": 3}', "z")]
    backend = ScriptedBackend([lines[0], lines[2], lines[1]])
    decoded = await Decoder(backend, TextVerifier()).decode(task(kind=TaskKind.OPEN), Plan(3, 3, False, 0.9))
    ballot = elect(decoded.candidates)
    assert (ballot.votes, ballot.tie) == (2, False) and ballot.winner.sample.index == 0
    assert conclude(decoded.candidates, ballot, oracle=False, stopped=decoded.stopped)[0] is Status.CONSENSUS


@pytest.mark.parametrize("checks", [(), (check_spec(),)])
async def test_equal_tool_calls_settle_the_vote_whatever_is_to_be_checked(checks) -> None:
    backend, verifier = ScriptedBackend([calling("{}")]), TextVerifier()
    plan = ORACLE if checks else VOTE
    decoded = await Decoder(backend, verifier).decode(task(*checks), plan)
    assert (decoded.stopped, len(decoded.candidates), verifier.calls) == (Stopped.QUORUM, 3, 0)
    assert {result.outcome for c in decoded.candidates for result in c.checks} <= {Outcome.SKIPPED}
    assert not any(c.verdict.verified for c in decoded.candidates) and not decoded.applying(plan).oracle


async def test_an_answer_beside_tool_calls_is_still_judged() -> None:
    backend = ScriptedBackend([calling("{}"), Line("right")])
    decoded = await Decoder(backend, TextVerifier()).decode(task(check_spec()), ORACLE)
    assert decoded.stopped is Stopped.DECISIVE and decoded.applying(ORACLE).oracle
    assert elect(decoded.candidates).winner.sample.text == "right"


async def test_a_veto_reads_the_text_beside_tool_calls() -> None:
    veto = check_spec("fine", CheckClass.VETO, id="v", required=True)
    backend = ScriptedBackend([calling("{}", text="not f1ne")])
    decoded = await Decoder(backend, TextVerifier()).decode(task(check_spec(), veto), Plan(1, 1, True, 0.9))
    [candidate] = decoded.candidates
    assert {result.id: result.outcome for result in candidate.checks} == {"v": Outcome.FAIL, "c0": Outcome.SKIPPED}
    assert candidate.verdict.outcome is Outcome.FAIL


@pytest.mark.parametrize("line", [calling("no json"), Line("", "length", tool_calls=(tool_call("{}"),))])
async def test_tool_calls_that_cannot_be_compared_do_not_vote(line: Line) -> None:
    decoded = await Decoder(ScriptedBackend([line]), TextVerifier()).decode(task(), VOTE)
    assert decoded.stopped is Stopped.CAP and all(c.answer_key is None for c in decoded.candidates)

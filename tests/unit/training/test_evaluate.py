"""`thinktwice evaluate` against a scripted gateway: what is sent, what is concluded, and when nothing is."""

import argparse
import json
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from router.errors import ConfigError, TrainingError
from router.questions import Question
from tests.support.scripted_gateway import CANDIDATE, CHAMPION, Respond, ScriptedGateway, completion, refused
from training.evaluate import Arm, Plan
from training.evaluate_command import register

QUESTIONS = 60


def number_of(body: Mapping[str, Any]) -> int:
    return int(body["messages"][-1]["content"])


def policy_of(body: Mapping[str, Any]) -> str:
    return CHAMPION if body["model"] == "champion" else str(body["model"])


def is_candidate(body: Mapping[str, Any]) -> bool:
    return str(body["model"]) == CANDIDATE


def better(body: Mapping[str, Any]) -> tuple[int, Mapping[str, Any]]:
    """The champion solves the questions below 30, the candidate those below 40."""
    return completion(policy_of(body), number_of(body) < (40 if is_candidate(body) else 30))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "heldout.jsonl"
    path.write_text("".join(json.dumps({"question": str(n), "answer": n}) + "\n" for n in range(QUESTIONS)))
    return path


def parsed(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    register(parser.add_subparsers())
    return parser.parse_args(["evaluate", "--candidate", CANDIDATE, *arguments])


def evaluated(respond: Respond, data: Path, capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, Any]:
    with ScriptedGateway(respond) as gateway:
        args = parsed("--data", str(data), "--url", gateway.url, "--json", *more)
        assert args.run(args) == 0
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    return report


def refusal(respond: Respond, data: Path, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    """The error that ends an evaluation, which must print nothing."""
    with ScriptedGateway(respond) as gateway:
        args = parsed("--data", str(data), "--url", gateway.url, *more)
        with pytest.raises(TrainingError) as error:
            args.run(args)
    assert capsys.readouterr().out == ""
    return str(error.value)


def test_a_better_candidate_is_promoted(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = evaluated(better, data, capsys)
    assert report["verdict"] == "promote" and "10 wins to 0" in report["why"]
    assert {name: report[name] for name in ("questions", "pairs", "n01", "n10", "both", "neither", "dropped")} == {
        "questions": 60, "pairs": 60, "n01": 10, "n10": 0, "both": 30, "neither": 20, "dropped": 0,
    }  # fmt: skip
    assert report["p_value"] == 2**-10 and report["discordant_share"] == 10 / 60
    assert report["difference"]["value"] == pytest.approx(1 / 6) and report["difference"]["low"] > 0
    assert 0.1 < report["mde"] < 0.2 and report["power"] == 0.8
    candidate, champion = report["arms"]["candidate"], report["arms"]["champion"]
    assert (candidate["policy"], champion["policy"]) == (CANDIDATE, CHAMPION)
    assert candidate["solved"]["successes"] == 40 and champion["solved"]["successes"] == 30
    assert candidate["tokens_per_answer"]["value"] == 10 and candidate["tokens_per_solved"]["value"] == 15 * 60 / 40
    assert champion["cost_per_solved_usd"]["value"] == pytest.approx(0.001 * 60 / 30)
    assert champion["cost_per_solved_usd"]["low"] < 0.002 < champion["cost_per_solved_usd"]["high"]
    assert [guard["holds"] for guard in report["guards"]] == [True, True, True]


def test_each_question_goes_to_both_uncached_and_with_the_same_seed(data: Path) -> None:
    with ScriptedGateway(better) as gateway:
        args = parsed("--data", str(data), "--url", gateway.url, "--samples", "3", "--max-tokens", "64", "--limit", "9")
        assert args.run(args) == 0
    assert Counter((body["model"], number_of(body)) for _, body in gateway.requests) == Counter(
        (model, number) for model in ("champion", CANDIDATE) for number in range(9)
    )
    for headers, body in gateway.requests:
        assert headers["x-thinktwice-purpose"] == "eval" and headers["cache-control"] == "no-store"
        assert body["verification"]["samples"] == {"min": 3, "max": 3} and body["max_tokens"] == 64
        assert body["verification"]["checks"] == [{"type": "numeric", "reference": str(number_of(body))}]
    seeds = {(number_of(body), body["seed"]) for _, body in gateway.requests}
    assert len(seeds) == 9 == len({seed for _, seed in seeds})


def test_the_order_is_random_and_repeatable() -> None:
    questions = [Question(line, ({"role": "user", "content": "?"},), {}) for line in range(1, 41)]
    names = {Arm.CANDIDATE: CANDIDATE, Arm.CHAMPION: "champion"}

    def order(seed: int) -> list[tuple[int, Arm]]:
        return [(question.line, arm) for question, arm in Plan(questions, names, seed=seed).jobs()]

    assert order(1) == order(1) != order(2)
    assert [line for line, _ in order(1)[::2]] == [line for line, _ in order(1)[1::2]] != list(range(1, 41))
    assert {arm for _, arm in order(1)[::2]} == set(Arm)
    longer = Plan([*questions, Question(99, (), {})], names)
    assert longer.body(questions[0], Arm.CHAMPION) == Plan(questions, names).body(questions[0], Arm.CHAMPION)


def test_an_equal_candidate_is_held(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = evaluated(lambda body: completion(policy_of(body), number_of(body) % 2 == 0), data, capsys)
    assert report["verdict"] == "hold" and "not shown to be better" in report["why"]
    assert (report["n01"], report["n10"], report["p_value"], report["e_value"]) == (0, 0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("change", "guard"), [({"tokens": 20}, "tokens per answer"), ({"finish": "length"}, "truncated share")]
)
def test_a_better_candidate_that_fails_a_guard_is_held(
    change: dict[str, Any], guard: str, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def respond(body: Mapping[str, Any]) -> tuple[int, Mapping[str, Any]]:
        solved = number_of(body) < (40 if is_candidate(body) else 30)
        return completion(policy_of(body), solved, **(change if is_candidate(body) else {}))

    report = evaluated(respond, data, capsys)
    assert report["verdict"] == "hold" and guard in report["why"] and report["p_value"] < 0.05


def guarded(data: Path, many: int) -> Path:
    """The questions, and `many` more from 1000 on of the guard set `general`."""
    with data.open("a") as file:
        for n in range(1000, 1000 + many):
            file.write(json.dumps({"question": str(n), "answer": n, "guard": "general"}) + "\n")
    return data


@pytest.mark.parametrize(
    ("lost", "many", "verdict"), [(0, 60, "promote"), (6, 60, "hold"), (0, 40, "hold"), (1, 300, "promote")]
)
def test_a_guard_set_must_not_get_worse_and_is_no_part_of_the_test(
    lost: int, many: int, verdict: str, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without any loss 52 questions are needed to show that not five points are lost."""

    def respond(body: Mapping[str, Any]) -> tuple[int, Mapping[str, Any]]:
        if number_of(body) < 1000:
            return better(body)
        return completion(policy_of(body), not (is_candidate(body) and number_of(body) < 1000 + lost), tokens=99)

    report = evaluated(respond, guarded(data, many), capsys)
    assert report["verdict"] == verdict
    assert (report["questions"], report["pairs"], report["n01"], report["n10"]) == (60, 60, 10, 0)
    assert report["arms"]["candidate"]["tokens_per_answer"]["value"] == 10
    guard = report["guards"][-1]
    assert guard["name"] == "general: unsolved share (difference)" and guard["estimate"]["n"] == many
    assert guard["estimate"]["value"] == pytest.approx(lost / many) and guard["holds"] is (verdict == "promote")
    assert (guard["name"] in report["why"]) is not guard["holds"]


def test_guard_sets_alone_give_no_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rows.jsonl").write_text("")
    assert "only guard sets were asked" in refusal(better, guarded(tmp_path / "rows.jsonl", 5), capsys)


def test_more_samples_are_reported_beside_the_test(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def respond(body: Mapping[str, Any]) -> tuple[int, Mapping[str, Any]]:
        k = body["verification"]["samples"]["max"]
        return completion(policy_of(body), number_of(body) < (50 if k == 5 else 30), samples=k, tokens=10 * k)

    report = evaluated(respond, guarded(data, 3), capsys, "--solve-at", "5")
    assert (report["n01"], report["n10"], report["arms"]["candidate"]["solved"]["successes"]) == (0, 0, 30)
    assert report["solve_at"]["samples"] == 5
    for arm in Arm:
        found = report["solve_at"]["arms"][arm]
        assert (found["solved"]["successes"], found["solved"]["n"]) == (50, 60)
        assert found["tokens_per_answer"]["value"] == 10 and found["tokens_per_solved"]["value"] == 55 * 60 / 50


BROKEN: dict[str, Respond] = {
    "503 backend_unavailable": lambda body: refused(503, "backend_unavailable"),
    "verifier_timeout": lambda body: completion(
        policy_of(body), status="unverified", reason="verifier_timeout", solved=False
    ),
    "no_oracle": lambda body: completion(policy_of(body), status="unverified", reason="no_oracle", solved=False),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize(("broken", "verdict"), [(3, "promote"), (4, "inconclusive")])
def test_errors_are_counted_apart_and_too_many_leave_no_conclusion(
    name: str, broken: int, verdict: str, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def respond(body: Mapping[str, Any]) -> tuple[int, Mapping[str, Any]]:
        return BROKEN[name](body) if number_of(body) >= QUESTIONS - broken else better(body)

    report = evaluated(respond, data, capsys)
    assert report["verdict"] == verdict
    assert (report["pairs"], report["dropped"]) == (QUESTIONS - broken, broken)
    assert (report["n01"], report["both"], report["neither"]) == (10, 30, 20 - broken)
    assert [report["arms"][arm]["errors"] for arm in Arm] == [{name: broken}] * 2


def test_errors_of_the_candidate_alone_hold_it(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def respond(body: Mapping[str, Any]) -> tuple[int, Mapping[str, Any]]:
        return refused(504, "backend_error") if is_candidate(body) and number_of(body) > 57 else better(body)

    report = evaluated(respond, data, capsys)
    assert report["verdict"] == "hold" and "error share" in report["why"]
    assert report["arms"]["champion"]["errors"] == {}


def test_an_answer_from_another_policy_ends_it(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = refusal(lambda _: completion(CHAMPION), data, capsys)
    assert f"asked for {CANDIDATE}, the gateway answered with {CHAMPION}" in message and "no verdict" in message


def test_a_champion_that_changes_on_the_way_ends_it(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seen: Counter[str] = Counter()

    def respond(body: Mapping[str, Any]) -> tuple[int, Mapping[str, Any]]:
        seen[body["model"]] += 1
        return completion("policy-9-cccccccc" if seen["champion"] > 20 and not is_candidate(body) else policy_of(body))

    assert "asked for champion" in refusal(respond, data, capsys)
    assert seen["champion"] < QUESTIONS


def test_the_champion_is_not_compared_with_itself(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "nothing to compare" in refusal(lambda _: completion(CANDIDATE), data, capsys)
    with pytest.raises(ConfigError, match="nothing to compare"):
        args = parsed("--data", str(data), "--against", CANDIDATE)
        args.run(args)


def test_a_policy_that_is_not_served_ends_it(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with ScriptedGateway(better, models=("base", "champion")) as gateway:
        args = parsed("--data", str(data), "--url", gateway.url)
        with pytest.raises(TrainingError, match=f"does not serve {CANDIDATE}"):
            args.run(args)
    assert gateway.requests == []
    message = refusal(
        lambda body: refused(404, "model_not_found") if is_candidate(body) else better(body), data, capsys
    )
    assert f"refused {CANDIDATE} (404 model_not_found)" in message


def test_without_a_gateway_there_is_one_line(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with ScriptedGateway(better) as gateway:
        url = gateway.url
    args = parsed("--data", str(data), "--url", url)
    with pytest.raises(TrainingError, match=r"no gateway answers at .*connection.*thinktwice up"):
        args.run(args)
    assert "no thinktwice gateway" in refusal(lambda _: (200, {"choices": []}), data, capsys)
    args = parsed("--data", str(data), "--url", "localhost")
    with pytest.raises(ConfigError, match="not the URL"):
        args.run(args)


def test_without_one_answered_pair_there_is_no_verdict(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = refusal(lambda _: refused(500, "internal_error"), data, capsys)
    assert "120 x 500 internal_error" in message and "no verdict" in message


def test_too_few_questions_cannot_tell(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = evaluated(better, data, capsys, "--limit", "4")
    assert report["verdict"] == "inconclusive" and report["mde"] is None and "4 pairs" in report["why"]


def test_an_unpriced_answer_leaves_the_cost_unknown(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def respond(body: Mapping[str, Any]) -> tuple[int, Mapping[str, Any]]:
        return completion(policy_of(body), cost_usd=None if is_candidate(body) else 0.5)

    arms = evaluated(respond, data, capsys, "--limit", "6")["arms"]
    assert arms["candidate"]["cost_per_solved_usd"]["value"] is None
    assert arms["champion"]["cost_per_solved_usd"]["value"] == 0.5


def test_people_get_tables_and_a_file(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "verdict.json"
    with ScriptedGateway(better) as gateway:
        args = parsed("--data", str(data), "--url", gateway.url, "--out", str(out))
        assert args.run(args) == 0
    printed = capsys.readouterr().out
    assert "seconds / answer" in printed and "--solve-at" not in printed
    assert "verdict: promote: better: 10 wins to 0" in printed and "minimum detectable effect" in printed
    report = json.loads(out.read_text())
    assert report["verdict"] == "promote" and len(report["data_sha256"]) == 64 and report["candidate"] == CANDIDATE


def test_bad_usage_is_refused_before_anything_is_asked(data: Path, tmp_path: Path) -> None:
    for flags in (["--alpha", "0.5"], ["--alpha", "x"], ["--samples", "6"], ["--limit", "0"], ["--concurrency", "-1"]):
        with pytest.raises(SystemExit) as left:
            parsed("--data", str(data), *flags)
        assert left.value.code == 2
    args = parsed("--data", str(data), "--out", str(tmp_path / "none" / "out.json"))
    with pytest.raises(ConfigError, match="no directory"):
        args.run(args)


def test_an_interrupt_prints_no_verdict(data: Path) -> None:
    asked, release = threading.Event(), threading.Event()

    def respond(body: Mapping[str, Any]) -> tuple[int, Mapping[str, Any]]:
        if number_of(body) == 0:
            asked.set()
            release.wait()
        return better(body)

    with ScriptedGateway(respond) as gateway:
        code = (
            "import argparse; from training.evaluate_command import register; parser = argparse.ArgumentParser(); "
            "register(parser.add_subparsers()); args = parser.parse_args(); raise SystemExit(args.run(args))"
        )
        flags = ["--candidate", CANDIDATE, "--data", str(data), "--url", gateway.url]
        with subprocess.Popen([sys.executable, "-c", code, "evaluate", *flags], stdout=subprocess.PIPE) as child:
            try:
                assert asked.wait(300)
                child.send_signal(signal.SIGINT)
                printed, _ = child.communicate(timeout=300)
            finally:
                child.kill()
                release.set()
    assert child.returncode == -signal.SIGINT and printed == b""

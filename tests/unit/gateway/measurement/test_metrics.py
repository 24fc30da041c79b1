"""What `/metrics` shows after requests were counted, and that the reference page is true."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from gateway.telemetry.families import MAX_BUCKETS, Families
from gateway.telemetry.metrics import CacheResult, Metrics
from gateway.telemetry.metrics_docs import markdown
from gateway.telemetry.served import Served
from router.domain import EngineInfo, Tokens
from router.enums import Purpose, Reason, Route, Status
from router.records import GroupRecord
from tests.support.shown_metrics import everything_shown

_PAGE = Path(__file__).parents[4] / "docs" / "metrics.md"


def shown(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every exposed sample by name and labels."""
    body, _ = metrics.render()
    families = text_string_to_metric_families(body.decode())
    return {(each.name, frozenset(each.labels.items())): each.value for family in families for each in family.samples}


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return shown(metrics)[f"thinktwice_{name}", frozenset(labels.items())]


class TestAnswers:
    def test_an_answer_counts_once_in_every_family(self, make_served: Callable[..., Served]) -> None:
        metrics = Metrics(models=["base"])
        metrics.observe_answer(make_served(stream=True, first_token_s=0.1))
        assert value(metrics, "requests_total", route="vote", outcome="ok", code_class="2xx", stream="true") == 1
        assert value(metrics, "answers_total", route="vote", status="verified", purpose="prod") == 1
        assert value(metrics, "request_duration_seconds_sum", route="vote", outcome="ok") == 0.5
        assert value(metrics, "overhead_seconds_sum", route="vote") == 0.002
        assert value(metrics, "time_to_first_token_seconds_sum", route="vote") == 0.1

    def test_a_refusal_is_an_answer_withheld(self, make_served: Callable[..., Served]) -> None:
        metrics = Metrics()
        metrics.observe_answer(make_served(Status.FAILED, reason=Reason.ALL_FAILED, refused=True, code=422))
        assert value(metrics, "refusals_total", reason="all_failed") == 1
        assert value(metrics, "answers_total", route="vote", status="failed", purpose="prod") == 1
        assert value(metrics, "requests_total", route="vote", outcome="refused", code_class="4xx", stream="false") == 1

    def test_an_escalation_is_counted_by_its_final_status(self, make_served: Callable[..., Served]) -> None:
        metrics = Metrics()
        metrics.observe_answer(make_served(escalated=True))
        metrics.observe_answer(make_served())
        assert value(metrics, "escalations_total", to="vote", status="verified") == 1

    def test_samples_and_checks_come_from_the_group(
        self, make_served: Callable[..., Served], make_group: Callable[..., GroupRecord]
    ) -> None:
        metrics = Metrics(models=["base"])
        metrics.observe_answer(make_served(group=make_group("fail", "pass", "error", "cut"), samples=3))
        assert value(metrics, "samples_total", model="base", finish="stop") == 3
        assert value(metrics, "samples_total", model="base", finish="cancelled") == 1
        for outcome in ("pass", "fail", "error"):
            assert value(metrics, "verifications_total", verifier="numeric", outcome=outcome) == 1
        assert value(metrics, "verifications_total", verifier="numeric", outcome="timeout") == 0
        assert value(metrics, "verifier_duration_seconds_count", verifier="numeric") == 3
        assert value(metrics, "samples_per_request_sum", route="vote") == 3

    def test_a_cached_answer_draws_no_sample(self, make_served: Callable[..., Served]) -> None:
        metrics = Metrics()
        metrics.observe_answer(make_served(route=Route.CACHE, tokens=Tokens(), cost=0.0))
        assert value(metrics, "answers_total", route="cache", status="verified", purpose="prod") == 1
        assert value(metrics, "samples_per_request_count", route="vote") == 0

    def test_evaluation_traffic_can_be_told_apart(self, make_served: Callable[..., Served]) -> None:
        metrics = Metrics()
        metrics.observe_answer(make_served(purpose=Purpose.EVAL))
        assert value(metrics, "answers_total", route="vote", status="verified", purpose="eval") == 1
        assert value(metrics, "answers_total", route="vote", status="verified", purpose="prod") == 0


class TestSpending:
    def test_cached_prompt_tokens_are_not_counted_twice(self, make_served: Callable[..., Served]) -> None:
        metrics = Metrics(models=["base"])
        metrics.observe_answer(make_served(tokens=Tokens(prompt=100, completion=30, cached_prompt=64)))
        for kind, count in {"input": 36, "cached_input": 64, "output": 30}.items():
            assert value(metrics, "tokens_total", model="base", type=kind, purpose="prod") == count

    def test_cost_with_and_without_a_price(self, make_served: Callable[..., Served]) -> None:
        metrics = Metrics()
        metrics.observe_answer(make_served(cost=0.25))
        metrics.observe_answer(make_served(cost=None))
        assert value(metrics, "cost_usd_total", route="vote", purpose="prod") == 0.25
        assert value(metrics, "unpriced_answers_total") == 1


class TestErrors:
    @pytest.mark.parametrize(("code", "label"), [(400, "400"), (503, "503"), (418, "other")])
    def test_an_error_counts_by_code(self, code: int, label: str) -> None:
        metrics = Metrics()
        metrics.observe_error(code, 0.1)
        assert value(metrics, "errors_total", code=label) == 1
        code_class = f"{code // 100}xx"
        assert (
            value(metrics, "requests_total", route="none", outcome="error", code_class=code_class, stream="false") == 1
        )

    def test_a_client_that_left_is_no_error(self) -> None:
        metrics = Metrics()
        metrics.observe_cancelled(0.1, stream=True)
        assert value(metrics, "requests_total", route="none", outcome="cancelled", code_class="4xx", stream="true") == 1
        assert value(metrics, "errors_total", code="499") == 0


class TestClosedSets:
    def test_an_unknown_model_is_other(self, make_served: Callable[..., Served]) -> None:
        metrics = Metrics(models=["base"])
        metrics.observe_answer(make_served(policy="from-a-client"))
        assert value(metrics, "tokens_total", model="other", type="output", purpose="prod") == 30
        assert value(metrics, "label_overflow_total", label="model") == 1
        assert "from-a-client" not in metrics.render()[0].decode()

    def test_an_unknown_verifier_is_other(
        self, make_served: Callable[..., Served], make_group: Callable[..., GroupRecord]
    ) -> None:
        metrics = Metrics(verifiers=["math"])
        metrics.observe_answer(make_served(group=make_group("pass")))
        assert value(metrics, "verifications_total", verifier="other", outcome="pass") == 1
        assert value(metrics, "label_overflow_total", label="verifier") == 1

    def test_a_policy_that_serves_is_known(self, make_served: Callable[..., Served]) -> None:
        metrics = Metrics()
        metrics.set_policy("policy-1-abcdef01", "base")
        metrics.observe_answer(make_served(policy="policy-1-abcdef01"))
        assert value(metrics, "tokens_total", model="policy-1-abcdef01", type="output", purpose="prod") == 30

    def test_many_names_stay_bounded(self, make_served: Callable[..., Served]) -> None:
        metrics = Metrics(models=["base"])
        before = len(shown(metrics))
        for index in range(500):
            metrics.set_policy(f"policy-{index}", "base")
            metrics.observe_answer(make_served(policy=f"policy-{index}"))
        assert len(shown(metrics)) - before < 500

    def test_a_fresh_process_has_half_of_the_series_it_may_have(self) -> None:
        assert len(shown(Metrics())) < 1500


class TestStores:
    @pytest.mark.parametrize("result", list(CacheResult))
    def test_lookups(self, result: CacheResult) -> None:
        metrics = Metrics()
        metrics.observe_cache(result)
        assert value(metrics, "cache_lookups_total", result=result) == 1

    def test_logged_samples_by_what_they_can_train(self, make_group: Callable[..., GroupRecord]) -> None:
        metrics = Metrics()
        metrics.observe_logged(make_group("pass", "cut"))
        assert value(metrics, "grouplog_appended_total") == 1
        assert value(metrics, "grouplog_samples_total", training="eligible") == 1
        assert value(metrics, "grouplog_samples_total", training="censored") == 1

    def test_gauges_follow(self) -> None:
        metrics = Metrics()
        metrics.set_log_queue(7)
        metrics.set_loop_lag(0.25)
        metrics.set_cache("redis", up=True)
        metrics.observe_fsync(0.004)
        metrics.observe_log_refused()
        assert value(metrics, "grouplog_queue_groups") == 7
        assert value(metrics, "event_loop_lag_seconds") == 0.25
        assert value(metrics, "cache_up", store="redis") == 1
        assert value(metrics, "grouplog_fsync_seconds_count") == 1
        assert value(metrics, "grouplog_refused_total") == 1

    def test_in_flight_counts_while_open_even_when_it_fails(self) -> None:
        metrics = Metrics()
        with pytest.raises(RuntimeError), metrics.in_flight():
            assert value(metrics, "inflight_requests") == 1
            raise RuntimeError
        assert value(metrics, "inflight_requests") == 0


class TestIdentity:
    def test_only_the_latest_engine_and_policy_are_shown(self) -> None:
        metrics = Metrics()
        for version in ("1", "2"):
            metrics.set_engine(EngineInfo("vllm", version, ("m",), True, "processed_logprobs"))
            metrics.set_policy(f"policy-{version}", "base")
        names = [(name, dict(labels)) for name, labels in shown(metrics)]
        assert [labels["version"] for name, labels in names if name == "thinktwice_engine_info"] == ["2"]
        assert [labels["policy"] for name, labels in names if name == "thinktwice_policy_info"] == ["policy-2"]
        assert value(metrics, "engine_up") == 1

    def test_an_engine_that_is_gone_is_down(self) -> None:
        metrics = Metrics()
        metrics.set_engine(EngineInfo("vllm", "1", ("m",), True, "processed_logprobs"))
        metrics.set_engine(None)
        assert value(metrics, "engine_up") == 0


class TestExposition:
    def test_two_processes_worth_of_metrics_do_not_meet(self) -> None:
        one, other = Metrics(), Metrics()
        one.observe_cache(CacheResult.HIT)
        assert value(other, "cache_lookups_total", result="hit") == 0

    def test_the_content_type_is_prometheus_text(self) -> None:
        body, content_type = Metrics().render()
        assert content_type.startswith("text/plain; version=0.0.4")
        assert b"_created" not in body

    def test_too_many_buckets_are_refused(self) -> None:
        families = Families(CollectorRegistry())
        with pytest.raises(ValueError, match="17 buckets"):
            families.histogram("a_seconds", "a", tuple(range(MAX_BUCKETS + 1)))


class TestReference:
    def test_the_committed_page_is_the_generated_one(self) -> None:
        assert _PAGE.read_text() == markdown(), "run: python -m gateway.telemetry.metrics_docs > docs/metrics.md"

    def test_every_metric_is_on_the_page_and_every_name_on_it_exists(self, tmp_path: Path) -> None:
        listed = set(re.findall(r"^\| `(thinktwice_\w+)` \|", _PAGE.read_text(), flags=re.MULTILINE))
        body = everything_shown(tmp_path).render()[0].decode()
        exposed = set(re.findall(r"^# TYPE (thinktwice_\w+) ", body, flags=re.MULTILINE))
        assert listed == exposed

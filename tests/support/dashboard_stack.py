"""A running stack to ask the dashboards' queries of: Prometheus over a gateway driven through every kind of request."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry, generate_latest

from gateway.telemetry.savings import Savings
from gateway.telemetry.shadow import Shadow
from router.enums import Outcome
from tests.support.compose import DEPLOY, flags
from tests.support.dashboards import queries, selectors
from tests.support.gateway_process import GatewayProcess, post, text_of
from tests.support.groups import CHECK, group, sample
from tests.support.mock_engine import MODEL, MockEngine, Script
from tests.support.prometheus_server import Exporter, PrometheusServer, growing, prometheus_folder
from tests.support.redis_server import RedisServer
from tests.support.shown_metrics import fill_state

SCRIPTS = {
    "mixed": Script(("I think \\boxed{5}", "No, \\boxed{3}", "It is \\boxed{4}")),
    "wrong": Script(("It is \\boxed{5}",)),
}
PRICES = f"""
[prices."{MODEL}"]
input = 1.0
output = 2.0
[costs]
engine_usd_per_hour = 2.0
trainer_usd_per_hour = 2.0
core_usd_per_hour = 0.05
"""
SUM = {"checks": [{"type": "numeric", "reference": 4}]}
JUDGED, VERIFIED = 5, 3  # of ordinary traffic, a round
COUNTED = 'sum(thinktwice_answers_total{purpose="prod"})'
ORDINARY_A_ROUND = 8


@dataclass(frozen=True, slots=True)
class Stack:
    """The running parts. `lottery` stands for the audit lottery, which draws by chance: its arms are told here."""

    gateway: GatewayProcess
    prometheus: PrometheusServer
    lottery: Savings = field(default_factory=lambda: Savings(lambda _, tokens: tokens.completion * 1e-5))

    def round(self, number: int) -> None:
        """A round of every kind of request, and groups of every arm of the lottery."""
        _drive(self.gateway, number)
        failed = sample(checks=(msgspec.structs.replace(CHECK, outcome=Outcome.FAIL),))
        drawn = [sample(index) for index in range(1, 5)]
        ids = {"prompt_token_ids": (1, 2, 3), "group_propensity": 0.05}
        self.lottery.record(group(samples=(failed, *drawn), audit=True, **ids))
        self.lottery.record(group(samples=(sample(), *drawn), audit=True, **ids))
        self.lottery.record(group(samples=(sample(),), cost_usd=3e-5, **ids))
        self.lottery.record(group(samples=(sample(),), cost_usd=3e-5, **ids))


@contextmanager
def running_stack(home: Path) -> Iterator[Stack]:
    """A Prometheus that has scraped the gateway before any traffic. Skips the test where there is no Prometheus."""
    folder, redis = prometheus_folder(), RedisServer()
    fill_state(home / "gateway" / "state")
    registry = CollectorRegistry()
    redis.start()
    env = {"THINKTWICE_REDIS__URL": redis.url}
    try:
        with (
            MockEngine(SCRIPTS) as engine,
            GatewayProcess(home / "gateway", engine.url, config=PRICES, env=env) as gateway,
            Exporter(growing(sorted(_vllm_metrics()))) as vllm,
            Exporter(lambda: generate_latest(registry)) as lottery,
            PrometheusServer(
                folder, _made(home / "tsdb"), _config(gateway.port, lottery.port, vllm.port), _flags()
            ) as prometheus,
        ):
            stack = Stack(gateway, prometheus)
            registry.register(Shadow(stack.lottery))
            gateway.wait_for("/readyz", 200)
            prometheus.wait_for(COUNTED, 0)
            prometheus.wait_for("thinktwice_engine_up", 1)
            prometheus.wait_for("sum(thinktwice_shadow_requests_total{arm='always_5'})", 0)
            yield stack
    finally:
        redis.stop()


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _config(gateway_port: int, lottery_port: int, vllm_port: int) -> str:
    """The committed configuration with the ports of this run, and an interval a test can wait for."""
    text = (DEPLOY / "prometheus" / "prometheus.yml").read_text()
    for committed, here in {
        "127.0.0.1:8000": f'127.0.0.1:{gateway_port}", "127.0.0.1:{lottery_port}',
        "127.0.0.1:8100": f"127.0.0.1:{vllm_port}",
        "scrape_interval: 15s": "scrape_interval: 1s",
    }.items():
        assert text.count(committed) == 1, f"{committed} is not there once"
        text = text.replace(committed, here)
    return text


def _flags() -> list[str]:
    """The flags of the committed command line, but for the paths and the address, which are this run's."""
    given = flags("prometheus")
    for ours in ("config.file", "storage.tsdb.path", "web.listen-address"):
        del given[ours]
    return [f"--{name}={value}" for name, value in given.items()]


def _vllm_metrics() -> set[str]:
    found = {selector.metric for query in queries() for selector in selectors(query.expr)}
    return {name for name in found if name.startswith("vllm:")}


def _drive(gateway: GatewayProcess, number: int) -> None:
    """A round of every kind of request. Of ordinary traffic 8 are answered, 5 of them judged and 3 verified."""
    url = gateway.url

    def chat(text: str, verification: dict[str, Any] | None = None, status: int = 200, **fields: Any) -> str:
        headers = {"X-Thinktwice-Purpose": fields.pop("purpose")} if "purpose" in fields else {}
        messages = [{"role": "user", "content": f"Round {number}. {text}"}]
        body = {"model": "champion", "messages": messages, **({"verification": verification} if verification else {})}
        answered, answer = post(f"{url}/v1/chat/completions", body | fields, headers)
        assert answered == status, answer
        return answer

    assert '"escalated":true' in chat("mixed feelings", SUM)
    assert '"route":"cache"' in chat("mixed feelings", SUM)
    assert '"status":"verified"' in chat("a vote", SUM, reasoning_effort="high")
    assert "content_filter" in chat("wrong", SUM | {"on_failure": "refuse"})
    chat("wrong again", SUM | {"on_failure": "error"}, status=422)
    assert '"status":"consensus"' in chat("What is 2 + 2?", reasoning_effort="high")
    assert '"route":"single"' in chat("steady")
    assert "[DONE]" in chat("streamed", stream=True)
    chat("an evaluation", SUM, purpose="eval")
    group_id = json.loads(chat("rated", SUM, purpose="eval"))["verification"]["group_id"]
    said = {"group_id": group_id, "outcome": "solved", "minutes_saved": 12, "rating": 4, "team": "support"}
    assert post(f"{url}/v1/feedback", said)[0] == 200
    assert post(f"{url}/v1/policies/rollback", {})[0] == 409
    assert post(f"{url}/v1/policies/policy-9-00000000/promote", {})[0] == 404
    gateway.wait_for(f"/v1/groups/{group_id}", 200)  # the log is written a moment after the answer
    for route in ("scorecard", "groups", "reviews", "policies", "models"):
        assert text_of(f"{url}/v1/{route}")
    chat("no such field", nonsense=1, status=400)
    chat("no such model", model="nonesuch", status=404)
    for route, text in (("completions", "prompt"), ("embeddings", "input")):
        assert post(f"{url}/v1/{route}", {"model": "champion", text: "steady"})[0] == 200

"""A gateway with something to show on its console: groups and policies, some of them full of markup that would run."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from router.enums import Route, ToolOutcome
from router.ids import new_group_id
from router.records import GroupRecord, ToolCallRecord, TurnRecord
from router.registry import PolicyRegistry
from tests.support.gateway_process import GatewayProcess
from tests.support.groups import group, sample
from tests.support.mock_engine import MODEL, MockEngine, Script
from tests.support.training_log import write_log

CONFIG = f"""
[profiles.careful]
review = "always"

[prices."{MODEL}"]
input = 0.1
output = 0.4
"""
RUN = "globalThis.ran = true"
PAYLOADS = (
    f"<script>{RUN}</script>",
    f"<img src=x onerror='{RUN}'>",
    f"\"><svg onload='{RUN}'>",
    f"javascript:{RUN}",
    f'<iframe srcdoc="<script>top.{RUN}</script>"></iframe>',
)
HOSTILE = " ".join(PAYLOADS)


def new_ids(count: int) -> list[str]:
    """Ids of groups, the oldest first."""
    return sorted(new_group_id() for _ in range(count))


def hostile_group(name: str) -> GroupRecord:
    """A group with markup in whatever a client, a model or an operator writes."""
    call = ToolCallRecord(call_id="1", name=HOSTILE, arguments=HOSTILE, outcome=ToolOutcome.OK, content=HOSTILE, ms=1.0)
    turn = TurnRecord(message={"role": "assistant", "content": HOSTILE}, finish_reason="tool_calls", calls=(call,))
    tool = {"id": "1", "type": "function", "function": {"name": HOSTILE, "arguments": HOSTILE}}
    said = {"role": "assistant", "content": HOSTILE, "tool_calls": [tool]}
    parts = [{"type": "text", "text": HOSTILE}]
    return group(
        name,
        created_at=time.time(),
        messages=({"role": HOSTILE, "content": HOSTILE}, {"role": "user", "content": parts}),
        policy=HOSTILE,
        profile=PAYLOADS[1],  # a filter of the list takes 128 characters
        tenant=HOSTILE,
        failures=(HOSTILE,),
        samples=(sample(0, message=said, turns=(turn,), answer_key=HOSTILE, policy=HOSTILE, selected=True), sample(1)),
    )


def plain_groups(voted: str, waiting: Sequence[str]) -> list[GroupRecord]:
    """A vote of three samples, two of which agree, and groups that wait for a review."""
    samples = (sample(0, selected=True), sample(1), sample(2, answer_key="5"))
    now, returned = time.time(), (sample(selected=True),)
    careful = [group(name, created_at=now, profile="careful@1", samples=returned) for name in waiting]
    return [group(voted, created_at=now, route=Route.VOTE, votes=2, samples=samples), *careful]


def trained(home: Path, content: str, note: str) -> str:
    """Register an adapter in the gateway's state; its name. `note` stands in its manifest."""
    folder = home / f"adapter-{content}"
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(f'{{"peft_type": "LORA", "made_of": "{content}"}}')
    return PolicyRegistry(home / "state").register(folder, {"base_model": MODEL, "note": note}, "trainer")


@contextmanager
def console_site(home: Path, records: Sequence[GroupRecord], scripts: Mapping[str, Script]) -> Iterator[GatewayProcess]:
    """A gateway without keys over a log of these groups, in front of a scripted engine."""
    write_log(home / "log", records)
    with MockEngine(scripts=dict(scripts)) as engine, GatewayProcess(home, engine.url, CONFIG) as gateway:
        gateway.wait_for("/readyz", 200)
        yield gateway

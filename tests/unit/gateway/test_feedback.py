"""`POST /v1/feedback`: what it takes, what it refuses, and what stands in the file afterwards."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from gateway.tenants.key_file import KeyFile
from gateway.tenants.keys import Role
from router.log.labels import LABEL_FILE, Label, LabelSource, Resolution, read_labels
from tests.support.asgi import Exchange, application, post
from tests.support.serving import serving

GROUP = "01a202bf-55b2-7798-afa2-5a01a6fa9266"
PATH = "/v1/feedback"


def labels(log_dir: Path) -> list[Label | None]:
    return [label for _, label in read_labels(log_dir)]


async def send(tmp_path: Path, body: Any, headers: dict[str, str] | None = None, **settings: Any) -> Exchange:
    app = application(serving(tmp_path), tables={"log": {"dir": tmp_path}, **settings}, keys=tmp_path)
    return await post(app, body, PATH, headers)


async def test_all_that_can_be_said(tmp_path: Path) -> None:
    said = {"rating": 4.0, "team": "Support, Köln", "minutes_saved": 12.5, "note": "closed\nby hand"}
    answered = await send(
        tmp_path, {"group_id": GROUP, "outcome": "solved", "resolved_at": "2026-01-02T03:04:05+01:00", **said}
    )
    assert answered.status == 200, answered.body
    assert answered.json.items() >= {"object": "label", "group_id": GROUP, "source": "feedback"}.items()
    (label,) = labels(tmp_path)
    assert label is not None and 0 <= time.time() - label.at < 60
    assert (label.outcome, label.rating, label.team) == (Resolution.SOLVED, 4, "Support, Köln")
    assert (label.minutes_saved, label.note, label.resolved_at) == (12.5, "closed\nby hand", 1767319445.0)
    assert (label.source, label.tenant, label.author, label.admin) == (LabelSource.FEEDBACK, "local", "local", True)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"group_id": "../../etc/passwd"}, "group_id"),
        ({"group_id": GROUP + "\n"}, "group_id"),
        ({"group_id": 7}, "group_id"),
        ({"outcome": "perhaps"}, "outcome"),
        ({"outcome": "solved", "score": 1}, "score"),
        ({"score": 1.01}, "score"),
        ({"score": -0.01}, "score"),
        ({"score": True}, "score"),
        ({"rating": 0}, "rating"),
        ({"rating": 4.5}, "rating"),
        ({"team": "x" * 65}, "team"),
        ({"minutes_saved": 1e9}, "minutes_saved"),
        ({"resolved_at": time.time() + 7200}, "resolved_at"),
        ({"resolved_at": -1}, "resolved_at"),
        ({"resolved_at": "yesterday"}, "resolved_at"),
        ({"resolved_at": "2026-01-02T03:04:05"}, "resolved_at"),
        ({"resolved_at": "9999-01-01T00:00:00Z"}, "resolved_at"),
        ({"note": "x" * 4001}, "note"),
        ({"tenant": "other"}, "tenant"),
        ({"source": "review"}, "source"),
    ],
)
async def test_what_is_refused_names_its_field(tmp_path: Path, fields: dict[str, Any], param: str) -> None:
    refused = await send(tmp_path, {"group_id": GROUP, "rating": 3} | fields)
    assert refused.status == 400 and refused.json["error"]["param"] == param
    assert not (tmp_path / LABEL_FILE).exists()


@pytest.mark.parametrize(
    "body",
    [
        b'{"group_id": "%s", "score": NaN}' % GROUP.encode(),
        b'{"group_id": "%s", "score": 1e999}' % GROUP.encode(),
        b'{"group_id": "%s", "score": 0, "score": 1}' % GROUP.encode(),
        b'{"group_id": "%s", "note": "\\ud800"}' % GROUP.encode(),
        b"[]",
        b"",
        b"\xff",
        json.dumps({"rating": 3}).encode(),
        json.dumps({"group_id": GROUP}).encode(),
        json.dumps({"group_id": GROUP, "team": "x"}).encode(),
    ],
)
async def test_bodies_that_say_nothing_or_two_things(tmp_path: Path, body: bytes) -> None:
    refused = await send(tmp_path, body)
    assert refused.status == 400 and refused.json["error"]["code"] == "invalid_request"
    assert not (tmp_path / LABEL_FILE).exists()


async def test_a_body_above_64_kib(tmp_path: Path) -> None:
    refused = await send(tmp_path, {"group_id": GROUP, "note": "x" * 65536})
    assert refused.status == 413 and not (tmp_path / LABEL_FILE).exists()


async def test_a_key_speaks_for_its_own_tenant_and_is_named(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path)
    for tenant, role in (("acme", Role.USER), ("ops", Role.ADMIN)):
        key, kept = keys.create(tenant, role)
        answered = await send(tmp_path, {"group_id": GROUP, "score": 1}, {"Authorization": f"Bearer {key}"})
        assert answered.status == 200
        label = labels(tmp_path)[-1]
        assert label is not None and (label.tenant, label.author) == (tenant, kept.id)
        assert (label.counts_for("acme"), label.counts_for("other")) == (True, role is Role.ADMIN)
    assert (await send(tmp_path, {"group_id": GROUP, "score": 1})).status == 401


async def test_the_tenants_rate_holds(tmp_path: Path) -> None:
    tables = {"tenants": {"local": {"requests_per_minute": 1, "usd_per_day": 0.000001}}}
    gateway = serving(tmp_path)
    app = application(gateway, tables={"log": {"dir": tmp_path}, **tables})
    answers = [await post(app, {"group_id": GROUP, "score": 0.5}, PATH) for _ in range(2)]
    assert gateway.metric('thinktwice_labels_total{outcome="solved",source="feedback"}') == 1
    assert [each.status for each in answers] == [200, 429] and len(labels(tmp_path)) == 1
    assert answers[0].headers["x-ratelimit-remaining-requests"] == "0"


async def test_a_disk_that_refuses_is_a_503(tmp_path: Path) -> None:
    gateway = serving(tmp_path)
    app = application(gateway, tables={"log": {"dir": tmp_path / "gone"}})
    refused = await post(app, {"group_id": GROUP, "score": 1}, PATH)
    assert refused.status == 503 and refused.json["error"]["code"] == "log_unavailable"
    gateway.log.full = True
    app = application(gateway, tables={"log": {"dir": tmp_path}})
    assert (await post(app, {"group_id": GROUP, "score": 1}, PATH)).status == 503 and labels(tmp_path) == []

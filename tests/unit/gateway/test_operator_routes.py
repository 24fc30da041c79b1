"""The operators' routes: groups and reviews over a log on disk, policies over a registry."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from gateway.http.request_scope import RequestScope
from gateway.tenants.key_file import KeyFile
from gateway.tenants.keys import Role
from router.enums import Reason, Route, Status
from router.errors import BackendRejected
from router.ids import new_group_id
from router.log.forget import forget
from router.log.labels import Label, LabelSource, read_labels
from router.records import GroupRecord
from tests.support.asgi import Exchange, application, get, post, request
from tests.support.groups import group, sample
from tests.support.serving import Serving, serving
from tests.support.training_log import write_log

PROFILES = {"profiles": {"careful": {"version": 2, "review": "always"}, "plain": {"review": "unverified"}}}
SECRET = "the reference"
SPEC = {
    "profile": None,
    "on_failure": "return",
    "checks": [{"id": "c0", "type": "exact", "klass": "decisive", "params": {"reference": SECRET}, "required": True}],
}


def over(tmp_path: Path, *records: GroupRecord, gateway: Serving | None = None) -> RequestScope:
    """The application over a log of these groups."""
    if records:
        write_log(tmp_path, records)
    return application(gateway or serving(tmp_path), tables={"log": {"dir": tmp_path}, **PROFILES}, keys=tmp_path)


async def ask(app: RequestScope, path: str, query: str = "", headers: dict[str, str] | None = None) -> Exchange:
    exchange = Exchange()
    await exchange.run(app, request("GET", path, headers) | {"query_string": query.encode()}, b"")
    return exchange


def ids(answered: Exchange) -> list[str]:
    assert answered.status == 200, answered.body
    return [row["id"] for row in answered.json["data"]]


# Groups


async def test_a_list_in_pages_and_by_field(tmp_path: Path) -> None:
    names = sorted(new_group_id() for _ in range(5))
    vote = group(names[4], route=Route.VOTE, tenant="acme", profile="p@1")
    app = over(tmp_path, *(group(name) for name in names[:4]), vote)
    first = await ask(app, "/v1/groups", "limit=2")
    assert ids(first) == [names[4], names[3]] and first.json["has_more"] and first.json["complete"]
    assert (first.json["first_id"], first.json["last_id"]) == (names[4], names[3])
    last = await ask(app, "/v1/groups", f"limit=3&after={names[3]}")
    assert ids(last) == names[2::-1] and not last.json["has_more"]
    assert ids(await ask(app, "/v1/groups", "route=vote&tenant=acme&profile=p@1&status=verified")) == [names[4]]
    nothing = await ask(app, "/v1/groups", "tenant=nobody")
    assert ids(nothing) == [] and nothing.json["last_id"] is None


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=101",
        "limit=many",
        "after=../../x",
        "status=perhaps",
        "route=",
        "tenant=",
        "sort=id",
        "limit=1&limit=2",
        "status=null",
        "limit=+5",
    ],
)
async def test_a_query_that_is_refused(tmp_path: Path, query: str) -> None:
    refused = await ask(over(tmp_path), "/v1/groups", query)
    assert refused.status == 400 and refused.json["error"]["param"] == query.partition("=")[0]


async def test_a_group_whole_but_for_its_references(tmp_path: Path) -> None:
    name = new_group_id()
    app = over(tmp_path, group(name, verification=SPEC, samples=(sample(), sample(1, selected=True))))
    said = {"group_id": name, "rating": 5, "note": "fine"}
    assert (await post(app, said, "/v1/feedback")).status == 200
    shown = await ask(app, f"/v1/groups/{name}")
    assert shown.status == 200 and SECRET.encode() not in shown.body
    body = shown.json
    assert (body["id"], body["status"], body["messages"][0]["content"]) == (name, "verified", "What is 2 + 2?")
    assert body["verification"]["checks"] == [{"id": "c0", "type": "exact", "klass": "decisive", "required": True}]
    assert [each["selected"] for each in body["samples"]] == [False, True]
    assert body["samples"][0]["checks"][0]["class"] == "decisive"
    assert "completion_token_ids" not in body["samples"][0]
    (label,) = body["labels"]
    assert label.items() >= {"source": "feedback", "rating": 5, "note": "fine", "author": "local"}.items()


@pytest.mark.parametrize(
    "name", ["01a202bf-55b2-7798-afa2-5a01a6fa9266", "x", "..", "%2e%2e%2fetc", "' OR 1=1 --", "é" * 500, "\x00"]
)
async def test_a_group_that_is_not_there(tmp_path: Path, name: str) -> None:
    app = over(tmp_path, group(new_group_id()))
    for missing in (
        await get(app, f"/v1/groups/{name}"),
        await post(app, {"verdict": "accept"}, f"/v1/reviews/{name}"),
    ):
        assert missing.status == 404 and missing.json["error"]["code"] == "group_not_found"
    assert (await get(app, f"/v1/groups/{name}/../../etc/passwd")).json["error"]["code"] == "not_found"
    assert list(read_labels(tmp_path)) == []


async def test_a_forgotten_group_is_not_found(tmp_path: Path) -> None:
    kept, gone = new_group_id(), new_group_id()
    app = over(tmp_path, group(kept), group(gone, tenant="acme"))
    assert len(ids(await ask(app, "/v1/groups"))) == 2
    forget(tmp_path, tenant="acme")
    assert ids(await ask(app, "/v1/groups")) == [kept]
    assert (await get(app, f"/v1/groups/{gone}")).status == 404 and (await get(app, f"/v1/groups/{kept}")).status == 200


async def test_a_damaged_list_of_the_forgotten_shows_nothing(tmp_path: Path) -> None:
    app = over(tmp_path, group(new_group_id()))
    (tmp_path / "tombstones.jsonl").write_bytes(b"?\n")
    refused = await get(app, "/v1/groups")
    assert refused.status == 500 and refused.json["error"]["code"] == "log_damaged"


# Reviews


async def test_the_queue_until_a_person_has_spoken(tmp_path: Path) -> None:
    careful, plain, disputed, other = sorted(new_group_id() for _ in range(4))
    unverified: dict[str, Any] = {"status": Status.UNVERIFIED, "reason": Reason.NO_ORACLE}
    app = over(
        tmp_path,
        group(careful, profile="careful@2"),
        group(plain, profile="plain@1", **unverified),
        group(disputed),
        group(other, profile="careful@1"),
    )
    assert (await post(app, {"group_id": disputed, "outcome": "not_solved"}, "/v1/feedback")).status == 200
    queue = await ask(app, "/v1/reviews")
    assert ids(queue) == [disputed, plain, careful] and queue.json["data"][0]["object"] == "review"
    assert [row["why"] for row in queue.json["data"]] == [["disputed"], ["profile"], ["profile"]]
    assert ids(await ask(app, "/v1/reviews", f"limit=1&after={disputed}")) == [plain]
    done = await post(app, {"verdict": "reject", "note": "wrong unit"}, f"/v1/reviews/{disputed}")
    assert done.status == 200 and done.json["source"] == "review"
    assert (await post(app, {"verdict": "accept"}, f"/v1/reviews/{careful}")).status == 200
    assert ids(await ask(app, "/v1/reviews")) == [plain]
    said: list[Label] = [label for _, label in read_labels(tmp_path) if label and label.source is LabelSource.REVIEW]
    assert [(label.value, label.note, label.admin) for label in said] == [(0.0, "wrong unit", True), (1.0, None, True)]


@pytest.mark.parametrize(
    ("body", "param"),
    [({}, "verdict"), ({"verdict": "maybe"}, "verdict"), ({"verdict": "accept", "score": 1}, "score"),
     ({"verdict": "accept", "note": "x" * 4001}, "note")],
)  # fmt: skip
async def test_a_review_that_is_refused(tmp_path: Path, body: dict[str, Any], param: str) -> None:
    name = new_group_id()
    refused = await post(over(tmp_path, group(name)), body, f"/v1/reviews/{name}")
    assert refused.status == 400 and refused.json["error"]["param"] == param


# Policies


def trained(gateway: Serving, tmp_path: Path, content: str = "w") -> str:
    folder = tmp_path / f"adapter-{content}"
    folder.mkdir()
    (folder / "weights").write_text(content)
    return gateway.registry.register(folder, {"made": "here"})


async def test_promotion_and_rollback(tmp_path: Path) -> None:
    gateway = serving(tmp_path, "a story")
    key, kept = KeyFile(tmp_path).create("ops", Role.ADMIN)
    headers = {"Authorization": f"Bearer {key}"}
    app, name = over(tmp_path, gateway=gateway), trained(gateway, tmp_path)
    listed = (await get(app, "/v1/policies", headers=headers)).json
    assert (listed["champion"], listed["epoch"], listed["base"]) == (None, 0, "base")
    assert [(row["name"], row["manifest"]["made"]) for row in listed["data"]] == [(name, "here")]
    done = await post(app, {"reason": "better", "expected_epoch": 0}, f"/v1/policies/{name}/promote", headers)
    assert done.status == 200 and done.json == {
        "object": "champion",
        "champion": name,
        "epoch": 1,
        "canary": None,
        "serving": True,
    }
    assert gateway.deps.policies.champion == name and name in gateway.backend.loaded
    flip = gateway.registry.history()[-1]
    assert (flip.policy, flip.actor, flip.reason) == (name, f"key {kept.id}", "better")
    history = (await get(app, "/v1/policies", headers=headers)).json["history"]
    assert [(entry["action"], entry["epoch"], entry["actor"]) for entry in history] == [
        ("promote", 1, f"key {kept.id}"),
        ("register", 0, ""),
    ]
    late = await post(app, {"expected_epoch": 0}, "/v1/policies/rollback", headers)
    assert late.status == 409 and late.json["error"]["code"] == "policy_conflict"
    back = await post(app, b"", "/v1/policies/rollback", headers)
    assert (back.json["champion"], back.json["epoch"]) == (None, 2) and gateway.deps.policies.champion == "base"
    assert (await post(app, {}, "/v1/policies/rollback", headers)).status == 409
    assert (await post(app, {}, "/v1/policies/base/promote", headers)).json["epoch"] == 2  # serves already


async def test_a_canary_and_its_withdrawal(tmp_path: Path) -> None:
    gateway = serving(tmp_path, "a story")
    app, name = over(tmp_path, gateway=gateway), trained(gateway, tmp_path)
    tried = (await post(app, {"share": 0.05}, f"/v1/policies/{name}/promote")).json
    canary = {"policy": name, "share": 0.05}
    assert tried == {"object": "champion", "champion": None, "epoch": 1, "canary": canary, "serving": True}
    assert (await get(app, "/v1/policies")).json["canary"] == canary and name in gateway.backend.loaded
    assert gateway.deps.policies.champion == "base"
    assert (await post(app, b"", "/v1/policies/rollback")).json["canary"] is None
    for body, path in (({"share": 0.5}, "base"), ({"share": 0}, name), ({"share": 1.5}, name), ({"share": "x"}, name)):
        refused = await post(app, body, f"/v1/policies/{path}/promote")
        assert refused.status == 400 and refused.json["error"]["param"] == "share", body
    assert (await post(app, {"share": 1}, f"/v1/policies/{name}/promote")).json["champion"] == name


@pytest.mark.parametrize("name", ["policy-9-00000000", "champion", "..", "%2e%2e", "policy-1", "x" * 300, "é"])
async def test_a_policy_that_is_not_there(tmp_path: Path, name: str) -> None:
    app = over(tmp_path)
    for path in (name, quote(name)):
        refused = await post(app, {}, f"/v1/policies/{path}/promote")
        assert refused.status == 404 and refused.json["error"]["code"] == "policy_not_found"


async def test_a_policy_that_the_engine_refuses_or_that_was_changed(tmp_path: Path) -> None:
    gateway = serving(tmp_path, "a story")
    app, name = over(tmp_path, gateway=gateway), trained(gateway, tmp_path)
    refusal = {"error": {"message": "rank 64 is too high", "code": 400}}
    gateway.backend.refuses_policies = BackendRejected("rank 64 is too high", 400, refusal)
    refused = await post(app, {}, f"/v1/policies/{name}/promote")
    assert refused.status == 400 and refused.json == refusal
    gateway.backend.refuses_policies = None
    weights = gateway.registry.get(name).path / "weights"
    weights.chmod(0o644)
    weights.write_text("other")
    changed = await post(app, {}, f"/v1/policies/{name}/promote")
    assert changed.status == 500 and changed.json["error"]["code"] == "registry_error"
    assert gateway.registry.champion().epoch == 0


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"reason": 1}, "reason"),
        ({"expected_epoch": -1}, "expected_epoch"),
        ({"untried": True}, "untried"),
        (b"[]", None),
    ],
)
async def test_a_flip_that_is_refused(tmp_path: Path, body: Any, param: str | None) -> None:
    for path in ("/v1/policies/base/promote", "/v1/policies/rollback"):
        refused = await post(over(tmp_path), body, path)
        assert refused.status == 400 and refused.json["error"]["param"] == param

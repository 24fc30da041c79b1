"""Who may call what: every route by itself, over the application's own list of routes."""

from pathlib import Path
from typing import Any

import pytest
from starlette.routing import Route

from gateway.http.request_scope import RequestScope
from gateway.tenants.key_file import KeyFile
from gateway.tenants.keys import Role
from tests.support.asgi import Exchange, application, get, post
from tests.support.serving import OPEN, serving

PUBLIC = {"/healthz", "/readyz", "/console", "/console/{file}"}  # they hold no data
ADMIN = {"/metrics", "/v1/groups", "/v1/groups/{group_id}", "/v1/reviews", "/v1/policies"}
EVAL = {"X-Thinktwice-Purpose": "eval"}


def chat(text: str = OPEN, **fields: Any) -> dict[str, Any]:
    return {"model": "champion", "messages": [{"role": "user", "content": text}], **fields}


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def routes(app: RequestScope) -> list[tuple[str, str]]:
    """Every method and path of the application."""
    found = app._app.routes  # type: ignore[attr-defined]
    assert all(isinstance(route, Route) for route in found)
    return [(method, route.path) for route in found for method in sorted(route.methods)]


def denied(gateway: Any, code: str) -> float:
    value: float = gateway.metric(f'thinktwice_denied_requests_total{{code="{code}"}}')
    return value


async def test_every_route_but_probes_and_console_needs_a_key(tmp_path: Path) -> None:
    KeyFile(tmp_path).create("acme", Role.USER)
    gateway = serving(tmp_path, "a story")
    app = application(gateway, keys=tmp_path)
    listed = routes(app)
    assert {path for _, path in listed} >= PUBLIC | ADMIN | {"/v1/chat/completions", "/v1/embeddings", "/v1/models"}
    for method, path in listed:
        for headers in ({}, bearer("unused"), {"Host": "127.0.0.1"}, {"X-Forwarded-For": "127.0.0.1"}):
            answered = await get(app, path, method, headers)
            if path in PUBLIC:
                assert answered.status in ((404,) if "{" in path else (200, 503)), path
                continue
            assert answered.status == 401, (path, headers)
            assert answered.headers["www-authenticate"] == "Bearer" and answered.headers["x-request-id"]
            error = answered.json["error"]
            assert (error["code"], error["type"]) == ("invalid_api_key", "invalid_request_error")
    assert denied(gateway, "invalid_api_key") == 4 * len([path for _, path in listed if path not in PUBLIC])
    assert gateway.backend.draws == [] and gateway.deps.scorecard.report()["requests"]["errors_by_code"] == {}


async def test_paths_cannot_be_dressed_up_as_a_probe(tmp_path: Path) -> None:
    KeyFile(tmp_path).create("acme", Role.USER)
    app = application(serving(tmp_path, "a story"), keys=tmp_path)
    for path in ("/healthz/../v1/models", "//v1/models", "/v1/models/", "/healthz/v1/models", "/v1/models;/healthz"):
        assert (await get(app, path)).status in (401, 404, 307), path
        assert b"champion" not in (await get(app, path)).body


async def test_roles(tmp_path: Path) -> None:
    user, admin = (KeyFile(tmp_path).create("acme", role)[0] for role in (Role.USER, Role.ADMIN))
    gateway = serving(tmp_path, "a story")
    app = application(gateway, keys=tmp_path, tables={"log": {"dir": tmp_path}})
    for method, path in routes(app):
        if path not in PUBLIC and method == "GET":
            assert (await get(app, path, method, bearer(admin))).status == (404 if "{" in path else 200)
            assert (await get(app, path, method, bearer(user))).status == (403 if path in ADMIN else 200)
    for path in ("/v1/reviews/x", "/v1/policies/base/promote", "/v1/policies/rollback"):
        assert (await post(app, {}, path, bearer(user))).status == 403
    assert denied(gateway, "forbidden") == len(ADMIN) + 3


async def test_a_request_belongs_to_its_keys_tenant(tmp_path: Path) -> None:
    key, _ = KeyFile(tmp_path).create("acme", Role.USER)
    gateway = serving(tmp_path, "a story")
    answered = await post(application(gateway, keys=tmp_path), chat(), headers=bearer(key))
    assert answered.status == 200
    [record] = gateway.log.records
    assert (record.tenant, record.train_consent) == ("acme", False)
    assert gateway.backend.draws[0].cache_salt == gateway.deps.cache_salt("acme") != gateway.deps.cache_salt("local")


async def test_without_keys_the_tenant_is_local_and_may_do_everything(tmp_path: Path) -> None:
    gateway = serving(tmp_path, "a story")
    app = application(gateway)
    assert (await post(app, chat(), headers=EVAL)).status == 200
    assert (await get(app, "/metrics")).status == 200
    [record] = gateway.log.records
    assert (record.tenant, record.train_consent) == ("local", True)


async def test_evaluations_are_for_administrators(tmp_path: Path) -> None:
    user, admin = (KeyFile(tmp_path).create("acme", role)[0] for role in (Role.USER, Role.ADMIN))
    gateway = serving(tmp_path, "a story")
    app = application(gateway, keys=tmp_path)
    refused = await post(app, chat(), headers=bearer(user) | EVAL)
    assert refused.status == 403 and refused.json["error"]["code"] == "forbidden"
    assert denied(gateway, "forbidden") == 1 and gateway.backend.draws == []
    assert (await post(app, chat(), headers=bearer(admin) | EVAL)).status == 200


@pytest.mark.parametrize("by_header", [True, False])
async def test_a_key_names_only_its_profiles(tmp_path: Path, by_header: bool) -> None:
    profile = {"checks": [{"type": "numeric", "reference": 4}]}
    gateway = serving(tmp_path, "error")  # the fake verifier does not know the check
    limited, _ = KeyFile(tmp_path).create("acme", Role.USER, profiles=["sums"])
    app = application(gateway, keys=tmp_path, tables={"profiles": {"sums": profile, "other": profile}})

    async def ask(name: str) -> Exchange:
        headers = bearer(limited) | ({"X-Verification-Profile": name} if by_header else {})
        return await post(app, chat() if by_header else chat(verification={"profile": name}), headers=headers)

    assert (await ask("sums")).status == 200
    refused = await ask("other")
    assert refused.status == 403 and "other@1" in refused.json["error"]["message"]
    assert (await post(app, chat(), headers=bearer(limited))).status == 200


async def test_a_running_application_follows_the_keys(tmp_path: Path) -> None:
    gateway = serving(tmp_path, "a story")
    app = application(gateway, keys=tmp_path)
    key, kept = KeyFile(tmp_path).create("acme", Role.USER)
    assert (await get(app, "/v1/models")).status == 200  # not looked yet
    runtime = app._app.state.runtime  # type: ignore[attr-defined]
    await runtime.watcher.look()
    assert (await get(app, "/v1/models")).status == 401
    assert (await get(app, "/v1/models", headers=bearer(key))).status == 200
    KeyFile(tmp_path).revoke(kept.id)
    await runtime.watcher.look()
    assert (await get(app, "/v1/models", headers=bearer(key))).status == 401
    (tmp_path / "keys.json").write_text("{")
    await runtime.watcher.look()
    assert (await get(app, "/readyz")).json["degraded"] == ["keys"]
    assert (await get(app, "/v1/models")).status == 401


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "localhost:8000"}, 200),
        ({"Host": "127.0.0.1"}, 200),
        ({"Host": "[::1]:8000", "Origin": "http://localhost:3000"}, 200),
        ({"Host": "evil.example"}, 403),
        ({"Host": "127.0.0.1.evil.example:8000"}, 403),
        ({"Host": "localhost.evil.example"}, 403),
        ({"Host": "127.0.0.1", "Origin": "https://evil.example"}, 403),
        ({"Host": "127.0.0.1", "Origin": "null"}, 403),
    ],
)
async def test_without_keys_pages_of_other_sites_are_refused(
    tmp_path: Path, headers: dict[str, str], status: int
) -> None:
    """DNS rebinding brings the attacker's own name as the host; a page that posts brings its origin."""
    app = application(serving(tmp_path / "open", "a story"))
    for method, path in routes(app):
        if method != "HEAD" and path not in PUBLIC:
            body = chat() if path.endswith("chat/completions") else {}
            answered = await (post(app, body, path, headers) if method == "POST" else get(app, path, method, headers))
            assert (answered.status == 403) == (status == 403), path
    assert (await get(app, "/healthz", headers=headers)).status == 200  # probes come by any name
    key, _ = KeyFile(tmp_path).create("acme", Role.USER)
    keyed = application(serving(tmp_path / "keyed", "a story"), keys=tmp_path)
    assert (await get(keyed, "/v1/models", headers=headers | bearer(key))).status == 200  # a page has no key

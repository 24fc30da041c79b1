import asyncio
import re

import pytest
from starlette.types import Message, Receive, Scope, Send

from gateway.http.drain import Drain
from gateway.http.request_scope import RequestScope
from tests.support.asgi import Exchange, request


async def _echo(scope: Scope, receive: Receive, send: Send) -> None:
    body = scope["state"]["request_id"].encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-request-id", b"from the inside")]})
    await send({"type": "http.response.body", "body": body})


async def ask(given: str | None) -> str:
    """The request id the application saw, which must be the one the client gets."""
    exchange = Exchange()
    await exchange.run(RequestScope(_echo), request("GET", "/", {} if given is None else {"X-Request-Id": given}), b"")
    assert exchange.body.decode() == exchange.headers["x-request-id"]
    return exchange.body.decode()


@pytest.mark.parametrize("given", ["a", "req-1.2_3", "x" * 128])
async def test_a_sane_id_is_kept(given: str) -> None:
    assert await ask(given) == given


@pytest.mark.parametrize("given", [None, "", "x" * 129, "a b", "a\nX-Evil: 1", "é", '"', "a;b"])
async def test_any_other_is_replaced(given: str | None) -> None:
    assert re.fullmatch(r"req-[0-9a-f]{32}", await ask(given))


async def test_every_request_has_an_id_of_its_own() -> None:
    assert len({await ask(None) for _ in range(100)}) == 100


async def test_what_is_not_http_passes_by() -> None:
    seen: list[Scope] = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)

    async def receive() -> Message:
        return {}

    async def send(_: Message) -> None:
        """Nothing is sent."""

    await RequestScope(inner)({"type": "lifespan"}, receive, send)
    assert seen == [{"type": "lifespan"}]


async def test_a_stop_refuses_what_is_new_and_answers_probes() -> None:
    drain = Drain(5.0)
    with drain.serving():
        drain.begin()
        assert drain.begun and not drain.over
        refused, probed = Exchange(), Exchange()
        await refused.run(RequestScope(_echo, drain), request("POST", "/"), b"")
        await probed.run(RequestScope(_echo, drain), request("GET", "/"), b"")
    assert (refused.status, refused.json["error"]["code"], refused.headers["connection"]) == (503, "stopping", "close")
    assert probed.status == 200 and drain.over


def test_a_drain_ends_at_its_limit() -> None:
    now = [0.0]
    drain = Drain(5.0, lambda: now[0])
    with drain.serving():
        assert not drain.begun and not drain.over
        drain.begin()
        now[0] = 4.9
        drain.begin()  # a second signal gives no more time
        assert not drain.over
        now[0] = 5.0
        assert drain.over


@pytest.mark.parametrize("started", [False, True])
async def test_what_a_stop_cuts_off_is_answered_while_it_can_be(started: bool) -> None:
    async def stalls(scope: Scope, receive: Receive, send: Send) -> None:
        if started:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.sleep(30)

    exchange = Exchange()
    serving_it = asyncio.create_task(exchange.run(RequestScope(stalls), request("GET", "/"), b""))
    await asyncio.sleep(0.05)
    serving_it.cancel()
    await serving_it
    assert exchange.status == (200 if started else 503) and exchange.headers["x-request-id"]
    if not started:
        assert exchange.json["error"]["code"] == "stopping" and int(exchange.headers["retry-after"]) > 0

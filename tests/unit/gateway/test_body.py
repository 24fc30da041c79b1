import asyncio
import contextlib
import gc
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.requests import Request
from starlette.types import Message

from gateway.http.body import ClientGone, read_body, until_disconnect
from router.errors import PayloadTooLarge

GONE: Message = {"type": "http.disconnect"}


def request_of(*messages: Message) -> tuple[Request, list[int]]:
    """A request that receives these messages and then nothing; how many it received is counted."""
    waiting, received = list(messages), [0]

    async def receive() -> Message:
        if not waiting:
            await asyncio.sleep(3600)
        received[0] += 1
        return waiting.pop(0)

    return Request({"type": "http", "method": "POST", "path": "/", "headers": []}, receive), received


def parts(*sizes: int) -> Iterator[Message]:
    for index, size in enumerate(sizes):
        yield {"type": "http.request", "body": b"x" * size, "more_body": index < len(sizes) - 1}


async def test_a_body_in_parts() -> None:
    request, _ = request_of(*parts(3, 0, 4))
    assert await read_body(request, 7) == b"x" * 7


async def test_a_body_over_the_limit_is_read_to_its_end_so_that_the_answer_arrives() -> None:
    request, received = request_of(*parts(8, 8, 8))
    with pytest.raises(PayloadTooLarge, match="10 bytes"):
        await read_body(request, 10)
    assert received == [3]


async def test_a_body_without_end_is_not_read_for_ever() -> None:
    request, received = request_of(*parts(*[10] * 100))
    with pytest.raises(PayloadTooLarge):
        await read_body(request, 10)
    assert received == [9]


async def test_a_client_that_leaves_in_the_middle() -> None:
    request, _ = request_of({"type": "http.request", "body": b"x", "more_body": True}, GONE)
    with pytest.raises(ClientGone):
        await read_body(request, 10)


async def _answer(delay_s: float, cancelled: list[bool]) -> str:
    try:
        await asyncio.sleep(delay_s)
    except asyncio.CancelledError:
        cancelled.append(True)
        raise
    return "done"


async def test_work_that_ends_first() -> None:
    request, _ = request_of()
    cancelled: list[bool] = []
    assert await until_disconnect(request, _answer(0.01, cancelled)) == "done"
    assert cancelled == []


async def test_a_client_that_leaves_first_cancels_the_work() -> None:
    request, _ = request_of(GONE)
    cancelled: list[bool] = []
    with pytest.raises(ClientGone):
        await until_disconnect(request, _answer(30, cancelled))
    assert cancelled == [True]


async def test_the_error_of_the_work() -> None:
    async def fail() -> None:
        raise PayloadTooLarge("x")

    request, _ = request_of()
    with pytest.raises(PayloadTooLarge):
        await until_disconnect(request, fail())


async def test_work_that_fails_while_it_is_cancelled_leaves_no_trace() -> None:
    """An exception that nobody retrieves would be printed with its traceback."""

    async def fail_late() -> None:
        try:
            await asyncio.sleep(30)
        finally:
            raise PayloadTooLarge("too late")

    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    request, _ = request_of(GONE)
    with pytest.raises(ClientGone):
        await until_disconnect(request, fail_late())
    gc.collect()
    assert complaints == []


async def test_a_stop_that_cancels_the_request_is_no_client_that_left() -> None:
    request, _ = request_of()
    serving = asyncio.create_task(until_disconnect(request, asyncio.sleep(30)))
    await asyncio.sleep(0.05)
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving


async def test_a_stop_and_a_client_that_leaves_at_once() -> None:
    leave = asyncio.Event()

    async def receive() -> Message:
        await leave.wait()
        return GONE

    request = Request({"type": "http", "method": "POST", "path": "/", "headers": []}, receive)
    serving = asyncio.create_task(until_disconnect(request, asyncio.sleep(30)))
    await asyncio.sleep(0.05)
    leave.set()
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving


async def test_work_that_swallows_its_cancellation_is_over_all_the_same() -> None:
    async def stubborn() -> str:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(30)
        return "done"

    request, _ = request_of(GONE)
    with pytest.raises(ClientGone):
        await until_disconnect(request, stubborn())
    task = asyncio.current_task()
    assert task is not None and task.cancelling() == 0

import asyncio

import pytest

from gateway.http.joined_writes import JoinedWrites


class Recorder(asyncio.Transport):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[bytes | str] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.told.append(bytes(data))

    def write_eof(self) -> None:
        self.told.append("eof")

    def close(self) -> None:
        self.told.append("close")

    def is_closing(self) -> bool:
        return "close" in self.told


async def test_a_head_leaves_with_its_body() -> None:
    recorder = Recorder()
    joined = JoinedWrites(recorder)
    for _ in range(2):
        joined.hold()
        joined.write(b"head")
        assert recorder.told[-1:] != [b"head"]
        joined.write(b"body")
        joined.write(b"more")
    await asyncio.sleep(0)
    assert recorder.told == [b"headbody", b"more"] * 2


async def test_a_head_whose_body_is_not_there_yet_does_not_wait_for_it() -> None:
    recorder = Recorder()
    joined = JoinedWrites(recorder)
    joined.hold()
    joined.write(b"head")
    await asyncio.sleep(0)
    assert recorder.told == [b"head"]
    joined.write(b"body")
    assert recorder.told == [b"head", b"body"]


@pytest.mark.parametrize("end", ["close", "eof"])
async def test_what_is_held_back_comes_before_the_end(end: str) -> None:
    recorder = Recorder()
    joined = JoinedWrites(recorder)
    joined.hold()
    joined.write(b"head")
    joined.close() if end == "close" else joined.write_eof()
    await asyncio.sleep(0)
    assert recorder.told == [b"head", end]


async def test_what_was_aborted_is_not_written() -> None:
    recorder = Recorder()
    joined = JoinedWrites(recorder)
    joined.hold()
    joined.write(b"head")
    recorder.close()
    await asyncio.sleep(0)
    assert recorder.told == ["close"]

"""`search_notes` over a real folder: what it finds, what it leaves alone, and that it never hangs or breaks."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.adapters import notes
from gateway.adapters.notes import NotesIndex, passages
from router.errors import ConfigError, ToolError

NOTHING = "No passage holds any of these words."


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    (folder / "hr").mkdir(parents=True)
    (folder / "hr" / "leave.md").write_text("# Leave\n\nEverybody has 28 days of paid leave a year.\n\nAsk your lead.")
    (folder / "travel.txt").write_text("A hotel may cost 140 euros a night in Zürich.")
    return folder


@pytest.fixture
async def index(folder: Path) -> AsyncIterator[NotesIndex]:
    index = await NotesIndex(folder).open()
    yield index
    await index.close()


async def test_the_best_passage_comes_first_with_its_file(index: NotesIndex) -> None:
    found = await index.call({"query": "How many DAYS of leave?"})
    assert found.startswith("[hr/leave.md]\n") and "28 days" in found
    assert "140 euros" in await index.call({"query": "zurich hotels"})  # folded, and stemmed
    assert await index.call({"query": "parental"}) == NOTHING


@pytest.mark.parametrize(
    "query",
    ['"', "*", "leave OR", "NEAR(leave days)", "text : leave", "-leave", "(leave", "'; DROP TABLE passages; --"],
)
async def test_a_query_is_words_and_never_syntax(index: NotesIndex, query: str) -> None:
    if any(char.isalnum() for char in query):
        assert "28 days" in await index.call({"query": f"{query} leave"})
    else:
        with pytest.raises(ToolError, match="no word"):
            await index.call({"query": query})
    assert "28 days" in await index.call({"query": "leave"})


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(query=st.text(max_size=80))
async def test_any_text_is_answered(index: NotesIndex, query: str) -> None:
    try:
        assert isinstance(await index.call({"query": query}), str)
    except ToolError as error:
        assert "no word" in str(error)


@pytest.mark.parametrize(
    "arguments",
    [{}, {"query": 1}, {"query": "x", "limit": 0}, {"query": "x", "limit": 99}, {"query": "x", "limit": True}],
)
async def test_bad_arguments_are_said(index: NotesIndex, arguments: dict[str, object]) -> None:
    with pytest.raises(ToolError):
        await index.call(arguments)


async def test_files_that_come_change_and_go(index: NotesIndex, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notes, "REFRESH_S", 0.0)
    (folder / "new.md").write_text("The mascot is a heron.")
    assert "heron" in await index.call({"query": "mascot"})
    (folder / "new.md").write_text("The mascot is an otter now.")
    assert "otter" in await index.call({"query": "mascot"}) and "heron" not in await index.call({"query": "mascot"})
    (folder / "new.md").unlink()
    assert await index.call({"query": "mascot"}) == NOTHING


async def test_what_is_left_alone(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notes, "MAX_FILE_BYTES", 2000)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.md").write_text("secret password")
    (folder / "link.md").symlink_to(outside / "secret.md")
    (folder / "linked").symlink_to(outside)
    (folder / "gone.md").symlink_to(outside / "nothing.md")
    (folder / ".hidden.md").write_text("secret")
    (folder / ".git").mkdir()
    (folder / ".git" / "x.md").write_text("secret")
    (folder / "code.py").write_text("secret")
    (folder / "big.txt").write_text("secret " * 1000)
    os.mkfifo(folder / "pipe.md")
    (folder / os.fsdecode(b"bad\xff.md")).write_text("secret")
    (folder / "bytes.txt").write_bytes(b"caf\xe9 opening hours")
    index = await NotesIndex(folder).open()
    try:
        assert await index.call({"query": "secret password"}) == NOTHING
        assert "opening hours" in await index.call({"query": "opening"})
    finally:
        await index.close()


async def test_a_query_that_takes_too_long_is_ended(index: NotesIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notes, "QUERY_S", -1.0)
    monkeypatch.setattr(notes, "_STEPS", 1)
    with pytest.raises(TimeoutError):
        await index.call({"query": "leave"})


async def test_the_event_loop_goes_on_while_it_searches(folder: Path) -> None:
    for number in range(300):
        (folder / f"{number}.txt").write_text("\n\n".join(f"paragraph {n} of {number} about leave" for n in range(200)))
    index = await NotesIndex(folder).open()
    longest, stop = 0.0, asyncio.Event()

    async def watch() -> None:
        nonlocal longest
        while not stop.is_set():
            before = time.monotonic()
            await asyncio.sleep(0.005)
            longest = max(longest, time.monotonic() - before)

    watching = asyncio.create_task(watch())
    answers = await asyncio.gather(*(index.call({"query": "leave paragraph", "limit": 8}) for _ in range(8)))
    stop.set()
    await watching
    await index.close()
    assert len(set(answers)) == 1 and longest < 1.0


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"tools\.search_notes"):
        NotesIndex(tmp_path / "none")


def test_passages_are_whole_paragraphs() -> None:
    text = "\n\n".join("x" * 500 for _ in range(5))
    assert [len(passage) for passage in passages(text)] == [1002, 1002, 500]
    assert list(passages(" \n\n ")) == [] and list(passages("x" * 3000)) == ["x" * 3000]

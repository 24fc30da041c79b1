"""The `python` tool in a real sandbox: what the model is told of its program, whatever that does."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from router import python_tool
from router.enums import Tier
from router.errors import ToolError
from router.python_tool import MAX_SOURCE_CHARS, PythonTool
from router.sandbox.sandbox import OFF, Sandbox
from tests.support.sandboxes import opened

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=Tier)
async def tool(request: pytest.FixtureRequest) -> AsyncIterator[PythonTool]:
    async with opened(request.param) as sandbox:
        yield PythonTool(sandbox)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("6 * 7", "42"),
        ("print('a')\nx = [1]\nx + [2]", "a\n[1, 2]"),
        ("def f(n):\n    return 1 if n < 2 else n * f(n - 1)\nf(5)", "120"),
        ("x = 1", "[no output]"),
        ("", "[no output]"),
        ("None", "[no output]"),
        ("print('''it's \"\\\\x''')", "it's \"\\x"),
        ("import os\nprint('x', flush=True)\nos._exit(1)", "x\n[the program ended its own process]"),
    ],
)
async def test_what_a_program_prints_and_its_last_value(tool: PythonTool, source: str, told: str) -> None:
    assert await tool.call({"source": source}) == told


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("if", "SyntaxError"),
        ("(" * 5000, "Error"),
        ("while True: print('x' * 999)", "too much"),
    ],
)
async def test_what_goes_wrong_is_told(tool: PythonTool, source: str, told: str) -> None:
    assert told in await tool.call({"source": source})


async def test_a_program_without_an_end_is_ended(tool: PythonTool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(python_tool, "RUN_S", 0.5)
    assert "[ended after" in await tool.call({"source": "print('so far', flush=True)\nwhile True: pass"})


async def test_what_is_not_run() -> None:
    with pytest.raises(ToolError, match="not run: the sandbox is off"):
        await PythonTool(Sandbox(None, fault=OFF)).call({"source": "1"})
    for bad in ({}, {"source": 1}, {"source": "x" * (MAX_SOURCE_CHARS + 1)}):
        with pytest.raises(ToolError):
            await PythonTool(Sandbox(None)).call(bad)

"""The `python` tool: a program run in the sandbox that runs checks, each in a process of its own used once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from router.enums import RunEnd
from router.errors import SandboxUnavailable, ToolError
from router.sandbox.sandbox import Sandbox

RUN_S = 5.0
MAX_SOURCE_CHARS = 32 * 1024
_SHOW_LAST = """
import ast
tree = ast.parse(SOURCE, "<program>")
last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
scope = {"__name__": "__main__"}
exec(compile(tree, "<program>", "exec"), scope)
value = eval(compile(ast.Expression(last.value), "<program>", "eval"), scope) if last is not None else None
if value is not None:
    print(repr(value))
"""
_ENDINGS = {
    RunEnd.TIMEOUT: f"ended after {RUN_S:g} seconds",
    RunEnd.OUTPUT_LIMIT: "ended: it printed too much",
    RunEnd.DIED: "the program ended its own process",
}


class PythonTool:
    """`router.ports.Tool` that runs `source`."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    async def call(self, arguments: Mapping[str, Any]) -> str:
        """What the program printed, its traceback included, and the value of its last line. Raises `ToolError`."""
        source = arguments.get("source")
        if not isinstance(source, str):
            raise ToolError("python needs `source`, a string")
        if len(source) > MAX_SOURCE_CHARS:
            raise ToolError(f"the program is longer than {MAX_SOURCE_CHARS} characters")
        try:  # parsed inside: a hostile program must not cost the serving process anything
            ran = await self._sandbox.run(f"SOURCE = {source!r}\n{_SHOW_LAST}", RUN_S)
        except SandboxUnavailable as unavailable:
            raise ToolError(f"the program was not run: {unavailable}") from unavailable
        ending = _ENDINGS.get(ran.end)
        return "\n".join(part for part in (ran.output.rstrip(), ending and f"[{ending}]") if part) or "[no output]"

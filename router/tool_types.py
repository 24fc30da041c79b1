"""The server-side tools as the model is told of them. What runs them is behind `router.ports.Tool`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from router.domain import ToolDefinition
from router.enums import ToolName

MAX_HITS = 8

_DEFINITIONS = (
    ToolDefinition(
        ToolName.CALCULATOR,
        "1",
        "Work out one arithmetic expression exactly, such as (12.5 + 3) * 4 / 7 or 2^10. Numbers, + - * / ^, percent"
        " and parentheses; no variables, no functions.",
        {
            "type": "object",
            "properties": {"expression": {"type": "string", "description": "The expression, at most 500 characters."}},
            "required": ["expression"],
            "additionalProperties": False,
        },
    ),
    ToolDefinition(
        ToolName.SEARCH_NOTES,
        "1",
        "Search the organisation's own documents for passages that hold the words of a query, best first.",
        {
            "type": "object",
            "properties": {
                "query": {"type": "string", "description": "A few telling words."},
                "limit": {"type": "integer", "minimum": 1, "maximum": MAX_HITS, "description": "Passages, default 4."},
            },
            "required": ["query"],
            "additionalProperties": False,
        },
    ),
    ToolDefinition(
        ToolName.PYTHON,
        "1",
        "Run a Python program in a sandbox without a network. You get what it prints and the value of its last line.",
        {
            "type": "object",
            "properties": {"source": {"type": "string", "description": "The program."}},
            "required": ["source"],
            "additionalProperties": False,
        },
    ),
)
TOOL_TYPES: Mapping[ToolName, ToolDefinition] = MappingProxyType({tool.name: tool for tool in _DEFINITIONS})


def definitions(names: Sequence[ToolName]) -> tuple[ToolDefinition, ...]:
    """The definitions of these tools, each once, in the order given."""
    return tuple(TOOL_TYPES[name] for name in dict.fromkeys(names))

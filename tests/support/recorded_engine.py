"""An engine that answers what vLLM was recorded to answer (`record_vllm.py`): its own fields, not our idea of them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.support.fidelity import GOLDEN
from tests.support.mock_engine import MockEngine

RECORDED: dict[str, Any] = json.loads((GOLDEN / "vllm.json").read_text())
MODEL = "recorded"


@dataclass(slots=True)
class RecordedEngine(MockEngine):
    """Knows the recorded requests by their only message, and whether the gateway asked by the token ids it wants."""

    model: str = MODEL
    recordings: dict[str, Any] = field(
        default_factory=lambda: {each["body"]["messages"][0]["content"]: each for each in RECORDED["recordings"]}
    )

    async def _answer(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        recording = self.recordings.get(body["messages"][-1]["content"])
        if recording is None:  # the gateway's probe
            return await super(RecordedEngine, self)._answer(request, body)
        answer = recording["upstream" if body.get("return_token_ids") else "direct"]
        if "body" in answer:
            return web.Response(body=json.dumps(answer["body"]).encode(), content_type="application/json")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        for event in answer["events"]:
            await response.write(b"data: " + json.dumps(event).encode() + b"\n\n")
        await response.write(b"data: [DONE]\n\n")
        return response

"""A backend that costs next to nothing: an OpenAI engine of vLLM's dialect with one canned answer, as raw bytes.

    python -m tests.bench.canned_engine --port 9101 --pace-ms 5

Answers have `max_tokens` tokens (64) and end in `\\boxed{4}`; token ids and log-probabilities come when they are asked
for. A stream sends one event a token, each in a write of its own, every `--pace-ms`.
"""

from __future__ import annotations

import argparse
import asyncio
from functools import cache
from typing import Any, cast

import httptools
import msgspec
import uvloop

MODEL = "bench-model"
TOKENS = 64
_ENDING = " The answer is \\boxed{4}."
_CARD = {"id": MODEL, "object": "model", "owned_by": "vllm", "max_model_len": 8192}
_GETS = {
    b"/health": {},
    b"/version": {"version": "canned"},
    b"/v1/models": {"object": "list", "data": [_CARD]},
}


class Asked(msgspec.Struct):
    """What shapes the canned answer."""

    stream: bool = False
    max_tokens: int | None = None
    logprobs: bool | None = False
    return_token_ids: bool | None = False
    top_logprobs: int | None = 0
    temperature: float | None = None
    stream_options: dict[str, Any] | None = None


_decoder = msgspec.json.Decoder(Asked)


def _entry(token: int, asked: Asked) -> dict[str, Any]:
    """One token's log-probabilities, processed: they follow the temperature, as the gateway's probe expects."""
    gap = 1.0 / (asked.temperature or 1.0)
    tops = [{"token": f"t{i}", "logprob": -0.1 - gap * i, "bytes": [116]} for i in range(asked.top_logprobs or 0)]
    return {"token": f" w{token}", "logprob": -0.1, "bytes": [32, 119], "top_logprobs": tops}


def _usage(count: int) -> dict[str, int]:
    return {"prompt_tokens": 24, "completion_tokens": count, "total_tokens": 24 + count}


def completion(asked: Asked) -> dict[str, Any]:
    """The whole answer."""
    count = asked.max_tokens or TOKENS
    choice: dict[str, Any] = {
        "index": 0,
        "message": {"role": "assistant", "content": " word" * count + _ENDING},
        "logprobs": {"content": [_entry(i, asked) for i in range(count)]} if asked.logprobs else None,
        "finish_reason": "stop",
        "stop_reason": None,
    }
    answer = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": MODEL, "choices": [choice]}
    if asked.return_token_ids:
        choice["token_ids"] = list(range(count))
        answer["prompt_token_ids"] = list(range(24))
    return answer | {"usage": _usage(count)}


def chunks(asked: Asked) -> list[dict[str, Any]]:
    """The same as a stream: the role, a chunk a token, the end, and the token counts where they are asked for."""
    count = asked.max_tokens or TOKENS
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": MODEL}

    def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
        return head | {"choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish, **more}]}

    told: list[dict[str, Any]] = [chunk({"role": "assistant", "content": ""})]
    if asked.return_token_ids:
        told[0]["prompt_token_ids"] = list(range(24))
    for token in range(count):
        more: dict[str, Any] = {"logprobs": {"content": [_entry(token, asked)]}} if asked.logprobs else {}
        if asked.return_token_ids:
            more["token_ids"] = [token]
        told.append(chunk({"content": " word"}, **more))
    told.append(chunk({"content": _ENDING}, "stop"))
    if asked.stream_options and asked.stream_options.get("include_usage"):
        told.append(head | {"choices": [], "usage": _usage(count)})
    return told


def _http(body: bytes, status: str = "200 OK") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


@cache
def _whole(asked_as: bytes) -> bytes:
    return _http(msgspec.json.encode(completion(_decoder.decode(asked_as))))


@cache
def _events(asked_as: bytes) -> tuple[bytes, ...]:
    datas = [msgspec.json.encode(each) for each in chunks(_decoder.decode(asked_as))] + [b"[DONE]"]
    framed = [b"data: " + data + b"\n\n" for data in datas]
    return tuple(b"%x\r\n%b\r\n" % (len(event), event) for event in framed)


class Connection(asyncio.Protocol):
    """One client's connection; requests on it follow each other."""

    def __init__(self, pace_s: float) -> None:
        self._pace_s = pace_s
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport, of which asyncio turns Nagle's algorithm off."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is not derived from it
        self._parser = httptools.HttpRequestParser(self)
        self._body = b""

    def data_received(self, data: bytes) -> None:
        """Parse."""
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        """Called by the parser."""
        self._url = url

    def on_body(self, body: bytes) -> None:
        """Called by the parser."""
        self._body += body

    def on_message_complete(self) -> None:
        """Called by the parser."""
        body, self._body = self._body, b""
        if self._parser.get_method() == b"GET":
            found = _GETS.get(self._url)
            status = "404 Not Found" if found is None else "200 OK"
            self._transport.write(_http(msgspec.json.encode(found or {}), status))
            return
        asked = _decoder.decode(body)
        key = msgspec.json.encode(asked)
        if not asked.stream:
            self._transport.write(_whole(key))
            return
        self._transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        self._send(_events(key), 0)

    def _send(self, events: tuple[bytes, ...], position: int) -> None:
        if self._transport.is_closing():
            return
        self._transport.write(events[position])
        if position + 1 < len(events):
            self._loop.call_later(self._pace_s, self._send, events, position + 1)
        else:
            self._transport.write(b"0\r\n\r\n")


async def serve(port: int, pace_s: float) -> None:
    """Serve on loopback until cancelled."""
    server = await asyncio.get_running_loop().create_server(lambda: Connection(pace_s), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--pace-ms", type=float, default=5.0)
    given = parser.parse_args()
    uvloop.run(serve(given.port, given.pace_ms / 1000))

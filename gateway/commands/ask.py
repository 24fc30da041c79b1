"""`thinktwice ask`: one question to a running gateway, the answer on stdout, what is claimed of it on stderr."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeAlias

from router.enums import Effort, OnFailure
from router.errors import ConfigError

if TYPE_CHECKING:
    Subparsers: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]

_DIM, _RESET = "\x1b[2m", "\x1b[0m"
_CHECKS = ("numeric", "math", "exact")


def register(subparsers: Subparsers) -> None:
    """Add the command `ask`."""
    parser = subparsers.add_parser(
        "ask",
        help="ask a running gateway one question",
        description="Ask a running gateway one question. The answer goes to stdout, its status to stderr.",
        epilog="exit codes: 0 answered, 1 refused or failed, 2 usage",
    )
    parser.add_argument("question", help="the question; `-` reads it from stdin")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="the gateway (default: %(default)s)")
    parser.add_argument("--model", default="champion", help="model or policy name (default: %(default)s)")
    parser.add_argument("--effort", choices=[*Effort], help="how much compute: low is one sample, high a full vote")
    check = parser.add_mutually_exclusive_group()
    check.add_argument("--numeric", metavar="REF", help="check the final answer against this number")
    check.add_argument("--math", metavar="REF", help="check the final answer against this LaTeX or plain expression")
    check.add_argument("--exact", metavar="REF", help="check the final answer against this text")
    parser.add_argument("--samples", nargs=2, type=int, metavar=("MIN", "MAX"), help="bounds of the group")
    parser.add_argument("--on-failure", choices=[*OnFailure], help="what to return when the answer does not verify")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    parser.add_argument("--no-stream", action="store_true", help="print the answer when it is whole")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Ask, print, and return the exit code. Raises `ThinkTwiceError` for a request that failed."""
    from gateway import client  # noqa: PLC0415  # the SDK takes over a second to import

    request = build_request(args)
    gateway = client.connect(args.url)
    with client.one_line_errors(args.url):
        if args.json or args.no_stream:
            reply = client.reply_of(gateway.chat.completions.create(**request))
            print(json.dumps(asdict(reply)) if args.json else reply.text or reply.refusal or "")
        else:
            reply = client.stream_reply(gateway, request, lambda text: print(text, end="", flush=True))
            print()
    if not args.json:
        line = status_line(reply.verification)
        print(f"{_DIM}{line}{_RESET}" if sys.stderr.isatty() else line, file=sys.stderr)
    return 1 if reply.refusal is not None else 0


def build_request(args: argparse.Namespace) -> dict[str, Any]:
    """The SDK call's arguments. Raises `ConfigError` for an empty question."""
    question = sys.stdin.read() if args.question == "-" else args.question
    if not question.strip():
        raise ConfigError("the question is empty: thinktwice ask 'What is 12 * 7?'")
    verification: dict[str, Any] = {}
    checks = [{"type": name, "reference": getattr(args, name)} for name in _CHECKS if getattr(args, name) is not None]
    if checks:
        verification["checks"] = checks
    if args.samples:
        verification["samples"] = {"min": args.samples[0], "max": args.samples[1]}
    if args.on_failure:
        verification["on_failure"] = args.on_failure
    request: dict[str, Any] = {"model": args.model, "messages": [{"role": "user", "content": question}]}
    if args.effort:
        request["reasoning_effort"] = args.effort
    if verification:
        request["extra_body"] = {"verification": verification}
    return request


def status_line(verification: Mapping[str, Any]) -> str:
    """Status, reason, route, samples, votes and cost in one line."""
    cost = verification["cost_usd"]
    parts = [
        f"{verification['status']} ({verification['reason']})",
        f"route {verification['route']}" + (", escalated" if verification["escalated"] else ""),
        f"samples {verification['samples']}",
        f"votes {verification['votes']}",
        "cost unknown (no price configured)" if cost is None else f"cost ${cost:.6f}",
        f"group {verification['group_id']}",
    ]
    return " · ".join(parts)

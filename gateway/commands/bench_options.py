"""The options that every benchmark takes."""

from __future__ import annotations

import argparse
from pathlib import Path

EXIT_CODES = (
    "exit codes: 0 done, 1 no gateway or no request answered, 2 usage or bad data, 130 interrupted "
    "(what was measured is printed)"
)


def add_common(parser: argparse.ArgumentParser, seed: str) -> None:
    """Gateway, model, concurrency, seed (`seed` says of what) and the forms of the result."""
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="the gateway (default: %(default)s)")
    parser.add_argument("--model", default="champion", help="model or policy name (default: %(default)s)")
    parser.add_argument("--concurrency", type=positive, default=4, help="requests at a time (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help=f"of {seed} (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="also write the result to this directory, as JSON and Markdown")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")


def positive(text: str) -> int:
    """A whole number of 1 or more. Raises `argparse.ArgumentTypeError`."""
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return number

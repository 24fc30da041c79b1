"""The command `thinktwice`: finds the commands other packages registered, runs one, turns errors into one line.

A command is an entry point of the group `thinktwice.commands`, a function `register(subparsers)` that adds a parser and
sets its default `run` to a function of the parsed arguments that returns the exit code. Command modules import what is
heavy inside `run`, so that `--help` stays quick.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import EntryPoint, entry_points, version
from typing import TYPE_CHECKING, TypeAlias

from router.errors import ConfigError, ThinkTwiceError

if TYPE_CHECKING:
    Subparsers: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]

GROUP = "thinktwice.commands"
EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED, EXIT_BROKEN_PIPE = 1, 2, 130, 141
EPILOG = """exit codes:
  0    done
  1    it failed: the request was refused, something it needs did not answer
  2    the command line or the configuration cannot be used
  130  interrupted (Ctrl-C)
  141  whoever read the output went away"""

_EXTRA_OF_PACKAGE = {
    "gateway.engine": "embedded",
    "gateway.commands.calibrate": "embedded",
    "gateway.commands.simulate": "embedded",
    "training": "train",
}
_OUR_PACKAGES = ("gateway", "router", "training")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. Only what argparse ends (usage, `--help`) leaves by `SystemExit`."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    commands = entry_points(group=GROUP)
    try:
        # The named command alone is loaded; without one, all are, for the help page.
        parser = build_parser([each for each in commands if each.name == (arguments or [""])[0]] or commands)
        args = _parse(parser, arguments)
        if not hasattr(args, "run"):
            parser.print_help(sys.stderr)
            return EXIT_USAGE
        return _run(args)
    except ConfigError as error:
        return _fail(error, EXIT_USAGE)
    except ThinkTwiceError as error:
        return _fail(error, EXIT_FAILED)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The interpreter flushes stdout once more at exit; give it somewhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE


def build_parser(commands: Iterable[EntryPoint]) -> argparse.ArgumentParser:
    """The parser of these commands. One that cannot be imported keeps its name and says, when called, what it needs."""
    parser = argparse.ArgumentParser(
        prog="thinktwice",
        description="An inference-time reasoning gateway: answers once when it can, thinks twice when it must.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"thinktwice {version('thinktwice')}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND")
    for command in sorted(commands, key=lambda each: each.name):
        try:
            register: Callable[[Subparsers], None] = command.load()
        except ImportError as error:
            _register_unavailable(subparsers, command, error)
        else:
            register(subparsers)
    return parser


def _register_unavailable(subparsers: Subparsers, command: EntryPoint, error: ImportError) -> None:
    cure = _cure(command.module)
    message = f"`thinktwice {command.name}` cannot be loaded ({error}): {cure}"

    def refuse(_: argparse.Namespace) -> int:
        raise ConfigError(message)

    parser = subparsers.add_parser(command.name, help=f"unavailable: {cure}", add_help=False, prefix_chars="\0")
    parser.add_argument("rest", nargs="*")
    parser.set_defaults(run=refuse)


def _parse(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    try:
        return parser.parse_args(arguments)
    except SystemExit:
        sys.stdout.flush()  # so that a help page nobody reads ends here, not while the interpreter shuts down
        raise


def _run(args: argparse.Namespace) -> int:
    try:
        code: int = args.run(args)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in _OUR_PACKAGES:
            raise
        raise ConfigError(f"{error}: {_cure(args.run.__module__)}") from error
    sys.stdout.flush()
    return code


def _cure(module: str) -> str:
    for package, extra in _EXTRA_OF_PACKAGE.items():
        if module == package or module.startswith(f"{package}."):
            return f"install the extra with `pip install 'thinktwice[{extra}]'`"
    return "install thinktwice again with `pip install --force-reinstall thinktwice`"


def _fail(error: ThinkTwiceError, code: int) -> int:
    print(f"thinktwice: {error}", file=sys.stderr)
    return code

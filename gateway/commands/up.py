"""`thinktwice up`: everything needed on one machine, a demonstration, and a clean stop."""

from __future__ import annotations

import argparse
import signal
import threading
from pathlib import Path
from types import FrameType

from router.settings import load_settings


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser("up", help="run engine, Redis and gateway on this machine")
    parser.add_argument("--config", type=Path, help="configuration file (default: ./thinktwice.toml when it is there)")
    parser.add_argument("--engine", metavar="embedded|vllm|URL", help="default: vllm with a CUDA GPU, else embedded")
    parser.add_argument("--model", help="Hugging Face id or local path (default: SmolLM2-135M-Instruct)")
    parser.add_argument("--port", type=int, help="port of the gateway (default 8000)")
    parser.add_argument("--demo", action="store_true", help="drive the demonstration first")
    parser.add_argument("--demo-only", action="store_true", help="drive the demonstration and stop")
    parser.add_argument("--demo-loop", action="store_true", help="drive traffic and one training cycle, and stop")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run until Ctrl-C. Exit codes: 0 stopped, 1 a part failed or the demonstration broke, 2 unusable configuration."""
    from rich.console import Console  # noqa: PLC0415 - keeps `--help` quick

    from gateway.local.children import Children  # noqa: PLC0415
    from gateway.local.demo import Demo  # noqa: PLC0415
    from gateway.local.loop import LoopDemo  # noqa: PLC0415
    from gateway.local.stack import Wanted, start_stack  # noqa: PLC0415

    settings = load_settings(args.config)
    wanted = Wanted(args.engine, args.model, args.port or settings.server.port, args.config)
    console = Console(highlight=False)
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with Children(settings.state.dir / "run") as children:
            url = start_stack(children, settings, wanted, lambda line: console.print(f"  {line}", style="dim"))
            if args.demo_loop:
                LoopDemo(url, settings, args.config, console).run()
                return 0
            if args.demo or args.demo_only:
                passed = Demo(url, console).run()
                if args.demo_only or not passed:
                    return 0 if passed else 1
            console.print(f"\nServing on [bold]{url}/v1[/]. Try next:\n{_NEXT.format(url=url)}")
            while not stopping.wait(1.0):
                children.check()
    except KeyboardInterrupt:
        console.print("\nstopped", style="dim")
    return 0


def _interrupt(signum: int, frame: FrameType | None) -> None:
    """A service manager's stop takes the same way out as Ctrl-C."""
    raise KeyboardInterrupt


_NEXT = """\
  thinktwice ask "What is 17 * 6?" --numeric 102 --effort high --url {url}
  thinktwice bench solve --data ../shared/data/svamp_dev.jsonl --limit 20 --url {url}
  curl {url}/v1/scorecard
  thinktwice log stats
To retrain on what was logged, then judge and promote what came of it:
  thinktwice train
  thinktwice evaluate --candidate POLICY --data heldout.jsonl --url {url}
  thinktwice promote POLICY --url {url}        (thinktwice rollback undoes it)
or all of it on a schedule: thinktwice train --if-due. `make demo-loop` shows the whole loop.
Stop with Ctrl-C."""

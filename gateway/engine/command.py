"""`thinktwice engine`: start the embedded engine. Nothing heavy is imported before it runs."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

from gateway.engine.errors import EngineSetupError


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the parser of `thinktwice engine`."""
    parser = subparsers.add_parser(
        "engine",
        help="serve a model over Hugging Face transformers, in vLLM's dialect",
        description="Serve a model over Hugging Face transformers, in vLLM's HTTP dialect. Exit codes: 0 after a clean "
        "stop, 2 when it cannot start (one line on standard error says why).",
    )
    parser.add_argument("--model", help="Hugging Face id or local folder (default: SmolLM2-135M-Instruct, bundled)")
    parser.add_argument("--served-model-name", help="the name clients use (default: the model's own)")
    parser.add_argument("--host", default="127.0.0.1", help="address to bind (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8100, help="port to bind (default: %(default)s)")
    parser.add_argument(
        "--state-dir",
        type=Path,
        default=Path(os.environ.get("THINKTWICE_STATE__DIR", "state")),
        help="where the converted default model is kept (default: %(default)s)",
    )
    parser.add_argument("--device", choices=["auto", "cpu", "cuda", "mps"], default="auto")
    parser.add_argument("--dtype", choices=["auto", "float32", "bfloat16"], default="auto")
    parser.add_argument("--max-num-seqs", type=int, default=16, help="samples decoded together (default: %(default)s)")
    parser.add_argument("--max-model-len", type=int, help="context in tokens (default: the model's own)")
    parser.add_argument("--threads", type=int, help="CPU threads for the model (default: all cores but one)")
    parser.add_argument("--convert-only", action="store_true", help="convert the default model, print its path, exit")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT. Returns 0 after a clean stop, 2 when the engine cannot start."""
    try:
        check_bounds(args)
        # No hub look-ups for a model that is on this disk, and no telemetry ever.
        os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
        os.environ["TQDM_DISABLE"] = "1"
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
        if args.model is None or Path(args.model).exists():
            os.environ["HF_HUB_OFFLINE"] = "1"
        if args.convert_only:
            from gateway.engine.default_model import ensure_default_model  # noqa: PLC0415

            print(ensure_default_model(args.state_dir))
            return 0
        from gateway.engine.process import serve  # noqa: PLC0415

        serve(args)
    except EngineSetupError as error:
        print(f"thinktwice engine: {error}", file=sys.stderr)
        return 2
    except ImportError as error:
        cure = "pip install 'thinktwice[embedded]' and a build of torch"
        print(f"thinktwice engine: {error}; {cure}", file=sys.stderr)
        return 2
    return 0


def check_bounds(args: argparse.Namespace) -> None:
    """Check the numbers. Raises EngineSetupError."""
    for name in ("max_num_seqs", "threads"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise EngineSetupError(f"--{name.replace('_', '-')} must be at least 1, got {value}")
    if not 0 <= args.port <= 65535:
        raise EngineSetupError(f"--port must be between 0 and 65535, got {args.port}")
    looks_local = args.model is not None and args.model.startswith((".", "/", "~"))
    if looks_local and not Path(args.model).expanduser().is_dir():
        raise EngineSetupError(f"--model {args.model} is no folder; give one in Hugging Face format, or a model id")

"""The engine's process: the composition root, its socket and its signals."""

from __future__ import annotations

import argparse
import importlib.metadata
import logging
import os
import signal
import socket
from pathlib import Path
from types import FrameType

import torch
import uvicorn
from transformers.utils import logging as transformers_logging

from gateway.engine.adapters import ModelRegistry
from gateway.engine.default_model import SERVED_NAME, ensure_default_model
from gateway.engine.errors import EngineSetupError
from gateway.engine.model import Device, Dtype, LanguageModel, load_model
from gateway.engine.prompts import PromptBuilder
from gateway.engine.scheduler import Scheduler
from gateway.engine.server import Engine, create_app

MAX_WAITING = 256
"""Requests that may wait for a place; more get a 503."""

log = logging.getLogger(__name__)


def serve(args: argparse.Namespace) -> None:
    """Load the model, answer HTTP until SIGTERM or SIGINT, then end the process with exit code 0.

    Raises EngineSetupError when it cannot start.
    """
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, leave)
    with bind(args.host, args.port) as listener:
        engine = load_engine(args)
        host, port = listener.getsockname()[:2]
        model = engine.model
        log.info("serving %s on http://%s:%s (%s)", engine.registry.served_name, host, port, model.device)
        # uvicorn stops on the first signal and then raises it again for whoever had it before: leave it no effect.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        EngineServer(engine).run(sockets=[listener])
    # Everything is stopped and flushed. The interpreter's teardown of torch would take two seconds more.
    logging.shutdown()
    os._exit(0)


class EngineServer(uvicorn.Server):
    """uvicorn, ending the running answers on the first signal instead of waiting for them."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(
            uvicorn.Config(
                create_app(engine),
                loop="uvloop",
                http="httptools",
                log_config=None,
                access_log=False,
                lifespan="on",
                timeout_graceful_shutdown=1,
            )
        )
        self._engine = engine

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Interrupt generation, then let uvicorn drain its connections."""
        self._engine.scheduler.interrupt()
        super().handle_exit(sig, frame)


def load_engine(args: argparse.Namespace) -> Engine:
    """Load the model the options name and build an engine around it. Raises EngineSetupError."""
    # A core is left to the gateway: threads of one multiplication wait for the slowest, and a shared core slows all.
    torch.set_num_threads(args.threads or max(1, torch.get_num_threads() - 1))
    path = str(Path(args.model).expanduser()) if args.model else str(ensure_default_model(args.state_dir))
    model = load_model(path, Device(args.device), Dtype(args.dtype), args.max_model_len)
    return assemble(model, args.served_model_name or args.model or SERVED_NAME, args.max_num_seqs)


def assemble(model: LanguageModel, name: str, max_rows: int) -> Engine:
    """Wire the parts of an engine."""
    scheduler = Scheduler(model, max_rows, MAX_WAITING)
    return Engine(
        model=model,
        scheduler=scheduler,
        registry=ModelRegistry(model, name, scheduler),
        prompts=PromptBuilder(model.hf_tokenizer, model.vocab_size),
        grammars=model.grammar_compiler(),
        version=importlib.metadata.version("thinktwice"),
    )


def bind(host: str, port: int) -> socket.socket:
    """Bind before loading anything, so that a taken port is told at once. Raises EngineSetupError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise EngineSetupError(f"cannot bind {host}:{port}: {error}; choose another --host or --port") from error
    return listener


def leave(*_: object) -> None:
    """Stop cleanly on a signal that comes while the model loads."""
    raise SystemExit(0)

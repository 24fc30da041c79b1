"""`thinktwice engine` as a process: quick help, clear refusals, a clean stop."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from gateway.engine.command import register, run
from gateway.local.children import free_port

PROGRAM = (
    "import argparse, sys; from gateway.engine.command import register;"
    "p = argparse.ArgumentParser(); register(p.add_subparsers());"
    "a = p.parse_args(sys.argv[1:]); sys.exit(a.run(a))"
)


def arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    register(parser.add_subparsers())
    return parser.parse_args(["engine", *words])


def test_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("THINKTWICE_STATE__DIR", raising=False)
    parsed = arguments()
    assert (parsed.host, parsed.port, parsed.max_num_seqs) == ("127.0.0.1", 8100, 16)
    assert parsed.state_dir == Path("state")
    monkeypatch.setenv("THINKTWICE_STATE__DIR", "/somewhere")
    assert arguments().state_dir == Path("/somewhere")


def test_help_imports_nothing_heavy() -> None:
    check = "; import sys; assert not {'torch', 'transformers', 'fastapi'} & set(sys.modules)"
    program = "from gateway.engine.command import register" + check
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model", "./nowhere"], "is no folder"),
        (["--max-num-seqs", "0"], "--max-num-seqs must be at least 1"),
        (["--threads", "0"], "--threads must be at least 1"),
        (["--port", "70000"], "--port must be between"),
    ],
)
def test_bad_options_exit_2_with_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments(*words)) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_what_the_loader_refuses_exits_2(
    tiny_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    refusals = {
        ("--model", str(tmp_path)): "cannot load",
        ("--model", str(tiny_path), "--max-model-len", "4096"): "--max-model-len must be between",
        ("--model", str(tiny_path), "--device", "mps"): "--device mps is not available",
        ("--model", str(tiny_path), "--host", "192.0.2.1"): "cannot bind",
    }
    for words, said in refusals.items():
        assert run(arguments("--port", "0", *words)) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1


def test_a_taken_port_exits_2(
    tiny_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert run(arguments("--model", str(tiny_path), "--port", port)) == 2
    assert f"cannot bind 127.0.0.1:{port}" in capsys.readouterr().err


def test_a_signal_stops_it_cleanly_while_it_generates(tiny_path: Path) -> None:
    port = free_port()
    command = [
        sys.executable,
        "-c",
        PROGRAM,
        "engine",
        "--model",
        str(tiny_path),
        "--port",
        str(port),
        "--threads",
        "1",
    ]
    engine = subprocess.Popen(command, env=os.environ | {"TQDM_DISABLE": "1"}, stderr=subprocess.PIPE)
    base = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{base}/health", engine)
        body = b'{"messages": [{"role": "user", "content": "x"}], "n": 16, "ignore_eos": true, "stream": true}'
        with urllib.request.urlopen(urllib.request.Request(f"{base}/v1/chat/completions", body), timeout=10) as answer:
            answer.readline()
            engine.send_signal(signal.SIGTERM)
            assert engine.wait(10) == 0
        assert engine.stderr is not None
        assert "Traceback" not in engine.stderr.read().decode()
    finally:
        engine.kill()
        engine.communicate()


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=1) as answer:
                assert answer.status == 200
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.05)
    pytest.fail("the engine never became healthy")

"""The dispatcher: which command runs, and what every way to end looks like from the shell."""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TypeAlias

import pytest

from router import cli
from router.errors import BackendUnavailable, ConfigError, ThinkTwiceError

PACKAGE = "thinktwice_cli_fake"
Install: TypeAlias = Callable[[dict[str, str]], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Install a distribution whose commands are modules of source text."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(commands: dict[str, str]) -> None:
        for name, source in commands.items():
            (tmp_path / f"{PACKAGE}_{name}.py").write_text(source)
            monkeypatch.delitem(sys.modules, f"{PACKAGE}_{name}", raising=False)
        metadata = tmp_path / f"{PACKAGE}-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: 1.0\n")
        lines = [f"{name} = {PACKAGE}_{name}:register" for name in commands]
        (metadata / "entry_points.txt").write_text("\n".join([f"[{cli.GROUP}]", *lines]))

    return install


def command(body: str, imports: str = "") -> str:
    """Source of a command whose `run` has this body."""
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    return f"""
{imports}
from router.errors import *

def run(args):
{lines}

def register(subparsers):
    parser = subparsers.add_parser("NAME", help="does it")
    parser.add_argument("--flag", action="store_true")
    parser.set_defaults(run=run)
"""


def named(name: str, body: str, imports: str = "") -> dict[str, str]:
    return {name: command(body, imports).replace("NAME", name)}


@pytest.mark.parametrize("code", [0, 1, 75])
def test_the_commands_exit_code_is_returned(install: Install, code: int) -> None:
    install(named("go", f"return {code}"))
    assert cli.main(["go"]) == code


def test_arguments_reach_the_command(install: Install) -> None:
    install(named("go", "return 0 if args.flag else 9"))
    assert cli.main(["go", "--flag"]) == 0


@pytest.mark.parametrize(
    ("error", "code"),
    [(ConfigError, 2), (ThinkTwiceError, 1), (BackendUnavailable, 1)],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_our_errors_are_one_line(
    install: Install, capsys: pytest.CaptureFixture[str], error: type[Exception], code: int
) -> None:
    install(named("go", f"raise {error.__name__}('start it first')"))
    assert cli.main(["go"]) == code
    captured = capsys.readouterr()
    assert captured.err == "thinktwice: start it first\n"
    assert captured.out == ""


def test_a_fault_of_ours_is_not_hidden(install: Install) -> None:
    install(named("go", "raise ZeroDivisionError"))
    with pytest.raises(ZeroDivisionError):
        cli.main(["go"])


def test_ctrl_c_is_130(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install(named("go", "raise KeyboardInterrupt"))
    assert cli.main(["go"]) == 130
    assert capsys.readouterr().err == ""


def test_no_command_shows_help_and_is_a_usage_error(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install(named("go", "return 0"))
    assert cli.main([]) == 2
    assert "does it" in capsys.readouterr().err


def test_an_unknown_command_is_a_usage_error(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install(named("go", "return 0"))
    with pytest.raises(SystemExit) as stop:
        cli.main(["gone"])
    assert stop.value.code == 2
    assert "gone" in capsys.readouterr().err


def test_help_names_every_command_and_the_exit_codes(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install(named("go", "return 0") | named("halt", "return 0"))
    with pytest.raises(SystemExit) as stop:
        cli.main(["--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("go", "halt", "exit codes:", "130"))


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out.startswith("thinktwice ")


class TestMissingExtra:
    def test_a_command_that_cannot_import_says_so_when_called(
        self, install: Install, capsys: pytest.CaptureFixture[str]
    ) -> None:
        install(named("go", "return 0") | named("broken", "return 0", imports="import a_library_not_here"))
        assert cli.main(["broken", "--any", "-x", "argument"]) == 2
        shown = capsys.readouterr().err
        assert "a_library_not_here" in shown
        assert "pip install" in shown
        assert shown.count("\n") == 1

    def test_it_does_not_break_the_others(self, install: Install, capsys: pytest.CaptureFixture[str]) -> None:
        install(named("go", "return 0") | named("broken", "return 0", imports="import a_library_not_here"))
        assert cli.main(["go"]) == 0
        assert cli.main([]) == 2
        assert "unavailable" in capsys.readouterr().err

    def test_a_library_missing_while_it_runs_says_so(
        self, install: Install, capsys: pytest.CaptureFixture[str]
    ) -> None:
        install(named("go", "import a_library_not_here"))
        assert cli.main(["go"]) == 2
        assert "a_library_not_here" in capsys.readouterr().err

    def test_a_module_of_ours_that_is_missing_is_a_fault(self, install: Install) -> None:
        install(named("go", "import router.no_such_module"))
        with pytest.raises(ModuleNotFoundError):
            cli.main(["go"])

    @pytest.mark.parametrize(
        ("module", "extra"), [("gateway.engine.no_such", "[embedded]"), ("training.no_such.command", "[train]")]
    )
    def test_the_extra_is_named(self, module: str, extra: str) -> None:
        parser = cli.build_parser([EntryPoint("engine", f"{module}:register", cli.GROUP)])
        args = parser.parse_args(["engine", "--port", "1"])
        with pytest.raises(ConfigError, match=r"no_such") as caught:
            args.run(args)
        assert extra in str(caught.value)


def test_only_the_called_command_is_loaded(install: Install) -> None:
    install(named("go", "return 0") | named("heavy", "return 0"))
    assert cli.main(["go"]) == 0
    assert f"{PACKAGE}_heavy" not in sys.modules


def test_the_real_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from router.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([each for each in ('torch', 'transformers', 'openai', 'fastapi', 'sympy') if each in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("argument", ["--help", "go"])
def test_a_closed_pipe_is_quiet(install: Install, tmp_path: Path, argument: str) -> None:
    install(named("go", "for _ in range(100_000): print('a line')\nreturn 0"))
    script = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from router.cli import main; sys.exit(main())"
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    process = subprocess.Popen(
        [sys.executable, "-c", script, argument],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=buffered,
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    shown = process.stderr.read()
    process.stderr.close()
    assert (process.wait(timeout=60), shown) == (141, "")


def test_run_is_given_the_namespace() -> None:
    parser = cli.build_parser([])
    assert isinstance(parser, argparse.ArgumentParser)
    assert not hasattr(parser.parse_args([]), "run")

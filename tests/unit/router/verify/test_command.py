"""`command` on both tiers: a program of the operator's, and what it cannot do."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.bootstrap.checks import check_settings
from router.enums import Outcome, Tier
from router.errors import ConfigError, InvalidRequest
from router.sandbox.launch import Program
from router.sandbox.sandbox import Sandbox
from router.settings import ProfileSection, Settings
from router.verify.pool import WorkerPool
from router.verify.spec import parse_checks
from router.verify.verifier import IsolatedVerifier
from tests.support.checking import judge
from tests.support.sandboxes import launcher_or_skip

READ = "import json, os, sys\ntext = json.load(sys.stdin)['text']\n"
PROGRAMS = {
    "shouts": "print(json.dumps({'passed': text.isupper(), 'score': 0.25}))",
    "helped": "sys.path.insert(0, os.path.dirname(__file__))\nimport rules\n"
    "print(json.dumps({'passed': rules.ok(text)}))",
    "threads": "import threading\nt = threading.Thread(target=print, args=('{\"passed\": true}',))\n"
    "t.start(); t.join()",
    "walled": """
import socket
attacks = [lambda: open('/etc/passwd'), lambda: os.fork(), lambda: open('/tmp/leak', 'w'), lambda: socket.socket(),
           lambda: os.kill(os.getppid(), 9), lambda: open(os.path.dirname(__file__) + '/leak', 'w')]
def worked(attack):
    try: attack()
    except OSError: return False
    return True
print(json.dumps({'passed': not any(map(worked, attacks))}))""",
    "sleeps": "import time\ntime.sleep(99)",
    "fails": "sys.exit(1)",
    "silent": "",
    "chatty": "print('{\"passed\": true}' * 10000)",
    "forges": "print(json.dumps({'passed': True, 'score': 1.0, 'more': 1}))",
    "overrates": "print(json.dumps({'passed': False, 'score': 1.0}))",
}
VERDICTS = [
    ("shouts", "HELLO", Outcome.PASS, 1.0),
    ("shouts", "hello \ud800", Outcome.FAIL, 0.25),
    ("helped", "fine", Outcome.PASS, 1.0),
    ("helped", "bad", Outcome.FAIL, 0.0),
    ("threads", "", Outcome.PASS, 1.0),
    ("walled", "", Outcome.PASS, 1.0),
    ("sleeps", "", Outcome.TIMEOUT, None),
    *((name, "", Outcome.ERROR, None) for name in ("fails", "silent", "chatty", "forges", "overrates", "missing")),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=Tier)
async def sandbox(request: pytest.FixtureRequest) -> AsyncIterator[Sandbox]:
    launcher = launcher_or_skip(request.param)
    folder = Path("/var/tmp") / f"thinktwice-commands-{request.param}-{os.getpid()}"
    folder.mkdir()
    (folder / "rules.py").write_text("def ok(text): return text == 'fine'")
    for name, source in PROGRAMS.items():
        (folder / f"{name}.py").write_text(READ + source)
    python = launcher.runtime.python
    programs = {name: Program((python, str(folder / f"{name}.py")), (str(folder),)) for name in PROGRAMS}
    programs["missing"] = Program(("/usr/bin/no-such-program",))
    sandbox = Sandbox(launcher, programs, warm=0)
    yield sandbox
    await sandbox.close()
    for file in folder.glob("*.py"):
        file.unlink()
    folder.rmdir()


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("name", "text", "outcome", "score"), VERDICTS)
async def test_verdicts(sandbox: Sandbox, name: str, text: str, outcome: Outcome, score: float | None) -> None:
    found = await judge(sandbox, {"type": "command", "name": name}, text, timeout_s=1.0 if name == "sleeps" else 10.0)
    assert (found.outcome, found.score) == (outcome, score), found.detail


async def test_a_command_that_is_not_configured_is_refused() -> None:
    checks = parse_checks([{"type": "command", "name": "other"}], where="checks", default_timeout_s=1.0)
    async with WorkerPool(workers=1) as pool:
        verifier = IsolatedVerifier(pool, Sandbox(None, fault="down"))
        with pytest.raises(InvalidRequest, match="c0 is not configured"):
            verifier.available(checks)
    with pytest.raises(InvalidRequest):
        parse_checks([{"type": "command", "name": ""}], where="checks", default_timeout_s=1.0)


def test_a_profile_names_only_commands_there_are() -> None:
    profiles = {"p": ProfileSection(checks=({"type": "command", "name": "other"},))}
    with pytest.raises(ConfigError, match="profile p: no command 'other'"):
        check_settings(Settings(profiles=profiles))

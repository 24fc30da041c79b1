"""How a sandboxed process is started: its command line in each tier, and what it is told to confine itself to."""

from __future__ import annotations

import base64
import itertools
import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from router.enums import Tier
from router.errors import SandboxUnavailable
from router.sandbox import inside, seccomp
from router.sandbox.inside.confine import SYSTEM_LIBRARIES, landlock_abi

ENVIRONMENT = {"PATH": os.defpath, "LANG": "C.UTF-8", "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}
_ADDRESS_SPACE_BYTES = 512 * 1024 * 1024
_LIMITS = {
    "RLIMIT_AS": _ADDRESS_SPACE_BYTES,
    "RLIMIT_STACK": 64 * 1024 * 1024,
    "RLIMIT_CPU": 25,  # seconds: the parent holds the deadlines, of which one sandbox has two of at most ten
    "RLIMIT_FSIZE": 0,
    "RLIMIT_CORE": 0,
    "RLIMIT_NOFILE": 64,
    "RLIMIT_NPROC": 1,
    "RLIMIT_MEMLOCK": 0,
}
_INSIDE = Path(inside.__file__).parent
_MODULES = ("confine", "values", "serve", "testing")
_FLAGS = ("-s", "-S", "-P", "-B")
_SYSTEM_LINKS = ("lib", "lib32", "lib64", "libx32", "bin", "sbin")
_ASK_PYTHON = (
    "import json, os, sys, sysconfig; assert sys.version_info >= (3, 11); paths = sysconfig.get_paths();"
    "assert os.access(sys.executable, os.X_OK);"  # setpriv itself still reaches what its successor may not
    "print(json.dumps([sys.base_prefix, paths['stdlib'], paths['platstdlib']]))"
)
_UIDS = range(61184, 65520)  # those systemd gives to services without a user of their own


@dataclass(frozen=True, slots=True)
class Runtime:
    """The interpreter inside, the folder it is installed in, and what it reads."""

    python: str
    prefix: str
    libraries: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Program:
    """An operator's program: its command line, absolute, and the files and folders it reads beside the system's."""

    argv: tuple[str, ...]
    readable: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Launcher:
    """Starts sandboxes of one tier. As root each gets a user id of its own; `uids` is empty otherwise."""

    tier: Tier
    runtime: Runtime
    uids: Iterator[int]
    bwrap: str = ""

    def command(self, info_fd: int, program: Program | None = None) -> list[str]:
        """The command line of the next sandbox, which becomes `program` if given; bubblewrap reports on `info_fd`."""
        boot = (_INSIDE / "boot.py").read_text()
        python = [self.runtime.python, *_FLAGS, "-c", boot]
        uid = next(self.uids, None)
        shown = (self.runtime.prefix, *_beside(program)) if program else (self.runtime.prefix,)
        walls = self._walls(info_fd, shown) if self.tier is Tier.BWRAP else []
        return [*_become(uid), *walls, *python]

    def setup(self, program: Program | None = None) -> dict[str, Any]:
        """The first frame: the modules that run inside, and how they confine themselves."""
        code = seccomp.program(os.uname().machine, execute=program is not None)
        return {
            "modules": {f"{inside.__name__}.{name}": (_INSIDE / f"{name}.py").read_text() for name in _MODULES},
            "argv": list(program.argv) if program else [],
            "limits": {name: value for name, value in _LIMITS.items() if not (program and name == "RLIMIT_NPROC")},
            "readable": list(self.runtime.libraries),
            "executable": ["/usr", "/lib", "/lib64", *_beside(program)] if program else [],
            "landlock": self.tier is Tier.LANDLOCK,
            "filter": base64.b64encode(code).decode(),
            "parent": os.getpid() if self.tier is Tier.LANDLOCK else None,  # bubblewrap sees to it otherwise
        }

    def _walls(self, info_fd: int, shown: Sequence[str]) -> list[str]:
        """Bubblewrap with every namespace, an empty environment, and a root that nothing can be written to."""
        # As pid 1 the interpreter is bubblewrap's own child and reaped by it; an init between them would be orphaned.
        arguments = [
            self.bwrap,
            "--unshare-all",
            "--unshare-user",
            "--disable-userns",
            "--die-with-parent",
            "--as-pid-1",
        ]
        arguments += ["--new-session", "--clearenv", "--hostname", "sandbox", "--uid", "65534", "--gid", "65534"]
        for name, value in ENVIRONMENT.items():
            arguments += ["--setenv", name, value]
        arguments += ["--ro-bind", "/usr", "/usr", "--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"]
        for name in _SYSTEM_LINKS:
            path = Path("/", name)
            if path.is_symlink():
                arguments += ["--symlink", os.readlink(path), str(path)]
            elif path.is_dir():
                arguments += ["--ro-bind", str(path), str(path)]
        for folder in shown:
            if not Path(folder).is_relative_to("/usr"):
                arguments += ["--ro-bind", folder, folder]
        for device in ("/dev/null", "/dev/urandom"):
            arguments += ["--dev-bind", device, device]
        return [*arguments, "--remount-ro", "/", "--chdir", "/", "--info-fd", str(info_fd), "--"]


def launcher(tier: Tier) -> Launcher:
    """What starts sandboxes of `tier` on this machine. Raises `SandboxUnavailable`, saying what is missing."""
    if sys.platform != "linux" or not seccomp.supported(os.uname().machine):
        raise SandboxUnavailable("this system has no seccomp filter of ours")
    root = os.geteuid() == 0
    if root and shutil.which("setpriv") is None:
        raise SandboxUnavailable("started as root, and setpriv is not installed")
    bwrap = shutil.which("bwrap") or ""
    if tier is Tier.BWRAP and not bwrap:
        raise SandboxUnavailable("bwrap is not installed")
    if tier is Tier.LANDLOCK and not landlock_abi():
        raise SandboxUnavailable("the kernel has no Landlock")
    first = secrets.randbelow(len(_UIDS))
    uids = itertools.cycle([*_UIDS[first:], *_UIDS[:first]]) if root else iter(())
    return Launcher(tier, _runtime(next(uids, None)), uids, bwrap)


def _runtime(uid: int | None) -> Runtime:
    """This process's own interpreter, or the system's where the sandbox's user cannot reach that one."""
    own = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    for python in (own, "/usr/bin/python3"):
        try:
            asked = subprocess.run(
                [*_become(uid), python, *_FLAGS, "-c", _ASK_PYTHON],
                env=ENVIRONMENT,
                capture_output=True,
                timeout=30,
                cwd="/",
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise SandboxUnavailable(f"no Python can be started: {error}") from error
        if asked.returncode == 0:
            prefix, *libraries = json.loads(asked.stdout)
            return Runtime(python, prefix, (*dict.fromkeys(libraries), *SYSTEM_LIBRARIES))
    raise SandboxUnavailable("no Python 3.11 or newer that the sandbox's user can execute")


def _beside(program: Program) -> tuple[str, ...]:
    return (os.path.realpath(program.argv[0]), *program.readable)


def _become(uid: int | None) -> list[str]:
    if uid is None:
        return []
    return ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--inh-caps=-all", "--no-new-privs", "--"]

# ruff: noqa: E501  # one program a line
"""The abuse table: hostile candidates for `f(x)`, which must return twice `x`, and what becomes of each.

`PASS`: the attack is blocked and honest work goes on, so that passing proves it: such a candidate returns twice `x` only
when its attack failed. `FAIL`: nothing it does earns a pass. A detail that is given must be the reason.
Names in capitals are filled in: PORT of a loopback listener, FILE with SECRET, FOLDER that anybody may write to, PID of
a process with SECRET in its environment, FORBIDDEN the numbers of the system calls that the filter refuses.
"""

from __future__ import annotations

from dataclasses import dataclass

from router.enums import Outcome


@dataclass(frozen=True, slots=True)
class Abuse:
    """One hostile candidate."""

    name: str
    source: str
    outcome: Outcome = Outcome.FAIL
    detail: str = ""


def blocked(name: str, attack: str) -> Abuse:
    """An attack, one or more statements, that must raise an OSError (or what threads and posix_spawn raise)."""
    body = "\n".join(f"        {line}" for line in attack.strip().splitlines())
    source = (
        "import ctypes, os, socket, subprocess, sys, threading\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "def must(status):\n    if status == -1: raise OSError(ctypes.get_errno(), 'refused')\n    return status\n"
        f"def f(x):\n    try:\n{body}\n    except (OSError, RuntimeError):\n        return 2 * x\n    return 'LEAK'\n"
    )
    return Abuse(name, source, Outcome.PASS)


def gamed(name: str, source: str, detail: str = "") -> Abuse:
    """A candidate that does no work and wants a pass all the same, or that spends without end."""
    return Abuse(name, source, Outcome.FAIL, detail)


LATE, ENDED, LOUD, UNPLAIN = "over its deadline", "its process ended", "printed too much", "not a plain value"

ESCAPES = (
    blocked("12 TCP to the loopback", "socket.create_connection(('127.0.0.1', PORT), 0.3).send(b'x')"),
    blocked("13 UDP", "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', PORT))"),
    blocked("14 vsock", "socket.socket(40, socket.SOCK_STREAM)"),
    blocked("14 netlink", "socket.socket(16, socket.SOCK_RAW)"),
    blocked("15 abstract socket", "socket.socket(socket.AF_UNIX).bind('\\0thinktwice')"),
    blocked("16 passwd", "open('/etc/passwd').read()"),
    blocked("16 shadow", "open('/etc/shadow').read()"),
    blocked("16 a planted file", "open('FILE').read()"),
    blocked("17 secrets in the environment", "if 'SECRET' not in str(os.environ): raise OSError"),
    blocked("18 environments of others", "assert b'SECRET' in open('/proc/PID/environ', 'rb').read()"),
    blocked("18 init's environment", "open('/proc/1/environ', 'rb').read()"),
    blocked("19 processes of the host", "os.listdir('/proc')"),
    blocked("20 kill the parent", "os.kill(os.getppid(), 9)"),
    blocked("21 kill(-1)", "os.kill(-1, 9)"),
    blocked("21 kill(1)", "os.kill(1, 9)"),
    blocked("21 kill a bystander", "os.kill(PID, 9)"),
    blocked("22 ptrace", "must(libc.ptrace(16, PID, None, None))"),
    blocked("22 read another's memory", "must(libc.process_vm_readv(PID, None, 0, None, 0, 0))"),
    blocked("23 user namespace", "must(libc.unshare(0x10000000))"),
    blocked("23 mount", "must(libc.mount(b'none', b'/', b'tmpfs', 0, None))"),
    blocked("24 io_uring", "must(libc.syscall(425, 8, ctypes.create_string_buffer(120)))"),
    blocked("24 x32", "must(libc.syscall(0x40000000 | 39))"),
    blocked("25 symlink, then write", "os.symlink('/usr/lib', '/tmp/link')\nopen('/tmp/link/leak', 'w')"),
    blocked("25 write to /usr", "open('/usr/lib/leak', 'w')"),
    blocked("26 write to the root", "open('/leak', 'w')"),
    blocked("26 write to /tmp", "open('/tmp/leak', 'w')"),
    blocked("26 write to a planted folder", "open('FOLDER/leak', 'w')"),
    blocked("27 setuid copy", "os.chmod('/usr/bin/env', 0o4755)"),
    blocked("27 su", "must(libc.setuid(0))" ),
    blocked("49 TIOCSTI", "import fcntl\nfcntl.ioctl(0, 0x5412, b'x')"),
    blocked("fork", "os.fork()"),
    blocked("execute", "os.execv('/usr/bin/env', ['env'])"),
    blocked("spawn", "subprocess.run(['/usr/bin/env'])"),
    blocked("42 daemonised grandchild", "if os.fork() == 0:\n    os.setsid()\n    while True: pass"),
    blocked("code from memory", "os.memfd_create('x')"),
    blocked("thread", "threading.Thread(target=print).start()"),
    blocked("chmod what is not ours", "os.chmod('FILE', 0o777)"),
    blocked("truncate by path", "os.truncate('FILE', 0)"),
    blocked("remove", "os.unlink('FILE')"),
    blocked("rename", "os.rename('FILE', 'FILE2')"),
    blocked("link", "os.link('FILE', 'FILE2')"),
    blocked("set times", "os.utime('FILE')"),
    blocked("set attributes", "os.setxattr('FILE', 'user.leak', b'x')"),
    blocked("make a pipe in a folder", "os.mkfifo('FOLDER/pipe')"),
    blocked("list a folder", "os.listdir('FOLDER')"),
    blocked("raw memory", "open('/dev/mem', 'rb')"),
    blocked("limits of others", "import resource\nresource.prlimit(PID, resource.RLIMIT_CPU, (9, 9))"),
    blocked("raise a limit", "import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))"
            .replace("\nresource.set", "\ntry: resource.set") + "\nexcept ValueError: raise OSError"),
    blocked("nice of others", "os.setpriority(os.PRIO_PROCESS, PID, 19)"),
    blocked("message of another kind", "os.pidfd_open(PID)"),
    blocked("every refused call",
            "leaks = [n for n in FORBIDDEN if libc.syscall(n, *[ctypes.c_long(-1)] * 6) != -1]\n"
            "if not leaks: raise OSError"),
    blocked("inherited descriptors",
            "import stat\nopen_ = []\nfor fd in range(1024):\n    try: mode = os.fstat(fd).st_mode\n"
            "    except OSError: continue\n    open_.append((fd, stat.S_IFMT(mode)))\n"
            "if len(open_) <= 6 and all(kind in (stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK) for _, kind in open_):\n"
            "    raise OSError"),
)  # fmt: skip

SPENDERS = (
    gamed("1 fork bomb", "import os\nwhile True: os.fork()\ndef f(x): return 2 * x"),
    gamed("2 thread bomb", "import threading, time\ndef f(x):\n    while True: threading.Thread(target=time.sleep, args=(9,)).start()"),
    gamed("3 four gigabytes", "def f(x): return len(bytearray(4 << 30))", "the call raised"),
    gamed("4 list growth", "def f(x):\n    grown = [0] * 1000\n    while True: grown += grown"),
    gamed("5 one big file", "def f(x):\n    with open('/tmp/big', 'w') as file:\n        while True: file.write('x' * 65536)"),
    gamed("6 many files", "def f(x):\n    for i in range(10**9): open(f'/tmp/{i}', 'w').close()"),
    gamed("7 shared memory", "def f(x):\n    with open('/dev/shm/big', 'w') as file:\n        while True: file.write('x' * 65536)"),
    gamed("8 busy loop", "def f(x):\n    while True: pass", LATE),
    gamed("9 sleep at import", "import time\ntime.sleep(99)\ndef f(x): return 2 * x", LATE),
    gamed("9 sleep in a call", "import time\ndef f(x): time.sleep(99)", LATE),
    gamed("10 catch everything", "def f(x):\n    while True:\n        try:\n            while True: pass\n        except BaseException: pass", LATE),
    gamed("11 ignore signals", "import signal\nfor s in (signal.SIGTERM, signal.SIGXCPU, signal.SIGINT): signal.signal(s, signal.SIG_IGN)\ndef f(x):\n    while True: pass", LATE),
    gamed("28 huge stdout", "def f(x):\n    while True: print('x' * 4096)", LOUD),
    gamed("28 huge stderr", "import sys\ndef f(x):\n    while True: sys.stderr.write('x' * 4096)", LOUD),
    gamed("29 huge value", "def f(x): return 'x' * 100_000_000", UNPLAIN),
    gamed("45 stack overflow", "import sys\nsys.setrecursionlimit(10**9)\ndef f(x): return f(x)"),
    gamed("46 power tower", "def f(x): return 9 ** 9 ** 9", LATE),
    gamed("46 regular expression", "import re\ndef f(x): return re.match('(a+)+$', 'a' * 64 + 'b')", LATE),
    gamed("47 parentheses", "f = lambda x: " + "(" * 5000 + "x" + ")" * 5000, "the code does not load"),
    gamed("47 NUL", "def f(x): return 2 * x\0", "the code does not load"),
    gamed("47 deep expression", "f = lambda x: " + "-" * 50_000 + "x", ""),
    gamed("48 segmentation fault", "import ctypes\ndef f(x): return ctypes.string_at(0)", ENDED),
    gamed("48 abort", "import os\ndef f(x): os.abort()", ENDED),
    gamed("a call of another architecture",
          "import ctypes, mmap\ndef f(x):\n    page = mmap.mmap(-1, 4096, prot=7)\n"
          "    page.write(bytes.fromhex('b814000000cd80c3'))\n"
          "    at = ctypes.addressof(ctypes.c_char.from_buffer(page))\n"
          "    ctypes.CFUNCTYPE(ctypes.c_int)(at)()\n    return 2 * x", ENDED),
)  # fmt: skip

GAMERS = (
    gamed("30 exit before the tests", "import sys\nsys.exit(0)\ndef f(x): return 2 * x", "the code does not load"),
    gamed("31 leave", "import os\nos._exit(0)", ENDED),
    gamed("32 exit in a call", "def f(x): raise SystemExit(0)", "the call raised"),
    gamed("33 always equal, an int", "class Any(int):\n    __eq__ = lambda *_: True\n    __hash__ = int.__hash__\nf = lambda x: Any()", UNPLAIN),
    gamed("33 always equal, an object", "class Any:\n    __eq__ = lambda *_: True\nf = lambda x: Any()", UNPLAIN),
    gamed("34 patch builtins", "import builtins\nbuiltins.type = lambda *_: int\nbuiltins.len = lambda *_: 1\ndef f(x): return 0"),
    gamed("35 patch json", "import json\njson.dumps = lambda *_: '{\"value\": true}'\ndef f(x): return 0"),
    gamed("36 the harness's frames", "import sys\ndef f(x):\n    frame = sys._getframe()\n    while frame:\n        for value in frame.f_locals.values():\n            if isinstance(value, list): value.append(True)\n            if isinstance(value, dict): value['value'] = True\n        frame = frame.f_back\n    return 0"),
    gamed("37 print a verdict", "def f(x):\n    print('PASS')\n    print('{\"outcome\": \"pass\", \"value\": true}')\n    return None"),
    gamed("38 guesses to every descriptor",
          "import os\ndef f(x):\n    guess = b'{\"value\": true, \"passed\": 2, \"outcome\": \"pass\"}'\n"
          "    for fd in range(64):\n        try: os.write(fd, len(guess).to_bytes(4, 'big') + guess)\n        except OSError: pass\n    os._exit(0)"),
    gamed("39 search for what is expected",
          "import gc, sys\ndef f(x):\n    for each in gc.get_objects():\n"
          "        if type(each) is dict:\n            for value in list(each.values()):\n"
          "                if type(value) is int and 10**8 < value < 10**9 and value % 2 == 0 and value // 2 % 7919 == x % 7919: return value\n    return 0"),
    gamed("40 exit at the end", "import atexit, os\natexit.register(os._exit, 0)\ndef f(x): raise KeyboardInterrupt"),
    gamed("40 excepthook", "import os, sys\nsys.excepthook = lambda *_: os._exit(0)\ndef f(x): raise ValueError"),
    gamed("41 read the job again", "import sys\ndef f(x): return sys.stdin.read()"),
    gamed("43 hold the pipe", "import os\ndef f(x):\n    if os.fork() == 0:\n        while True: pass\n    os._exit(0)"),
    gamed("44 NaN", "def f(x): return float('nan')"),
    gamed("44 True", "def f(x): return True"),
    gamed("51 hard-coded inputs", "def f(x): return {1: 2}.get(x)", "1 of 2 cases passed"),
    gamed("a frame that is too long", "import os\ndef f(x):\n    for fd in range(64):\n        try: os.write(fd, b'\\xff' * 4)\n        except OSError: pass\n    import time; time.sleep(9)"),
    gamed("a frame nested too deep",
          "import os\ndef f(x):\n    deep = b'[' * 60000\n    for fd in range(3, 64):\n"
          "        try: os.write(fd, len(deep).to_bytes(4, 'big') + deep)\n        except OSError: pass\n    os._exit(0)", ENDED),
    gamed("replace the loop", "import sys\nsys.modules['router.sandbox.inside.serve']._call = lambda *_: {'value': True}\nsys.modules['router.sandbox.inside.serve']._OPERATIONS['call'] = lambda *_: {'value': True}\ndef f(x): return 0"),
    gamed("a value that is no JSON", "import os\ndef f(x):\n    forged = b'{\"value\": NaN}'\n    for fd in range(3, 64):\n        try: os.write(fd, len(forged).to_bytes(4, 'big') + forged)\n        except OSError: pass\n    os._exit(0)"),
)  # fmt: skip

# A candidate for `f` that takes the place of what test code calls, and the tests, of which it may pass none.
REPLACED = (
    "def f(*_): return 0.0\n"
    "def abs(_): return 0.0\ndef sorted(_): return [1]\ndef len(_): return 3\ndef range(*_): return []\n"
    "def all(_): return True\ndef any(_): return True\ndef isinstance(*_): return True\ndef set(*_): return 1\n"
    "def AssertionError(*_): return 1\ndef expected(_): return 0.0\ndef close(*_): return True\n"
    "def test_mine(): return None\ndef check(_): return None\n"
)
REPLACING_TESTS = """
from math import isclose as close
def expected(n):
    return n + 0.5
def test_abs():
    assert abs(f(3.5) - 0.5) < 1e-6
def test_sorted():
    assert sorted(f([3, 1, 2])) == sorted([3, 1, 2])
def test_len():
    assert len(f([1])) == 3
def test_range():
    for i in range(1, 10):
        assert f(i) == i
def test_all():
    assert all(f(i) == i for i in range(5))
def test_any():
    assert any(f(i) == i for i in (1, 2))
def test_isinstance():
    assert isinstance(f(1), str)
def test_set():
    assert set(f("ab")) == set("ab")
def test_defined():
    assert f(1) == expected(1)
def test_imported():
    assert close(f(1), 1.5)
"""

TABLE = (*ESCAPES, *SPENDERS, *GAMERS)

"""The first lines that run in a sandbox: take the modules off stdin, then hand over to `serve`."""

import json
import os
import sys
import types


def _take(size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = os.read(0, size - len(data))
        if not part:
            raise SystemExit(1)
        data += part
    return data


def boot() -> None:
    """Read one frame, `{"modules": {name: source}, ...}`, make its modules importable, call `serve.main` with it."""
    setup = json.loads(_take(int.from_bytes(_take(4), "big")))
    for package in ("router", "router.sandbox", "router.sandbox.inside"):
        module = types.ModuleType(package)
        module.__path__ = []
        sys.modules[package] = module
    for name, source in setup["modules"].items():
        module = types.ModuleType(name)
        sys.modules[name] = module
        exec(compile(source, name, "exec"), module.__dict__)
    sys.modules["router.sandbox.inside.serve"].main(setup)


if __name__ == "__main__":
    boot()

"""Runs a tenant's test code. The candidate's functions are elsewhere: each call crosses to its sandbox and back."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any, Protocol

from router.sandbox.inside.values import decode, encode

# The first would end a loop of the test over `map` as if it were done; the second takes more than a message.
_STAYS_OUT = (StopIteration, UnicodeError)


class Line(Protocol):
    """The way to the parent."""

    def send(self, message: Any) -> None:
        """Write one frame."""
        ...

    def receive(self) -> Any:
        """Read one frame."""
        ...


class CandidateError(Exception):
    """The candidate returned something that is not plain, or its process ended."""


def run_tests(request: dict[str, Any], line: Line) -> dict[str, Any]:
    """Run the module, then `check(candidate)` or each `test_*` function of it, in its order.

    The reply lists for each, the module first, whether it passed. A module that fails is the only one that ran.
    """
    proxies = {name: _proxy(name, line) for name in request["names"] if _may_name(name)}
    scope: dict[str, Any] = {"__name__": "tests", **proxies}
    code = compile(request["source"], "<tests>", "exec")
    verdicts = [_passes(lambda: exec(code, scope))]
    if verdicts[0]:
        own = {name: value for name, value in scope.items() if callable(value) and value not in proxies.values()}
        if "check" in own:
            verdicts.append(_passes(lambda: own["check"](_proxy(request["entry"], line))))
        verdicts += [_passes(function) for name, function in own.items() if name.startswith("test_")]
    return {"value": encode(verdicts)}


def _may_name(name: str) -> bool:
    """Whether a function of the candidate's may bear it here: an `abs` or `range` of its own would be the judge's."""
    return name.isidentifier() and not name.startswith("__") and not hasattr(builtins, name)


def _passes(test: Callable[[], object]) -> bool:
    try:
        test()
    except Exception:  # noqa: BLE001  # a test may raise anything to fail
        return False
    return True


def _proxy(name: str, line: Line) -> Callable[..., Any]:
    """A function that runs in the candidate's sandbox; lists and dicts it changes there are changed here too."""

    def candidate(*arguments: Any, **named: Any) -> Any:
        line.send({"call": name, "args": encode(list(arguments)), "kwargs": encode(named)})
        reply = line.receive()
        if "raised" in reply:
            kind = getattr(builtins, str(reply["raised"]["type"]), None)
            message = str(reply["raised"]["message"])
            known = isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, _STAYS_OUT)
            raise kind(message) if kind is not None and known else CandidateError(message)
        if "value" not in reply:
            raise CandidateError(str(reply.get("unplain")))
        if "state" in reply:
            positional, by_name = decode(reply["state"])
            for here, there in zip([*arguments, *named.values()], [*positional, *by_name.values()], strict=True):
                _mirror(here, there)
        return decode(reply["value"])

    candidate.__name__ = candidate.__qualname__ = name
    return candidate


def _mirror(here: Any, there: Any) -> None:
    """Make a mutable argument here what it has become there."""
    if type(here) is list and type(there) is list:
        here[:] = there
    elif type(here) is dict and type(there) is dict:
        here.clear()
        here.update(there)

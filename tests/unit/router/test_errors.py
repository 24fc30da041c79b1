"""The error tree as drawn in the docstring of `router.errors` is the tree in the code."""

import re

import pytest

from router import errors
from router.errors import (
    BackendRejected,
    InvalidRequest,
    NotAnswered,
    ThinkTwiceError,
)

_LINE = re.compile(r"^(?P<indent> *)(?P<bullet>[*x+]) (?P<name>\w+)")


def drawn_parents() -> dict[str, str | None]:
    """Name of each drawn error and of the error it is drawn under."""
    parents: dict[str, str | None] = {}
    path: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        if match := _LINE.match(line):
            indent = len(match["indent"])
            path = [(depth, name) for depth, name in path if depth < indent]
            assert match["name"] not in parents, f"{match['name']} is drawn twice"
            parents[match["name"]] = path[-1][1] if path else None
            path.append((indent, match["name"]))
    return parents


def defined_errors() -> dict[str, type[Exception]]:
    found = {}
    pending: list[type[Exception]] = [ThinkTwiceError]
    while pending:
        each = pending.pop()
        found[each.__name__] = each
        pending += each.__subclasses__()
    return {name: each for name, each in found.items() if each.__module__ == errors.__name__}


def test_every_class_is_drawn_and_every_drawn_name_exists() -> None:
    assert set(drawn_parents()) == set(defined_errors())


def test_every_class_is_drawn_under_its_base() -> None:
    defined = defined_errors()
    for name, parent in drawn_parents().items():
        base = defined[name].__bases__[0]
        assert (base.__name__ if parent is not None else None) == parent, name


def test_the_module_defines_no_exception_outside_the_tree() -> None:
    classes = [each for each in vars(errors).values() if isinstance(each, type) and each.__module__ == errors.__name__]
    assert classes
    assert all(issubclass(each, ThinkTwiceError) for each in classes)


@pytest.mark.parametrize("name", sorted(defined_errors()))
def test_every_error_is_one_line_and_described(name: str) -> None:
    each = defined_errors()[name]
    assert each.__doc__
    extra: tuple[object, ...] = ()
    if issubclass(each, NotAnswered):
        extra = (None,)
    elif issubclass(each, BackendRejected):
        extra = (400, {})
    assert str(each("what went wrong", *extra)) == "what went wrong"


def test_an_invalid_request_names_its_field() -> None:
    error = InvalidRequest("must be at least 1", param="n", code="invalid_value")
    assert (error.param, error.code) == ("n", "invalid_value")

"""Engines that a whole test run shares, and their logs beside a failure."""

from __future__ import annotations

import signal
from collections.abc import Generator, Iterator

import pytest
from hypothesis import settings

from tests.support.engines import RunningEngine, embedded_engine, vllm_engine


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEngine]:
    with embedded_engine(tmp_path_factory.mktemp("embedded")) as engine:
        yield engine


@pytest.fixture(scope="session")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEngine]:
    with vllm_engine(tmp_path_factory.mktemp("vllm")) as engine:
        yield engine


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the end of an engine's log when a test that used it fails."""
    report = yield
    if report.failed and isinstance(item, pytest.Function):
        used = {engine for engine in item.funcargs.values() if isinstance(engine, RunningEngine)}
        report.sections.extend((f"end of {engine.log}", engine.log_tail()) for engine in used)
    return report


# A deadline would time the machine, which is shared, and not the property.
settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")


def pytest_configure() -> None:
    """Heed Ctrl-C: a shell without job control starts background commands deaf to it, and what we start inherits it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)

"""Progress bars on a terminal's stderr; anywhere else they are silent."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

if TYPE_CHECKING:
    from training.update import StepMetrics


@contextmanager
def training_bar() -> Iterator[Callable[[StepMetrics], None]]:
    """Yields what to call after each optimizer step."""
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("training", total=None)
        yield lambda step: bar.update(task, completed=step.step, total=step.steps)


@contextmanager
def asking_bar(total: int) -> Iterator[Callable[[object], None]]:
    """Yields what to call after each of `total` answers."""
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("asking", total=total)
        yield lambda _: bar.advance(task)

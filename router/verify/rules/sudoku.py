"""Sudoku: the grid is completed, keeps its givens, and no row, column or box repeats a number."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, TypeAlias

from router.verify.rules.rule import Answer, Rule, Unmet

SIZES = (4, 9)
Grid: TypeAlias = list[list[int]]

_BLANKS = str.maketrans("._", "00")
_DECORATION = re.compile(r"[\s|,\[\]\"']+")
_RULER = re.compile(r"[-+=|\s]*")


class Sudoku(Rule, frozen=True, tag="sudoku"):
    """The answer is the solved grid: a JSON list of rows, or its lines, the last such block of the text.

    `puzzle` has 4 or 9 rows, each a string or a list; `0`, `.` or `_` is an empty cell.
    """

    puzzle: list[str | list[int]]

    def admit(self) -> None:
        """See `Rule`."""
        grid = _grid(self.puzzle)
        if grid is None:
            raise ValueError(f"needs a puzzle of {' or '.join(map(str, SIZES))} rows of as many cells")
        if any(_repeats([cell for cell in group if cell]) for group in _groups(grid)):
            raise ValueError("has a puzzle that repeats a number")

    def holds(self, answer: Answer) -> bool:
        """See `Rule`."""
        givens = _grid(self.puzzle)
        assert givens is not None  # admitted
        solved = _stated(answer, len(givens))
        kept = all(
            given in (0, cell)
            for row, filled in zip(givens, solved, strict=True)
            for given, cell in zip(row, filled, strict=True)
        )
        return kept and not any(0 in group or _repeats(group) for group in _groups(solved))


def _stated(answer: Answer, size: int) -> Grid:
    """The grid of an answer. Raises `Unmet`."""
    try:
        grid = _grid(answer.value)
    except Unmet:
        grid = None
    grid = grid or _last_block(answer.text, size)
    if grid is None or len(grid) != size:
        raise Unmet("is no grid of the puzzle's size")
    return grid


def _last_block(text: str, size: int) -> Grid | None:
    """The last `size` lines in a row that hold `size` cells each; rulers and blank lines do not count."""
    rows: Grid = []
    for line in reversed(text.splitlines()):
        if _RULER.fullmatch(line):
            continue
        row = _row(line, size)
        rows = [row, *rows] if row is not None else []
        if len(rows) == size:
            return rows
    return None


def _grid(rows: Any) -> Grid | None:
    if not isinstance(rows, list) or len(rows) not in SIZES:
        return None
    grid = [_row(row, len(rows)) for row in rows]
    return [row for row in grid if row is not None] if None not in grid else None


def _row(row: Any, size: int) -> list[int] | None:
    if isinstance(row, str):
        digits = _DECORATION.sub("", row).translate(_BLANKS)
        row = [int(digit) for digit in digits] if digits.isdecimal() and digits.isascii() else None
    if not isinstance(row, list) or len(row) != size:
        return None
    fits = all(isinstance(cell, int) and not isinstance(cell, bool) and 0 <= cell <= size for cell in row)
    return row if fits else None


def _groups(grid: Grid) -> Sequence[Sequence[int]]:
    """Its rows, columns and boxes."""
    size = len(grid)
    box = math.isqrt(size)
    corners = [(top, left) for top in range(0, size, box) for left in range(0, size, box)]
    boxes = [[grid[top + row][left + column] for row in range(box) for column in range(box)] for top, left in corners]
    return [*grid, *map(list, zip(*grid, strict=True)), *boxes]


def _repeats(cells: Sequence[int]) -> bool:
    return len(set(cells)) != len(cells)

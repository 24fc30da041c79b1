"""The rules there are. A new one is a subclass of `Rule` in a module of this package and a member of this union."""

from __future__ import annotations

from typing import TypeAlias

from router.verify.rules.countdown import Countdown
from router.verify.rules.plan import Allowed, Count, Forbidden, Order, Range, Required, Sum, Unique
from router.verify.rules.sudoku import Sudoku

AnyRule: TypeAlias = Required | Forbidden | Allowed | Order | Unique | Count | Range | Sum | Countdown | Sudoku

"""Plots as SVG: lines, points with intervals, bars, a legend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from router.stats import Estimate, Rate

WIDTH, HEIGHT = 900, 460
_LEFT, _RIGHT, _TOP, _BOTTOM = 80, 210, 16, 52  # margins, in pixels; the legend is on the right
_TICKS = 5
# Okabe and Ito's palette (2008), told apart under common colour blindness.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")


@dataclass(frozen=True, slots=True)
class Axis:
    """A title and the range of values shown."""

    title: str
    low: float
    high: float


class Plot:
    """One plot; what is drawn first lies below."""

    def __init__(self, x: Axis, y: Axis) -> None:
        self._x, self._y = x, y
        self._shapes: list[str] = []
        self._legend: list[tuple[str, str]] = []

    def line(self, points: Sequence[tuple[float, float]], name: str) -> None:
        """A line through the points."""
        colour = self._named(name)
        path = " ".join(f"{self._across(x):.1f},{self._up(y):.1f}" for x, y in points)
        self._shapes.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')

    def point(self, x: Estimate, y: Estimate, name: str, *, strong: bool) -> None:
        """A labelled point with its intervals in both directions."""
        colour, at = ("#b00020" if strong else "#666"), (self._across(x.value or 0.0), self._up(y.value or 0.0))
        for low, high in (((x.low, y.value), (x.high, y.value)), ((x.value, y.low), (x.value, y.high))):
            self._segment(low, high, colour)
        self._shapes.append(f'<circle cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="{6 if strong else 4}" fill="{colour}"/>')
        weight = ' font-weight="bold"' if strong else ""
        label = f'<text x="{at[0] + 7:.1f}" y="{at[1] - 6:.1f}" font-size="11"{weight}>{escape(name)}</text>'
        self._shapes.append(label)

    def spot(self, x: float, y: Rate) -> None:
        """A point whose height alone has an interval."""
        self._segment((x, y.low), (x, y.high), "#666")
        self._shapes.append(
            f'<circle cx="{self._across(x):.1f}" cy="{self._up(y.value or 0.0):.1f}" r="5" fill="#b00020"/>'
        )

    def bars(self, groups: Mapping[str, Mapping[int, float]]) -> None:
        """For each whole number on the x axis one bar of each group, side by side."""
        width = 0.8 / max(len(groups), 1)
        for place, (name, heights) in enumerate(groups.items()):
            colour = self._named(name)
            for at, height in heights.items():
                left, right = (self._across(at - 0.4 + width * (place + side)) for side in (0, 1))
                top, bottom = self._up(height), self._up(0.0)
                self._shapes.append(
                    f'<rect x="{left:.1f}" y="{top:.1f}" width="{right - left - 1:.1f}" height="{bottom - top:.1f}" '
                    f'fill="{colour}"><title>{escape(name)}: {height:.1%}</title></rect>'
                )

    def svg(self) -> str:
        """The drawing."""
        return (
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img" font-family="system-ui, sans-serif" '
            f'aria-label="{escape(self._y.title)} by {escape(self._x.title)}">'
            f"{self._frame()}{''.join(self._shapes)}{self._names()}</svg>"
        )

    def _segment(
        self, start: tuple[float | None, float | None], end: tuple[float | None, float | None], colour: str
    ) -> None:
        """A thin line; none where a bound is open."""
        (x1, y1), (x2, y2) = start, end
        if x1 is not None and y1 is not None and x2 is not None and y2 is not None:
            self._shapes.append(
                f'<line x1="{self._across(x1):.1f}" y1="{self._up(y1):.1f}" x2="{self._across(x2):.1f}" '
                f'y2="{self._up(y2):.1f}" stroke="{colour}" stroke-opacity="0.35"/>'
            )

    def _named(self, name: str) -> str:
        colour = _COLOURS[len(self._legend) % len(_COLOURS)]
        self._legend.append((name, colour))
        return colour

    def _names(self) -> str:
        left = WIDTH - _RIGHT + 16
        return "".join(
            f'<rect x="{left}" y="{_TOP + 20 * row}" width="12" height="12" fill="{colour}"/>'
            f'<text x="{left + 18}" y="{_TOP + 20 * row + 11}" font-size="12">{escape(name)}</text>'
            for row, (name, colour) in enumerate(self._legend)
        )

    def _frame(self) -> str:
        right, bottom = WIDTH - _RIGHT, HEIGHT - _BOTTOM
        parts = [f'<path d="M{_LEFT},{_TOP}V{bottom}H{right}" fill="none" stroke="#888"/>']
        for step in range(_TICKS + 1):
            x = self._x.low + (self._x.high - self._x.low) * step / _TICKS
            y = self._y.low + (self._y.high - self._y.low) * step / _TICKS
            parts.append(
                f'<text x="{self._across(x):.1f}" y="{bottom + 18}" font-size="12" text-anchor="middle">{x:.4g}</text>'
                f'<text x="{_LEFT - 8}" y="{self._up(y) + 4:.1f}" font-size="12" text-anchor="end">{y:.3g}</text>'
            )
        middle = (_LEFT + right) / 2
        parts.append(
            f'<text x="{middle}" y="{HEIGHT - 10}" font-size="13" text-anchor="middle">{escape(self._x.title)}</text>'
            f'<text transform="translate(14 {(_TOP + bottom) / 2}) rotate(-90)" font-size="13" text-anchor="middle">'
            f"{escape(self._y.title)}</text>"
        )
        return "".join(parts)

    def _across(self, x: float) -> float:
        share = (x - self._x.low) / ((self._x.high - self._x.low) or 1.0)
        return _LEFT + share * (WIDTH - _LEFT - _RIGHT)

    def _up(self, y: float) -> float:
        share = (y - self._y.low) / ((self._y.high - self._y.low) or 1.0)
        return HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM)

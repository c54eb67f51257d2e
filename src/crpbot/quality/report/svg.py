"""Plain pictures: one chart is one inline SVG, coloured by the page's style sheet, with a text for those who cannot see it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

WIDTH, HEIGHT = 420, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 12, 44
_BARS_FROM, _BARS_ROOM, _BAR_STEP = 0.36, 0.34, 20
"""Where bars begin and how much room they have, as shares of the width; how far they stand apart."""


@dataclass
class Chart:
    """A chart under construction: axes first, then marks, then `str(chart)`.

    Attributes:
        title: what it shows; read aloud by screen readers.
        x_label, y_label: of the axes, with units.
        x_range, y_range: what the axes span.
        x_names, y_names: places on an axis and what they are called; empty for round numbers.

    """

    title: str
    x_label: str
    y_label: str
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    x_names: Sequence[tuple[float, str]] = ()
    y_names: Sequence[tuple[float, str]] = ()
    _marks: list[str] = field(default_factory=list)
    _legend: list[tuple[str, str]] = field(default_factory=list)

    def line(self, xs: Sequence[float], ys: Sequence[float], style: str, *, name: str = "") -> None:
        """Draw a line through points; `style` is a class of the style sheet."""
        points = " ".join(f"{self._x(x):.1f},{self._y(y):.1f}" for x, y in zip(xs, ys, strict=True))
        self._marks.append(f'<polyline class="line {style}" points="{points}"/>')
        self._name(name, style)

    def band(self, xs: Sequence[float], lows: Sequence[float], highs: Sequence[float], style: str) -> None:
        """Fill what lies between two lines; points where either is not finite are left out."""
        known = [one for one in zip(xs, lows, highs, strict=True) if all(map(math.isfinite, one))]
        if len(known) < 2:
            return
        corners = [(x, high) for x, _, high in known] + [(x, low) for x, low, _ in reversed(known)]
        points = " ".join(f"{self._x(x):.1f},{self._y(y):.1f}" for x, y in corners)
        self._marks.append(f'<polygon class="band {style}" points="{points}"/>')

    def dots(self, xs: Sequence[float], ys: Sequence[float], errors: Sequence[float], style: str, *, name: str = "") -> None:
        """Draw points with bars of ± `errors`; an error that is not finite has no bar."""
        for x, y, error in zip(xs, ys, errors, strict=True):
            if math.isfinite(error):
                self._marks.append(
                    f'<line class="bar {style}" x1="{self._x(x):.1f}" x2="{self._x(x):.1f}" '
                    f'y1="{self._y(y - error):.1f}" y2="{self._y(y + error):.1f}"/>'
                )
            self._marks.append(f'<circle class="dot {style}" cx="{self._x(x):.1f}" cy="{self._y(y):.1f}" r="3"/>')
        self._name(name, style)

    def steps(self, edges: Sequence[float], heights: Sequence[float], style: str, *, name: str = "") -> None:
        """Draw a histogram: `heights` between neighbouring `edges`."""
        floor = self._y(self.y_range[0])
        path = f"M{self._x(edges[0]):.1f},{floor:.1f}"
        for left, right, height in zip(edges, edges[1:], heights, strict=False):
            path += f" L{self._x(left):.1f},{self._y(height):.1f} L{self._x(right):.1f},{self._y(height):.1f}"
        path += f" L{self._x(edges[-1]):.1f},{floor:.1f} Z"
        self._marks.append(f'<path class="steps {style}" d="{path}"/>')
        self._name(name, style)

    def __str__(self) -> str:
        title = escape(self.title)
        told = f"{title}: {escape(self.y_label)} by {escape(self.x_label)}"
        parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{told}">', f"<title>{title}</title>"]
        for tick, name in self.y_names or [(tick, number(tick)) for tick in ticks(*self.y_range)]:
            y = self._y(tick)
            parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{escape(name)}</text>')
        for tick, name in self.x_names or [(tick, number(tick)) for tick in ticks(*self.x_range)]:
            x = self._x(tick)
            parts.append(f'<text x="{x:.1f}" y="{HEIGHT - _BOTTOM + 16}" text-anchor="middle">{escape(name)}</text>')
        middle = (_LEFT + WIDTH - _RIGHT) / 2
        parts.append(f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{escape(self.x_label)}</text>')
        center = (_TOP + HEIGHT - _BOTTOM) / 2
        parts.append(
            f'<text x="12" y="{center}" text-anchor="middle" transform="rotate(-90 12 {center})">{escape(self.y_label)}</text>'
        )
        parts += self._marks
        for row, (name, style) in enumerate(self._legend):
            y = _TOP + 12 + 15 * row
            parts.append(f'<rect class="key {style}" x="{_LEFT + 10}" y="{y - 7}" width="12" height="6"/>')
            parts.append(f'<text x="{_LEFT + 28}" y="{y}">{escape(name)}</text>')
        return "".join([*parts, "</svg>"])

    def _name(self, name: str, style: str) -> None:
        if name:
            self._legend.append((name, style))

    def _x(self, value: float) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * _share(value, self.x_range)

    def _y(self, value: float) -> float:
        return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * _share(value, self.y_range)


@dataclass(frozen=True, slots=True)
class Bar:
    """One line of a list of bars.

    Attributes:
        name: on the left; "" where the line above has it.
        length: of the bar, −1 to 1 of the room for it; below 0 it points to the left.
        words: on the right.
        style: a class of the style sheet.

    """

    name: str
    length: float
    words: str
    style: str


def bar_list(title: str, bars: Sequence[Bar], *, width: int = WIDTH) -> str:
    """Return bars that lie below each other, with a name before and words behind each, as one picture.

    Bars point to both sides of a line in the middle where one of them points to the left.
    """
    both = any(bar.length < 0 for bar in bars)
    start, room = _BARS_FROM * width, _BARS_ROOM * width
    left, room = (start + room / 2, room / 2) if both else (start, room)
    told = escape(f"{title}: " + "; ".join(f"{bar.name} {bar.words}".strip() for bar in bars))
    height = _BAR_STEP * len(bars) + 6
    parts = [f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{told}"><title>{escape(title)}</title>']
    parts.append(f'<line class="grid" x1="{left:.1f}" x2="{left:.1f}" y1="0" y2="{height}"/>')
    for place, bar in enumerate(bars):
        y, size = _BAR_STEP * place + 3, max(abs(max(-1.0, min(1.0, bar.length))) * room, 1.0)
        start = left - size if bar.length < 0 else left
        parts.append(f'<text x="0" y="{y + 12}">{escape(bar.name)}</text>')
        parts.append(f'<rect class="key {bar.style}" x="{start:.1f}" y="{y + 2}" width="{size:.1f}" height="{_BAR_STEP - 6}"/>')
        parts.append(f'<text x="{width}" y="{y + 12}" text-anchor="end">{escape(bar.words)}</text>')
    return "".join([*parts, "</svg>"])


def heat_map(title: str, names: Sequence[str], cells: Sequence[Sequence[tuple[float, str]]], corner: tuple[str, str]) -> str:
    """Return a square table of cells, each as dark as its share, 0 to 1; `corner` names rows and columns."""
    told = escape(
        f"{title}: "
        + "; ".join(f"{row} as {column} {cell[1]}" for row, line in zip(names, cells, strict=True)
                    for column, cell in zip(names, line, strict=True))
    )  # fmt: skip
    left, top, n = 84, 40, len(names)
    wide, high = (WIDTH - left) / n, (HEIGHT - top) / n
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{told}"><title>{escape(title)}</title>']
    parts.append(f'<text x="{left + (WIDTH - left) / 2}" y="12" text-anchor="middle">{escape(corner[1])}</text>')
    parts.append(f'<text x="0" y="{top - 8}">{escape(corner[0])}</text>')
    for i, (name, line) in enumerate(zip(names, cells, strict=True)):
        y = top + high * i
        parts.append(f'<text x="{left + wide * (i + 0.5):.1f}" y="{top - 8}" text-anchor="middle">{escape(name)}</text>')
        parts.append(f'<text x="{left - 8}" y="{y + high / 2 + 4:.1f}" text-anchor="end">{escape(name)}</text>')
        for j, (part, words) in enumerate(line):
            x, style = left + wide * j, "up" if i == j else "down"
            box = f'x="{x + 1:.1f}" y="{y + 1:.1f}" width="{wide - 2:.1f}" height="{high - 2:.1f}"'
            parts.append(f'<rect class="heat {style}" fill-opacity="{0.05 + 0.4 * max(0.0, min(1.0, part)):.2f}" {box}/>')
            first, _, second = words.partition(", ")
            middle = f'x="{x + wide / 2:.1f}" text-anchor="middle"'
            parts.append(f'<text class="strong" {middle} y="{y + high / 2:.1f}">{escape(first)}</text>')
            parts.append(f'<text {middle} y="{y + high / 2 + 16:.1f}">{escape(second)}</text>')
    return "".join([*parts, "</svg>"])


def ticks(low: float, high: float) -> list[float]:
    """Return about five round numbers from `low` to `high`.

    >>> ticks(0.0, 1.0)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    raw = (high - low) / 5
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * m for m in (1, 2, 5, 10) if size * m >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [float(f"{step * i:.12g}") for i in range(first, math.floor(high / step + 1e-9) + 1)]


def number(value: float) -> str:
    """Write a tick.

    >>> number(0.2), number(-5000.0), number(1200000.0)
    ('0.2', '−5,000', '1.2M')
    """
    size = abs(value)
    text = f"{size / 1e6:g}M" if size >= 1e6 else f"{size:,.0f}" if size >= 1_000 else f"{size:g}"
    return f"−{text}" if value < 0 else text


def _share(value: float, span: tuple[float, float]) -> float:
    low, high = span
    return min(max((value - low) / (high - low), -0.02), 1.02)

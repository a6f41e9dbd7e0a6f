"""SVG drawings: axes, marks and text.

Colours are CSS classes (style.css), so one drawing serves light, dark and print. Every drawing carries a description
for screen readers. Text is escaped here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from markupsafe import Markup, escape

WIDTH, HEIGHT = 420, 300


def tag(name: str, content: Any = "", /, **attributes: Any) -> Markup:
    """<name ...>content</name>; underscores in attribute names become hyphens, `cls` becomes class."""
    words = "".join(
        Markup(' {}="{}"').format("class" if key == "cls" else key.replace("_", "-"), _short(value))
        for key, value in attributes.items()
        if value is not None
    )
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), Markup(words), content)


def drawing(parts: Sequence[Any], says: str, *, width: float = WIDTH, height: float = HEIGHT) -> Markup:
    """A whole drawing that scales with its box; `says` describes it in words."""
    body = Markup("").join([tag("title", says), *parts])
    box, widest = f"0 0 {_short(width)} {_short(height)}", f"max-width:{width * 1.35:.0f}px"  # letters stay letters
    return tag("svg", body, xmlns="http://www.w3.org/2000/svg", viewBox=box, style=widest, role="img", aria_label=says)


def text(x: float, y: float, content: Any, *, anchor: str = "middle", cls: str = "t", **more: Any) -> Markup:
    return tag("text", escape(content), x=x, y=y, text_anchor=anchor, cls=cls, **more)


def path(points: Any, *, cls: str, close: bool = False) -> Markup:
    """A line through (n, 2) points in drawing units."""
    words = " ".join(f"{'M' if i == 0 else 'L'}{_short(x)} {_short(y)}" for i, (x, y) in enumerate(points))
    return tag("path", d=words + ("Z" if close else ""), cls=cls)


def dots(points: Any, *, cls: str) -> Markup:
    """Many round marks as one path: a tenth of the size of as many circles."""
    return tag("path", d="".join(f"M{_short(x)} {_short(y)}h0" for x, y in points), cls=cls)


def marker(x: float, y: float, number: int, *, cls: str, size: float = 4, says: str = "") -> Markup:
    """A mark whose shape distinguishes series without colour: circle, square, triangle, diamond, cross."""
    s = size
    shapes = (
        [(x - s, y - s), (x + s, y - s), (x + s, y + s), (x - s, y + s)],
        [(x, y - s * 1.2), (x + s * 1.1, y + s), (x - s * 1.1, y + s)],
        [(x, y - s * 1.3), (x + s * 1.3, y), (x, y + s * 1.3), (x - s * 1.3, y)],
    )
    title = tag("title", escape(says)) if says else ""
    kind = number % (len(shapes) + 1)
    if kind == 0:
        return tag("circle", title, cx=x, cy=y, r=s, cls=cls)
    words = " ".join(f"{_short(a)},{_short(b)}" for a, b in shapes[kind - 1])
    return tag("polygon", title, points=words, cls=cls)


@dataclass(slots=True)
class Axes:
    """A plot area with linear axes; `parts` collects what is drawn.

    Attributes:
        xs, ys: data ranges.
        xlabel, ylabel: words at the axes.
        width, height: of the whole drawing.
        left, right, top, bottom: margins.
    """

    xs: tuple[float, float]
    ys: tuple[float, float]
    xlabel: str = ""
    ylabel: str = ""
    width: float = WIDTH
    height: float = HEIGHT
    left: float = 52
    right: float = 12
    top: float = 14
    bottom: float = 46
    parts: list[Any] = field(default_factory=list)

    def x(self, value: Any) -> Any:
        share = (np.asarray(value, dtype=np.float64) - self.xs[0]) / (self.xs[1] - self.xs[0])
        return self.left + share * (self.width - self.left - self.right)

    def y(self, value: Any) -> Any:
        share = (np.asarray(value, dtype=np.float64) - self.ys[0]) / (self.ys[1] - self.ys[0])
        return self.height - self.bottom - share * (self.height - self.top - self.bottom)

    def points(self, xs: Any, ys: Any) -> np.ndarray:
        return np.stack([self.x(xs), self.y(ys)], axis=-1)

    def add(self, *parts: Any) -> None:
        self.parts += parts

    def line(self, x1: float, y1: float, x2: float, y2: float, *, cls: str) -> None:
        """A line between two points in data units."""
        (a, b), (c, d) = self.points([x1, x2], [y1, y2])
        self.add(tag("line", x1=a, y1=b, x2=c, y2=d, cls=cls))

    def grid(self, *, xticks: Sequence[float] | None = None, yticks: Sequence[float] | None = None) -> None:
        """Grid, tick labels and axis titles; an empty list leaves an axis bare."""
        for value in ticks(*self.xs) if xticks is None else xticks:
            self.line(value, self.ys[0], value, self.ys[1], cls="grid")
            self.add(text(self.x(value), self.height - self.bottom + 16, tick_label(value)))
        for value in ticks(*self.ys) if yticks is None else yticks:
            self.line(self.xs[0], value, self.xs[1], value, cls="grid")
            self.add(text(self.left - 6, self.y(value) + 4, tick_label(value), anchor="end"))
        middle = (self.left + self.width - self.right) / 2
        self.add(text(middle, self.height - 8, self.xlabel, cls="t label"))
        up = (self.top + self.height - self.bottom) / 2
        self.add(text(14, up, self.ylabel, cls="t label", transform=f"rotate(-90 14 {_short(up)})"))

    def drawing(self, says: str) -> Markup:
        return drawing(self.parts, says, width=self.width, height=self.height)


def legend(entries: Sequence[tuple[str, str]], *, x: float, y: float, step: float = 16) -> list[Markup]:
    """Marks with words below each other; entries are (word, class), with shapes that differ."""
    parts = []
    for i, (word, cls) in enumerate(entries):
        parts += [marker(x, y + i * step, i, cls=cls), text(x + 10, y + i * step + 4, word, anchor="start")]
    return parts


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round values between low and high, some `about` of them."""
    span = high - low
    if not np.isfinite(span) or span <= 0:
        return [low]
    raw = span / about
    unit = 10.0 ** np.floor(np.log10(raw))
    step = next(unit * m for m in (1, 2, 2.5, 5, 10) if unit * m >= raw * 0.999)
    first = np.ceil(low / step - 1e-9)
    return [float(k * step) for k in np.arange(first, np.floor(high / step + 1e-9) + 1)]


def tick_label(value: float) -> str:
    value = round(value, 9) + 0.0  # no -0
    return f"{value:.6g}" if abs(value) < 1e5 else f"{value:.0e}"


def _short(value: Any) -> Any:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, (float, np.floating)) else value

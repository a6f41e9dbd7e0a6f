"""Charts of the scores of one result: scatter plot, residuals, calibration."""

from __future__ import annotations

from typing import Any

import numpy as np
from markupsafe import Markup

from q_align.evaluation.record import Evaluation
from q_align.metrics.agreement import score_calibration
from q_align.metrics.logistic import logistic_curve
from q_align.report.svg import Axes, dots, marker, path, tag, text
from q_align.report.units import LEVELS, logistic_in, pairs_of

FEW = 400  # up to so many items each mark says which item it is
MANY = 3000  # beyond, marks become hexagons
_HEX = 46  # hexagons across


def scatter_chart(result: Evaluation, units: str = LEVELS) -> Markup:
    """MOS against predicted score with the fitted logistic curve; hexagons where items are many."""
    pairs = pairs_of(result, units)
    score, mos, (low, high) = pairs.score, pairs.mos, pairs.ends
    floor, roof = pairs.reach
    sides = (min([low, *score]), max([high, *score]))
    axes = Axes(sides, (floor, roof), f"predicted score ({pairs.unit})", f"MOS ({pairs.unit})")
    axes.grid()
    axes.line(low, low, high, high, cls="even")
    if len(score) > MANY:
        axes.add(*_hexagons(axes, score, mos))
    elif len(score) > FEW:
        axes.add(dots(axes.points(score, mos), cls="dots"))
    else:
        names = result.column("id")[result.known]
        for x, y, s, m, name in zip(axes.x(score), axes.y(mos), score, mos, names):
            axes.add(marker(x, y, 0, cls="dot", size=3, says=f"{name}: MOS {m:.2f}, score {s:.2f}"))
    beta = (result.metrics.get("logistic4") or {}).get("beta") or ()
    if beta:
        value = result.column("value")[result.known]
        xs = np.linspace(value.min(), value.max(), 60)
        xs, ys = logistic_in(result, units, xs, logistic_curve(xs, tuple(beta)))
        axes.add(path(axes.points(xs, np.clip(ys, floor, roof)), cls="fit"))
    axes.add(text(axes.left + 8, axes.top + 12, f"n = {len(score)}", anchor="start"))
    srcc = shown(result.metrics.get("srcc"))
    return axes.drawing(f"Scatter plot of {len(score)} items: MOS against score, SRCC {srcc}")


def residual_chart(result: Evaluation, units: str = LEVELS) -> Markup:
    """Score minus MOS for the items of each true level: median, middle half, 5% to 95%."""
    pairs, scheme = pairs_of(result, units), result.scheme
    gap = pairs.score - pairs.mos
    step = (pairs.ends[1] - pairs.ends[0]) / 8  # half a level of five
    reach = max(step, float(np.ceil(np.quantile(np.abs(gap), 0.99) / step) * step)) if len(gap) else 2 * step
    k = len(scheme.words)
    axes = Axes((-0.5, k - 0.5), (-reach, reach), "level by MOS", f"score - MOS ({pairs.unit})", bottom=62)
    axes.grid(xticks=[])
    axes.line(-0.5, 0, k - 0.5, 0, cls="even")
    level = scheme.hard(result.column("mos")[result.known])
    for i in range(k):
        place = k - 1 - i
        mine = gap[level == i]
        axes.add(text(float(axes.x(place)), float(axes.y(-reach)) + 16, scheme.words[i]))
        axes.add(text(float(axes.x(place)), float(axes.y(-reach)) + 30, f"n {len(mine)}", cls="t small"))
        if len(mine):
            axes.add(*_box(axes, place, np.clip(np.quantile(mine, [0.05, 0.25, 0.5, 0.75, 0.95]), -reach, reach)))
    return axes.drawing("Residuals by level: median, quartiles and 5% to 95% of score minus MOS")


def calibration_chart(result: Evaluation, units: str = LEVELS) -> Markup:
    """Mean MOS of items with similar scores, in ten groups of equal size."""
    pairs = pairs_of(result, units)
    record = score_calibration(pairs.mos, pairs.score)
    low, high = pairs.ends
    means = [(s, m) for s, m in zip(record["score"], record["mos"]) if s is not None]
    xs, ys = zip(*means) if means else ((), ())
    across, up = ((min([low, *values]), max([high, *values])) for values in (xs, ys))
    axes = Axes(across, up, f"mean score of a tenth of the items ({pairs.unit})", "their mean MOS")
    axes.grid()
    axes.line(low, low, high, high, cls="even")
    if means:
        spots = axes.points(xs, ys)
        axes.add(path(spots, cls="fit"))
        axes.add(*(marker(x, y, 0, cls="dot strong", says=f"{s:.2f}: {m:.2f}") for (x, y), (s, m) in zip(spots, means)))
    bias = shown(record["bias"] if means else None, sign=True)
    axes.add(text(axes.left + 8, axes.top + 12, f"mean of score - MOS {bias}", anchor="start"))
    return axes.drawing(f"Calibration of the score: mean MOS against mean score; bias {bias}")


def _hexagons(axes: Axes, xs: np.ndarray, ys: np.ndarray) -> list[Markup]:
    """Counts in hexagons, five depths of one colour by the logarithm of the count."""
    spots = axes.points(xs, ys)
    size = (axes.width - axes.left - axes.right) / _HEX  # between centres
    rise = size * np.sqrt(3) / 2
    row = np.round(spots[:, 1] / rise).astype(int)
    column = np.round(spots[:, 0] / size - (row % 2) / 2).astype(int)
    cells, counts = np.unique(np.stack([row, column], axis=1), axis=0, return_counts=True)
    depth = 1 + np.floor(4.999 * np.log(counts) / max(np.log(counts.max()), 1e-9)).astype(int).clip(0, 4)
    angles = np.pi / 6 + np.arange(6) * np.pi / 3
    corner = np.stack([np.cos(angles), np.sin(angles)], axis=1) * size / np.sqrt(3)
    parts = []
    for d in range(1, 6):
        words = []
        for r, c in cells[depth == d]:
            centre = np.array([(c + (r % 2) / 2) * size, r * rise])
            words.append("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in centre + corner) + "Z")
        if words:
            parts.append(tag("path", d="".join(words), cls=f"hex h{d}"))
    return parts


def shown(value: Any, *, sign: bool = False) -> str:
    return "undefined" if value is None else f"{value:{'+' if sign else ''}.3f}"


def _box(axes: Axes, place: float, five: Any) -> list[Markup]:
    x = float(axes.x(place))
    low, first, middle, third, high = (float(axes.y(v)) for v in five)
    half = float(axes.x(0.26) - axes.x(0))
    return [
        tag("line", x1=x, x2=x, y1=low, y2=high, cls="whisker"),
        tag("rect", x=x - half, y=third, width=2 * half, height=max(first - third, 1), cls="bar-b"),
        tag("line", x1=x - half, x2=x + half, y1=middle, y2=middle, cls="median"),
    ]

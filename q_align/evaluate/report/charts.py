"""The pictures of one result: scores against opinions, levels, residuals, calibration. Arrays in, SVG out."""

from __future__ import annotations

from typing import Any

import numpy as np
from markupsafe import Markup

from q_align.evaluate.metrics.logistic import curve
from q_align.evaluate.report.collect import Evaluation
from q_align.evaluate.report.svg import HEIGHT, WIDTH, Axes, dots, marker, path, picture, tag, text

FEW = 400  # up to so many items each mark says which item it is
MANY = 3000  # beyond, marks become hexagons
_HEX = 46  # hexagons across


def scatter(result: Evaluation) -> Markup:
    """MOS against predicted score with the fitted logistic curve; hexagons where items are many."""
    keep = result.known
    score, mos = result.columns["value"][keep], result.columns["mos"][keep]
    low, high = result.scheme.low, result.scheme.high
    # opinions may lie beyond the scale where its ends are those of the training rows
    floor, roof = min([low, *mos]), max([high, *mos])
    axes = Axes((low, high), (floor, roof), "predicted score", "MOS (on the level scale)")
    axes.grid()
    axes.line(low, low, high, high, cls="even")
    if len(score) > MANY:
        axes.add(*_hexagons(axes, score, mos))
    elif len(score) > FEW:
        axes.add(dots(axes.points(score, mos), cls="dots"))
    else:
        names = result.columns["id"][keep]
        for x, y, s, m, name in zip(axes.x(score), axes.y(mos), score, mos, names):
            axes.add(marker(x, y, 0, cls="dot", size=3, says=f"{name}: MOS {m:.2f}, score {s:.2f}"))
    beta = (result.metrics.get("logistic4") or {}).get("beta") or ()
    if beta:
        xs = np.linspace(score.min(), score.max(), 60)
        axes.add(path(axes.points(xs, np.clip(curve(xs, tuple(beta)), floor, roof)), cls="fit"))
    axes.add(text(axes.left + 8, axes.top + 12, f"n = {len(score)}", anchor="start"))
    return axes.picture(f"Scatter of {len(score)} items: MOS against score, SRCC {_shown(result.metrics.get('srcc'))}")


def level_histogram(result: Evaluation) -> Markup:
    """How many items have each level by their MOS, and by the model."""
    keep, scheme = result.known, result.scheme
    k = len(scheme.words)
    truth = np.bincount(scheme.hard(result.columns["mos"][keep]), minlength=k)
    said = np.bincount(result.columns["probs"][keep].argmax(axis=1), minlength=k) if keep.any() else truth * 0
    top = max(1, int(max(truth.max(), said.max())))
    axes = Axes((-0.5, k - 0.5), (0, top * 1.12), "level", "items", bottom=62)
    axes.grid(xticks=[])
    base = float(axes.y(0))
    for i in range(k):
        place = k - 1 - i  # worst on the left, as on the scale
        for values, cls, shift in ((truth, "bar-a", -0.36), (said, "bar-b", 0.02)):
            x, y = float(axes.x(place + shift)), float(axes.y(values[i]))
            wide = float(axes.x(0.34) - axes.x(0))
            axes.add(tag("rect", x=x, y=y, width=wide, height=base - y, cls=cls))
            axes.add(text(x + wide / 2, y - 3, int(values[i]), cls="t small"))
        axes.add(text(float(axes.x(place)), base + 16, scheme.words[i]))
    axes.add(*_key([("by MOS", "bar-a"), ("by the model", "bar-b")], y=base + 27))
    counts = ", ".join(f"{w} {a}/{b}" for w, a, b in zip(scheme.words, truth, said))
    return axes.picture(f"Items per level by MOS/by the model: {counts}")


def residuals(result: Evaluation) -> Markup:
    """Score minus MOS for the items of each true level: median, middle half, 5% to 95%."""
    keep, scheme = result.known, result.scheme
    mos = result.columns["mos"][keep]
    gap = result.columns["value"][keep] - mos
    reach = max(0.5, float(np.ceil(np.quantile(np.abs(gap), 0.99) * 2) / 2)) if len(gap) else 1.0
    k = len(scheme.words)
    axes = Axes((-0.5, k - 0.5), (-reach, reach), "level by MOS", "score - MOS", bottom=62)
    axes.grid(xticks=[])
    axes.line(-0.5, 0, k - 0.5, 0, cls="even")
    level = scheme.hard(mos)
    for i in range(k):
        place = k - 1 - i
        mine = gap[level == i]
        axes.add(text(float(axes.x(place)), float(axes.y(-reach)) + 16, scheme.words[i]))
        axes.add(text(float(axes.x(place)), float(axes.y(-reach)) + 30, f"n {len(mine)}", cls="t small"))
        if len(mine):
            axes.add(*_box(axes, place, np.clip(np.quantile(mine, [0.05, 0.25, 0.5, 0.75, 0.95]), -reach, reach)))
    return axes.picture("Residuals by level: median, quartiles and 5% to 95% of score minus MOS")


def reliability(result: Evaluation) -> Markup:
    """How often the most probable level is right, against the probability that the model gave it."""
    record = result.metrics.get("reliability") or {"n": [], "confidence": [], "accuracy": []}
    axes = Axes((0, 1), (0, 1), "probability of the stated level", "share that is right")
    axes.grid(xticks=[0, 0.2, 0.4, 0.6, 0.8, 1], yticks=[0, 0.2, 0.4, 0.6, 0.8, 1])
    axes.line(0, 0, 1, 1, cls="even")
    total = max(1, sum(record["n"]))
    bins = len(record["n"])
    for b, (n, stated, right) in enumerate(zip(record["n"], record["confidence"], record["accuracy"])):
        if not n:
            continue
        x, y = float(axes.x(b / bins)), float(axes.y(right))
        wide = float(axes.x(1 / bins) - axes.x(0)) - 2
        axes.add(tag("rect", x=x + 1, y=y, width=wide, height=float(axes.y(0)) - y, cls="bar-b"))
        says = f"{n} items: stated {stated:.2f}, right {right:.2f}"
        axes.add(marker(float(axes.x(stated)), y, 0, cls="dot strong", size=2 + 5 * np.sqrt(n / total), says=says))
    axes.add(
        text(axes.left + 8, axes.top + 12, f"calibration error {_shown(result.metrics.get('ece'))}", anchor="start")
    )
    return axes.picture(
        f"Reliability of the stated level; expected calibration error {_shown(result.metrics.get('ece'))}"
    )


def calibration(result: Evaluation) -> Markup:
    """Mean MOS of items with similar scores, in ten groups of equal size."""
    record = result.metrics.get("calibration") or {"score": [], "mos": []}
    low, high = result.scheme.low, result.scheme.high
    pairs = [(s, m) for s, m in zip(record["score"], record["mos"]) if s is not None]
    sides = (min([low, *(m for _, m in pairs)]), max([high, *(m for _, m in pairs)]))
    axes = Axes((low, high), sides, "mean score of a tenth of the items", "their mean MOS")
    axes.grid()
    axes.line(low, low, high, high, cls="even")
    if pairs:
        spots = axes.points(*zip(*pairs))
        axes.add(path(spots, cls="fit"))
        axes.add(*(marker(x, y, 0, cls="dot strong", says=f"{s:.2f}: {m:.2f}") for (x, y), (s, m) in zip(spots, pairs)))
    bias = _shown(record.get("bias"), sign=True)
    axes.add(text(axes.left + 8, axes.top + 12, f"mean of score - MOS {bias}", anchor="start"))
    return axes.picture(f"Calibration of the score: mean MOS against mean score; bias {bias}")


def level_probabilities(result: Evaluation) -> Markup:
    """The mean level distribution that the model gives to items of each true level."""
    keep, scheme = result.known, result.scheme
    level = scheme.hard(result.columns["mos"][keep])
    probs = result.columns["probs"][keep]
    k = len(scheme.words)
    parts: list[Any] = []
    row, left, top = (HEIGHT - 66) / k, 92.0, 16.0
    for i in range(k):
        mine = probs[level == i]
        y = top + i * row
        parts.append(text(left - 8, y + row / 2, scheme.words[i], anchor="end"))
        parts.append(text(left - 8, y + row / 2 + 13, f"n {len(mine)}", anchor="end", cls="t small"))
        if len(mine):
            bar = probability_bar(mine.mean(axis=0), width=WIDTH - left - 12, height=row * 0.72)
            parts.append(tag("g", bar, transform=f"translate({left:g} {y + row * 0.1:.1f})"))
    step = (WIDTH - 24) / k
    for i, word in enumerate(scheme.words):
        x = 14 + i * step
        parts.append(tag("rect", x=x, y=HEIGHT - 42, width=11, height=11, cls=f"level l{_shade(i, k)}"))
        parts.append(text(x + 15, HEIGHT - 32, word, anchor="start", cls="t small"))
    parts.append(text(WIDTH / 2, HEIGHT - 10, "mean probability of each level, by level of the MOS", cls="t label"))
    return picture(parts, "Mean predicted level probabilities for items of each true level")


def probability_bar(probs: Any, *, width: float, height: float) -> Markup:
    """Level probabilities as one stacked bar, best level on the left; shares above a tenth carry their percentage."""
    parts, x = [], 0.0
    k = len(probs)
    for i, share in enumerate(probs):
        wide = float(share) * width
        if wide > 0.3:
            parts.append(tag("rect", x=x, y=0, width=wide, height=height, cls=f"level l{_shade(i, k)}"))
        if share > 0.1 and height >= 14:
            label = f"{100 * share:.0f}"
            parts.append(text(x + wide / 2, height / 2 + 4, label, cls=f"t small on l{_shade(i, k)}"))
        x += wide
    return Markup("").join(parts)


def _shade(i: int, k: int) -> int:
    return round(4 * i / max(k - 1, 1))  # five shades serve any number of levels


def _box(axes: Axes, place: float, five: Any) -> list[Markup]:
    x = float(axes.x(place))
    low, first, middle, third, high = (float(axes.y(v)) for v in five)
    half = float(axes.x(0.26) - axes.x(0))
    return [
        tag("line", x1=x, x2=x, y1=low, y2=high, cls="whisker"),
        tag("rect", x=x - half, y=third, width=2 * half, height=max(first - third, 1), cls="bar-b"),
        tag("line", x1=x - half, x2=x + half, y1=middle, y2=middle, cls="median"),
    ]


def _key(entries: list[tuple[str, str]], *, y: float) -> list[Markup]:
    parts = []
    for i, (word, cls) in enumerate(entries):
        x = 110 + i * 130
        parts += [tag("rect", x=x, y=y, width=12, height=10, cls=cls), text(x + 18, y + 9, word, anchor="start")]
    return parts


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


def _shown(value: Any, *, sign: bool = False) -> str:
    return "undefined" if value is None else f"{value:{'+' if sign else ''}.3f}"

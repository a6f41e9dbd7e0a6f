"""Charts of the predicted levels of one result: histogram, reliability, level probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
from markupsafe import Markup

from q_align.evaluation.record import Evaluation
from q_align.report.charts import shown
from q_align.report.svg import HEIGHT, WIDTH, Axes, drawing, marker, tag, text

FEW_IN_BIN = 10  # a bar of fewer items is drawn weaker


def level_histogram_chart(result: Evaluation) -> Markup:
    """Number of items per level, by their MOS and by the model."""
    keep, scheme = _with_levels(result), result.scheme
    k = len(scheme.words)
    truth = np.bincount(scheme.hard(result.column("mos")[keep]), minlength=k)
    predicted = np.bincount(result.column("probs")[keep].argmax(axis=1), minlength=k) if keep.any() else truth * 0
    top = max(1, int(max(truth.max(), predicted.max())))
    axes = Axes((-0.5, k - 0.5), (0, top * 1.12), "level", "items", bottom=62)
    axes.grid(xticks=[])
    base = float(axes.y(0))
    for i in range(k):
        place = k - 1 - i  # worst on the left, as on the scale
        for values, cls, shift in ((truth, "bar-a", -0.36), (predicted, "bar-b", 0.02)):
            x, y = float(axes.x(place + shift)), float(axes.y(values[i]))
            wide = float(axes.x(0.34) - axes.x(0))
            axes.add(tag("rect", x=x, y=y, width=wide, height=base - y, cls=cls))
            axes.add(text(x + wide / 2, y - 3, int(values[i]), cls="t small"))
        axes.add(text(float(axes.x(place)), base + 16, scheme.words[i]))
    axes.add(*_key([("by MOS", "bar-a"), ("by the model", "bar-b")], y=base + 27))
    counts = ", ".join(f"{w} {a}/{b}" for w, a, b in zip(scheme.words, truth, predicted))
    return axes.drawing(f"Items per level by MOS/by the model: {counts}")


def reliability_chart(result: Evaluation) -> Markup:
    """Accuracy of the most probable level against its probability; each bar carries its number of items."""
    record = result.metrics.get("reliability") or {"n": [], "confidence": [], "accuracy": []}
    axes = Axes((0, 1), (0, 1), "probability of the predicted level", "accuracy")
    axes.grid(xticks=[0, 0.2, 0.4, 0.6, 0.8, 1], yticks=[0, 0.2, 0.4, 0.6, 0.8, 1])
    axes.line(0, 0, 1, 1, cls="even")
    total = max(1, sum(record["n"]))
    bins = len(record["n"])
    for b, (n, confidence, accuracy) in enumerate(zip(record["n"], record["confidence"], record["accuracy"])):
        if not n:
            continue
        x, y = float(axes.x(b / bins)), float(axes.y(accuracy))
        wide = float(axes.x(1 / bins) - axes.x(0)) - 2
        weight = "bar-b" if n >= FEW_IN_BIN else "bar-b few"
        axes.add(tag("rect", x=x + 1, y=y, width=wide, height=float(axes.y(0)) - y, cls=weight))
        axes.add(text(x + 1 + wide / 2, float(axes.y(0)) - 4, n, cls="t small"))
        says = f"{n} items: probability {confidence:.2f}, accuracy {accuracy:.2f}"
        axes.add(marker(float(axes.x(confidence)), y, 0, cls="dot strong", size=2 + 5 * np.sqrt(n / total), says=says))
    axes.add(
        text(
            axes.left + 8,
            axes.top + 12,
            f"expected calibration error {shown(result.metrics.get('ece'))}",
            anchor="start",
        )
    )
    return axes.drawing(
        f"Reliability of the predicted level; expected calibration error {shown(result.metrics.get('ece'))}"
    )


def level_probability_chart(result: Evaluation) -> Markup:
    """The mean level distribution that the model gives to items of each true level."""
    keep, scheme = _with_levels(result), result.scheme
    level = scheme.hard(result.column("mos")[keep])
    probs = result.column("probs")[keep]
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
    return drawing(parts, "Mean predicted level probabilities for items of each true level")


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


def _key(entries: list[tuple[str, str]], *, y: float) -> list[Markup]:
    parts = []
    for i, (word, cls) in enumerate(entries):
        x = 110 + i * 130
        parts += [tag("rect", x=x, y=y, width=12, height=10, cls=cls), text(x + 18, y + 9, word, anchor="start")]
    return parts


def _with_levels(result: Evaluation) -> np.ndarray:
    """(N,) bool: items with a MOS and level probabilities."""
    return result.known & np.isfinite(result.column("probs")).all(axis=1)

"""Charts over several results: radar, cross-dataset heat map, training curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from q_align.report.collect import TrainingLog
from q_align.report.svg import Axes, drawing, legend, marker, path, tag, text

_SHADES = (0.5, 0.7, 0.8, 0.9)  # where a cell of the heat map becomes the next stronger shade
SERIES = 6  # colours (and, with four shapes, marks) that style.css knows


def radar(names: Sequence[str], series: Mapping[str, Sequence[float | None]], *, metric: str = "SRCC") -> Markup:
    """One spoke per data set, one outline per model; the centre is the lowest value shown, rounded down.

    Args:
        names: data sets, at least three.
        series: model -> value per data set, None where there is none.
        metric: what the values are.
    """
    values = [v for row in series.values() for v in row if v is not None]
    low = max(-1.0, np.floor((min(values) - 0.05) * 10) / 10)
    high = 1.0
    width, radius = 440.0, 112.0
    cx, cy = width / 2, radius + 42
    angles = -np.pi / 2 + np.arange(len(names)) * 2 * np.pi / len(names)

    def spot(angle: float, value: float) -> tuple[float, float]:
        share = (value - low) / (high - low)
        return (cx + radius * share * np.cos(angle), cy + radius * share * np.sin(angle))

    parts: list[Any] = []
    for ring in np.linspace(low, high, 5)[1:]:
        parts.append(path([spot(a, ring) for a in angles], cls="grid none", close=True))
    for angle, name in zip(angles, names):
        x, y = spot(angle, high)
        parts.append(tag("line", x1=cx, y1=cy, x2=x, y2=y, cls="grid"))
        away = np.cos(angle)
        anchor = "middle" if abs(away) < 0.3 else "start" if away > 0 else "end"
        parts.append(text(x + 12 * away, y + 18 * np.sin(angle) + 4, name, anchor=anchor))
    for ring in (low, (low + high) / 2, high):
        x, y = spot(-np.pi / 2, ring)
        parts.append(text(x - 5, y + 4, f"{ring:.2f}", anchor="end", cls="t small"))
    for i, row in enumerate(series.values()):
        known = [(spot(a, v), v) for a, v in zip(angles, row) if v is not None]
        whole = len(known) == len(names)
        parts.append(path([p for p, _ in known], cls=f"line s{i % SERIES}", close=whole))
        parts += [marker(x, y, i, cls=f"dot s{i % SERIES}", about=f"{metric} {v:.3f}") for (x, y), v in known]
    below = cy + radius * max(0.0, float(np.sin(angles).max())) + 46
    parts += _names(list(series), x=40, y=below)
    height = below + 16 * len(series)
    return drawing(parts, f"{metric} of {', '.join(series)} on {', '.join(names)}", width=width, height=height)


def heat_map(table: Mapping[str, Any], *, metric: str = "srcc") -> Markup:
    """Models in rows, data sets in columns; every cell shows the number, its shade only repeats it.

    A star: the model was trained on this set or another part of it.
    """
    models, sets = table["models"], table["sets"]
    left = min(190.0, 24 + 7.0 * max(map(len, models)))
    cell = max(62.0, min(110.0, 560.0 / max(1, len(sets))))
    row, top = 40.0, 52.0
    width, height = left + cell * len(sets) + 8, top + row * len(models) + 8
    parts: list[Any] = []
    for j, name in enumerate(sets):
        parts.append(text(left + (j + 0.5) * cell, top - 10 - 14 * (j % 2) * (cell < 80), name))
    for i, model in enumerate(models):
        y = top + i * row
        parts.append(text(left - 8, y + row / 2 + 4, model, anchor="end"))
        for j in range(len(sets)):
            value, x = table[metric][i][j], left + j * cell
            shade = "h0" if value is None else f"h{1 + int(np.searchsorted(_SHADES, value, side='right'))}"
            parts.append(tag("rect", x=x + 1, y=y + 1, width=cell - 2, height=row - 2, rx=3, cls=f"hex {shade}"))
            shown = "-" if value is None else f"{value:.3f}{'*' if table['own'][i][j] else ''}"
            parts.append(text(x + cell / 2, y + row / 2 + 5, shown, cls=f"t strong on {shade}"))
    return drawing(parts, f"{metric.upper()} of every model on every data set", width=width, height=height)


def training_curves(training: TrainingLog) -> list[tuple[str, Markup]]:
    """Loss, and agreement on the validation rows, against optimiser steps; (title, drawing) of what was logged."""
    history = training.history
    losses = {"training loss": _series(history, "loss"), "validation loss": _series(history, "eval_loss")}
    losses = {name: points for name, points in losses.items() if points}
    names = dict.fromkeys(k for row in history for k in row if k.startswith("eval_") and k.endswith(("srcc", "plcc")))
    agreement = {name.removeprefix("eval_"): _series(history, name) for name in names}
    agreement = {name: points for name, points in agreement.items() if points}
    if len(agreement) > SERIES:  # many tasks: the rank correlations tell enough
        agreement = {name: points for name, points in agreement.items() if name.endswith("srcc")}
    agreement = _distinct(agreement)
    charts = []
    if losses:
        charts.append((f"{training.name}: loss", _curves(losses, "loss", (0.0, None))))
    if agreement:
        charts.append((f"{training.name}: validation", _curves(agreement, "correlation", (None, 1.0))))
    return charts


def _curves(
    series: Mapping[str, list[tuple[float, float]]], ylabel: str, fixed: tuple[float | None, float | None]
) -> Markup:
    xs = [x for points in series.values() for x, _ in points]
    ys = [y for points in series.values() for _, y in points]
    low = fixed[0] if fixed[0] is not None else float(np.floor((min(ys) - 0.02) * 10) / 10)
    high = fixed[1] if fixed[1] is not None else max(ys) * 1.05 + 1e-9
    below = 16 * len(series)
    axes = Axes((0, max(*xs, 1)), (min(low, *ys), max(high, *ys)), "step", ylabel, height=300 + below)
    axes.bottom = 54 + below
    axes.grid()
    for i, points in enumerate(series.values()):
        spots = axes.points(*zip(*points))
        axes.add(path(spots, cls=f"line s{i % SERIES}"))
        shown = spots if len(spots) <= 40 else spots[:: len(spots) // 20]
        axes.add(*(marker(x, y, i, cls=f"dot s{i % SERIES}", size=3) for x, y in shown))
    # the axis title is the last line; the names are above it
    axes.add(*_names(list(series), x=axes.left, y=axes.height - 16 - below))
    return axes.drawing(f"{ylabel} against step: {', '.join(series)}")


def _distinct(series: Mapping[str, list[tuple[float, float]]]) -> dict[str, list[tuple[float, float]]]:
    """Series that are equal, as those of the mean and of the only set, become one that carries all their names."""
    names: dict[tuple[tuple[float, float], ...], list[str]] = {}
    for name, points in series.items():
        names.setdefault(tuple(points), []).append(name)
    return {" = ".join(same): list(points) for points, same in names.items()}


def _names(words: Sequence[str], *, x: float, y: float) -> list[Markup]:
    return legend([(word, f"dot s{i % SERIES}") for i, word in enumerate(words)], x=x, y=y)


def _series(history: Sequence[Mapping[str, Any]], key: str) -> list[tuple[float, float]]:
    pairs = [(float(row["step"]), row[key]) for row in history if isinstance(row.get(key), (int, float))]
    return [(x, float(y)) for x, y in pairs if np.isfinite(y)]

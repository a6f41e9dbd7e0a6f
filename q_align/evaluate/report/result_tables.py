"""The report's tables: one structure, written as HTML, Markdown or CSV. Knows records; no pictures."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from q_align.evaluate.metrics import compare
from q_align.evaluate.report.collect import Collected, Evaluation

MEASURES = ("srcc", "plcc", "plcc_logistic", "krcc", "rmse")
_RESAMPLES = 2000
_FEWER = 200  # resamples of very large sets: their intervals are narrow anyhow
_LARGE = 20_000


@dataclass(slots=True)
class Table:
    """Rows of cells (numbers or words), with what to know about them.

    Attributes:
        name: file name without extension.
        title: heading.
        columns: headings; `numeric` ones are set right-aligned.
        rows: cells; None is shown as a dash.
        quiet: numbers of rows that are quoted from elsewhere, set in a quieter colour.
        note: a line below.
    """

    name: str
    title: str
    columns: list[str]
    rows: list[list[Any]]
    quiet: set[int] = field(default_factory=set)
    note: str = ""

    def shown(self) -> list[list[str]]:
        return [[show(cell) for cell in row] for row in self.rows]

    def markdown(self) -> str:
        lines = [f"## {self.title}", "", _row(self.columns), _row(["---"] * len(self.columns))]
        lines += [_row(row) for row in self.shown()]
        return "\n".join([*lines, "", *([self.note, ""] if self.note else [])])

    def write_csv(self, folder: Path) -> Path:
        target = folder / f"{self.name}.csv"
        with target.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(self.columns)
            writer.writerows([["" if _empty(c) else _flat(c) for c in row] for row in self.rows])
        return target


def summary_table(found: Collected) -> Table:
    """Every result, and below those of a set the published ones, quoted from papers."""
    rows: list[list[Any]] = []
    quiet: set[int] = set()
    sources: list[str] = []
    for data in found.sets:
        published: dict[tuple[str, str], dict[str, Any]] = {}
        for result in (e for e in found.evaluations if e.data == data):
            m = result.metrics
            low, high = (m.get("srcc_ci") or [None, None])[:2]
            interval = (low, high) if low is not None else None
            trained = ", ".join(map(str, dict.fromkeys(m.get("trained_on") or [])))
            rows.append(
                [data, result.model, trained, m["n"], m["failed"], m["srcc"], interval, *(m[k] for k in MEASURES[1:])]
            )
            published |= {(p["model"], p["trained_on"]): p for p in m.get("published") or []}
        for row in published.values():
            if row["source"] not in sources:
                sources.append(row["source"])
            mark = f"{row['model']} [{sources.index(row['source']) + 1}]"
            quiet.add(len(rows))
            rows.append([data, mark, row["trained_on"], None, None, row["srcc"], None, row["plcc"], None, None, None])
    columns = [
        "data",
        "model",
        "trained on",
        "n",
        "failed",
        "SRCC",
        "95% interval",
        "PLCC",
        "PLCC fitted",
        "KRCC",
        "RMSE",
    ]
    note = "PLCC fitted and RMSE are taken after the four-parameter logistic; RMSE in levels. Intervals: bootstrap."
    if sources:
        note += " Published: " + "; ".join(f"[{i}] {s}" for i, s in enumerate(sources, 1)) + "."
    return Table("summary", "Results", columns, rows, quiet, note)


def comparison_table(found: Collected) -> Table | None:
    """Pairs of models on the same items, with the significance of their difference; None for a single model."""
    rows: list[list[Any]] = []
    for data in found.sets:
        results = [e for e in found.evaluations if e.data == data]
        if len(results) < 2:
            continue
        mos, scores, content = align(results)
        resamples = _FEWER if len(mos) > _LARGE else _RESAMPLES
        for pair in compare(mos, scores, content, resamples=resamples):
            for measure in ("srcc", "plcc"):
                r = pair[measure]
                values = [r["a"], r["b"], r["difference"], r["difference_ci"]]
                values += [p_value(r[k]) for k in ("bootstrap_p", "holm_p", "williams_p", "steiger_p")]
                rows.append([data, measure.upper(), *pair["models"], verdict(r, pair["models"]), *values, pair["n"]])
    if not rows:
        return None
    columns = [
        "data",
        "measure",
        "A",
        "B",
        "verdict",
        "A's",
        "B's",
        "A - B",
        "95% interval",
        "p",
        "p (Holm)",
        "p Williams",
    ]
    note = (
        "p: paired bootstrap over the same items, by content where known; Holm: corrected over the pairs of a set. "
        "Williams and Steiger assume independent items. The verdict asks for a Holm-corrected p below 0.05."
    )
    return Table("comparison", "Are the differences real?", [*columns, "p Steiger", "n"], rows, note=note)


def levels_table(result: Evaluation) -> Table:
    """Accuracy per level of one result."""
    levels = result.metrics.get("levels") or {}
    rows = [[word, entry["n"], entry["accuracy"]] for word, entry in (levels.get("per_level") or {}).items()]
    rows.append(["all", result.metrics["n"], levels.get("accuracy")])
    rows.append(["at most one level off", result.metrics["n"], levels.get("within_one")])
    name = f"levels_{result.model}_{result.data}".replace("/", "-").replace(" ", "_")
    return Table(name, f"Levels: {result.model} on {result.data}", ["level by MOS", "n", "right"], rows)


def details_table(result: Evaluation) -> Table:
    """The remaining measures of one result."""
    m = result.metrics
    rows: list[list[Any]] = [
        ["PLCC 95% interval", tuple(m["plcc_ci"]) if m["plcc_ci"][0] is not None else None],
        ["PLCC after the five-parameter logistic", m.get("plcc_logistic5")],
        ["RMSE after the five-parameter logistic", m.get("rmse_logistic5")],
        ["RMSE as predicted (no fit)", m.get("rmse_raw")],
        ["mean absolute error", m.get("mae")],
        ["level accuracy", m.get("level_accuracy")],
        ["calibration error of the level", m.get("ece")],
        ["calibration error of the score", (m.get("calibration") or {}).get("calibration_error")],
    ]
    for key, words in (
        ("kl", "KL divergence"),
        ("js", "Jensen-Shannon divergence"),
        ("wasserstein", "Wasserstein distance"),
    ):
        if "distribution" in m:
            rows.append([f"{words} to the opinions (n {m['distribution']['n']})", m["distribution"][key]])
    ci = m.get("ci") or {}
    rows.append(["intervals over", f"{ci.get('units')} {ci.get('unit')}s, {ci.get('resamples')} resamples"])
    four = m.get("logistic4") or {}
    rows.append(["four-parameter fit", "converged" if four.get("converged") else "did not converge"])
    name = f"details_{result.model}_{result.data}".replace("/", "-").replace(" ", "_")
    return Table(name, f"More measures: {result.model} on {result.data}", ["measure", "value"], rows)


def align(results: Sequence[Evaluation]) -> tuple[np.ndarray, dict[str, np.ndarray], Any]:
    """Opinions, and each model's scores in the same order: items are matched by id and number of occurrence."""
    first = results[0]
    keys = _keys(first)
    place = {key: i for i, key in enumerate(keys)}
    scores = {}
    for result in results:
        row = np.full(len(keys), np.nan)
        for key, value in zip(_keys(result), result.columns["value"]):
            if key in place:
                row[place[key]] = value
        scores[result.model] = row
    content = first.columns["content"]
    return first.columns["mos"], scores, None if all(c is None for c in content) else content.astype(str)


def _keys(result: Evaluation) -> list[tuple[str, str, int]]:
    seen: dict[tuple[str, str], int] = {}
    keys = []
    for name, task in zip(result.columns["id"], result.columns["task"]):
        count = seen[name, task] = seen.get((name, task), -1) + 1
        keys.append((name, task, count))
    return keys


def verdict(record: dict[str, Any], models: tuple[str, str]) -> str:
    p = record["holm_p"]
    if not math.isfinite(p):
        return "undefined"
    if p >= 0.05:
        return "no difference shown"
    return f"{models[0] if record['difference'] > 0 else models[1]} is better"


def p_value(p: float) -> str | None:
    if not math.isfinite(p):
        return None
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def show(cell: Any) -> str:
    if _empty(cell):
        return "–"
    if isinstance(cell, tuple):
        return f"{cell[0]:.3f} to {cell[1]:.3f}"
    return f"{cell:.3f}" if isinstance(cell, float) else str(cell)


def _empty(cell: Any) -> bool:
    values = cell if isinstance(cell, tuple) else (cell,)
    return any(v is None or (isinstance(v, float) and not math.isfinite(v)) for v in values)


def _flat(cell: Any) -> Any:
    return f"{cell[0]} {cell[1]}" if isinstance(cell, tuple) else cell


def _row(cells: Sequence[Any]) -> str:
    return "| " + " | ".join(str(c).replace("|", "\\|") for c in cells) + " |"

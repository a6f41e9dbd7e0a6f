"""The report's tables: results, levels, further metrics; written as HTML, Markdown, CSV or LaTeX."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from q_align.evaluation.record import Evaluation
from q_align.report.collect import ResultSet

FEW_ITEMS = 5  # an accuracy over fewer items is not shown
_LATEX = str.maketrans({c: rf"\{c}" for c in "&%$#_{}"} | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}"})


@dataclass(slots=True)
class ReportTable:
    """Rows of cells (numbers or words) with a note.

    Attributes:
        name: file name without extension.
        title: heading.
        columns: headings.
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
        return [[show_cell(cell) for cell in row] for row in self.rows]

    def markdown(self) -> str:
        lines = [f"## {self.title}", "", _row(self.columns), _row(["---"] * len(self.columns))]
        lines += [_row(row) for row in self.shown()]
        return "\n".join([*lines, "", *([self.note, ""] if self.note else [])])

    def latex(self) -> str:
        """A tabular for LaTeX with the package booktabs."""
        lines = [
            f"% {self.title}. {self.note}".rstrip(),
            rf"\begin{{tabular}}{{{'l' * len(self.columns)}}}",
            r"\toprule",
        ]
        lines += [_latex_row(self.columns), r"\midrule", *map(_latex_row, self.shown())]
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])

    def write_csv(self, folder: Path) -> Path:
        target = folder / f"{self.name}.csv"
        with target.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(self.columns)
            writer.writerows([["" if _empty(c) else _flat(c) for c in row] for row in self.rows])
        return target


def summary_table(found: ResultSet) -> ReportTable:
    """Every result, and below those of a set the published ones, quoted from papers."""
    columns = [
        *("data", "model", "trained on", "n", "contents", "failed", "MOS range", "SRCC", "95% interval", "vs first"),
        *("PLCC", "PLCC fitted", "KRCC", "RMSE fitted", "RMSE", "level accuracy", "RMSE in MOS"),
    ]
    rows: list[list[Any]] = []
    quiet: set[int] = set()
    sources: list[str] = []
    for data in found.sets:
        published: dict[tuple[str, str], dict[str, Any]] = {}
        results = [e for e in found.evaluations if e.data == data]
        for result in results:
            m = result.metrics
            low, high = (m.get("srcc_ci") or [None, None])[:2]
            interval = (low, high) if low is not None else None
            trained = ", ".join(map(str, dict.fromkeys(m.get("trained_on") or [])))
            name = f"{result.model} *" if m.get("training_rows") else result.model
            contents = (m.get("within_content") or {}).get("contents")
            start = [data, name, trained, m["n"], contents, m["failed"], mos_range_text(m), m["srcc"], interval]
            change = _difference(m["srcc"], results[0].metrics["srcc"]) if result is not results[0] else None
            ends = [
                m.get(key)
                for key in ("plcc", "plcc_logistic", "krcc", "rmse", "rmse_raw", "level_accuracy", "rmse_mos")
            ]
            rows.append([*start, change, *ends])
            published |= {(p["model"], p["trained_on"]): p for p in m.get("published") or []}
        for row in published.values():
            if row["source"] not in sources:
                sources.append(row["source"])
            mark = f"{row['model']} [{sources.index(row['source']) + 1}]"
            quiet.add(len(rows))
            cells = {
                "data": data,
                "model": mark,
                "trained on": row["trained_on"],
                "SRCC": row["srcc"],
                "PLCC": row["plcc"],
            }
            rows.append([cells.get(column) for column in columns])
    note = (
        "PLCC fitted and RMSE fitted: after the four-parameter logistic. RMSE in levels, without a fit; RMSE in MOS: "
        "in the units of the data set. Intervals: bootstrap, by content where known. vs first: SRCC minus that of the "
        "first model of the data set."
    )
    if any(e.metrics.get("training_rows") for e in found.evaluations):
        note += " *: includes rows that the model was trained or validated on."
    if sources:
        note += " Published: " + "; ".join(f"[{i}] {s}" for i, s in enumerate(sources, 1)) + "."
    empty = [
        j for j, name in enumerate(columns) if name in ("contents", "vs first") and all(_empty(r[j]) for r in rows)
    ]
    rows = [[cell for j, cell in enumerate(row) if j not in empty] for row in rows]
    return ReportTable("summary", "Results", [c for j, c in enumerate(columns) if j not in empty], rows, quiet, note)


def levels_table(result: Evaluation) -> ReportTable:
    """Accuracy per level of one result."""
    levels = result.metrics.get("levels") or {}
    rows = []
    total = 0
    for word, entry in (levels.get("per_level") or {}).items():
        n, accuracy = entry["n"], entry["accuracy"]
        total += n
        rows.append(
            [word, n, round(accuracy * n) if accuracy is not None else None, accuracy if n >= FEW_ITEMS else None]
        )
    for label, key in (("all", "accuracy"), ("at most one level off", "within_one")):
        accuracy = levels.get(key)
        rows.append([label, total, round(accuracy * total) if accuracy is not None else None, accuracy])
    return ReportTable(
        _file_name("levels", result),
        f"Levels: {result.model} on {result.data}",
        ["level by MOS", "n", "correct", "accuracy"],
        rows,
        note=f"No accuracy is shown for a level of fewer than {FEW_ITEMS} items.",
    )


def details_table(result: Evaluation) -> ReportTable:
    """The remaining metrics of one result."""
    m = result.metrics
    rows: list[list[Any]] = [
        ["PLCC 95% interval", tuple(m["plcc_ci"]) if m["plcc_ci"][0] is not None else None],
        ["PLCC after the five-parameter logistic", m.get("plcc_logistic5")],
        ["RMSE after the five-parameter logistic", m.get("rmse_logistic5")],
        ["RMSE without a fit, in levels", m.get("rmse_raw")],
        ["mean absolute error, in levels", m.get("mae")],
    ]
    scale = m.get("mos_scale")
    if scale:
        mapped = "calibration" if scale["origin"] == "calibration" else "MOS range"
        rows += [
            [f"RMSE in MOS ({scale['name']}, by {mapped})", m.get("rmse_mos")],
            [f"mean absolute error in MOS ({scale['name']}, by {mapped})", m.get("mae_mos")],
        ]
    within = m.get("within_content")
    if within:
        rows.append([f"mean SRCC within a content ({within['defined']} of {within['contents']})", within["srcc"]])
    rows += [
        ["level accuracy", m.get("level_accuracy")],
        ["expected calibration error of the level", m.get("ece")],
        ["calibration error of the score, in levels", (m.get("calibration") or {}).get("calibration_error")],
    ]
    for key, words in (
        ("kl", "KL divergence"),
        ("js", "Jensen-Shannon divergence"),
        ("wasserstein", "Wasserstein distance"),
    ):
        if "distribution" in m:
            rows.append([f"{words} to the ratings (n {m['distribution']['n']})", m["distribution"][key]])
    ci = m.get("ci") or {}
    rows.append(["bootstrap intervals", f"{ci.get('units')} {ci.get('unit')}s, {ci.get('resamples')} resamples"])
    four = m.get("logistic4") or {}
    rows.append(["four-parameter logistic", "converged" if four.get("converged") else "did not converge"])
    title = f"Further metrics: {result.model} on {result.data}"
    return ReportTable(_file_name("details", result), title, ["metric", "value"], rows)


def mos_range_text(metrics: dict[str, Any]) -> str | None:
    """ "1 to 5", the MOS that are the ends of the level scale."""
    ends = metrics.get("mos_range")
    return None if ends is None else f"{ends[0]:g} to {ends[1]:g}"


def show_cell(cell: Any) -> str:
    if _empty(cell):
        return "–"
    if isinstance(cell, tuple):
        return f"{cell[0]:.3f} to {cell[1]:.3f}"
    return f"{cell:.3f}" if isinstance(cell, float) else str(cell)


def _file_name(kind: str, result: Evaluation) -> str:
    return f"{kind}_{result.model}_{result.data}".replace("/", "-").replace(" ", "_")


def _difference(value: float | None, first: float | None) -> str | None:
    return None if value is None or first is None else f"{value - first:+.3f}"


def _empty(cell: Any) -> bool:
    values = cell if isinstance(cell, tuple) else (cell,)
    return any(v is None or (isinstance(v, float) and not math.isfinite(v)) for v in values)


def _flat(cell: Any) -> Any:
    return f"{cell[0]} {cell[1]}" if isinstance(cell, tuple) else cell


def _row(cells: Sequence[Any]) -> str:
    return "| " + " | ".join(str(c).replace("|", "\\|") for c in cells) + " |"


def _latex_row(cells: Sequence[Any]) -> str:
    return " & ".join(str(cell).replace("–", "--").translate(_LATEX) for cell in cells) + r" \\"

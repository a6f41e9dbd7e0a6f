"""The cross-dataset matrix: models (and what they were trained on) in rows, test sets in columns. Knows records."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

MEASURES = ("srcc", "plcc")


def matrix(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Cells by model and set.

    Args:
        records: contents of metrics.json, one per model and set.

    Returns:
        models, sets, trained_on per model, and per measure a list of rows (None where there is no result), and `own`:
        whether the set was part of the model's training data.
    """
    models = list(dict.fromkeys(r["model_name"] for r in records))
    sets = list(dict.fromkeys(r["data_name"] for r in records))
    cell = {(r["model_name"], r["data_name"]): r for r in records}
    trained = {r["model_name"]: r.get("trained_on") or [] for r in records}
    values = {measure: [[_value(cell.get((m, d)), measure) for d in sets] for m in models] for measure in MEASURES}
    own = [[d in trained[m] for d in sets] for m in models]
    return {"models": models, "sets": sets, "trained_on": trained, **values, "own": own}


def write_matrix(records: list[dict[str, Any]], folder: Path) -> None:
    """matrix.json, matrix.csv and matrix.md in `folder`."""
    table = matrix(records)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "matrix.json").write_text(json.dumps(table, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    with (folder / "matrix.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["model", "trained_on", *(f"{d} {m}" for d in table["sets"] for m in MEASURES)])
        for i, model in enumerate(table["models"]):
            cells = [table[m][i][j] for j in range(len(table["sets"])) for m in MEASURES]
            writer.writerow(
                [model, " ".join(map(str, table["trained_on"][model])), *("" if c is None else c for c in cells)]
            )
    (folder / "matrix.md").write_text(markdown(table), encoding="utf-8")


def markdown(table: dict[str, Any]) -> str:
    """SRCC / PLCC per cell; an asterisk marks sets that the model was trained on."""
    lines = ["| model | " + " | ".join(table["sets"]) + " |", "|---" * (len(table["sets"]) + 1) + "|"]
    for i, model in enumerate(table["models"]):
        cells = []
        for j in range(len(table["sets"])):
            pair = [table[m][i][j] for m in MEASURES]
            shown = " / ".join("-" if v is None else f"{v:.3f}" for v in pair)
            cells.append(shown + ("*" if table["own"][i][j] else ""))
        lines.append(f"| {model} | " + " | ".join(cells) + " |")
    return "\n".join(["SRCC / PLCC; * the model was trained on this set or another part of it.", "", *lines]) + "\n"


def _value(record: dict[str, Any] | None, measure: str) -> float | None:
    value = record.get(measure) if record else None
    return float(value) if value is not None and math.isfinite(value) else None

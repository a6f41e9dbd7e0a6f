"""Cross-dataset matrix: models and their training sets in rows, test sets in columns."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

SHOWN = ("srcc", "plcc")


def cross_dataset_matrix(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Cells by model and set.

    Args:
        records: contents of metrics.json, one per model and set.

    Returns:
        models, sets, trained_on per model, and per metric a list of rows (None where there is no result), and `own`:
        whether the set was part of the model's training data.
    """
    models = list(dict.fromkeys(r["model_name"] for r in records))
    sets = list(dict.fromkeys(r["data_name"] for r in records))
    cell = {(r["model_name"], r["data_name"]): r for r in records}
    trained = {r["model_name"]: r.get("trained_on") or [] for r in records}
    values = {metric: [[_value(cell.get((m, d)), metric) for d in sets] for m in models] for metric in SHOWN}
    own = [[d in trained[m] for d in sets] for m in models]
    return {"models": models, "sets": sets, "trained_on": trained, **values, "own": own}


def write_matrix(records: list[dict[str, Any]], folder: Path) -> None:
    """matrix.json, matrix.csv and matrix.md in `folder`."""
    table = cross_dataset_matrix(records)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "matrix.json").write_text(json.dumps(table, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    with (folder / "matrix.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["model", "trained_on", *(f"{d} {m}" for d in table["sets"] for m in SHOWN)])
        for i, model in enumerate(table["models"]):
            cells = [table[m][i][j] for j in range(len(table["sets"])) for m in SHOWN]
            writer.writerow(
                [model, " ".join(map(str, table["trained_on"][model])), *("" if c is None else c for c in cells)]
            )
    (folder / "matrix.md").write_text(matrix_markdown(table), encoding="utf-8")


def matrix_markdown(table: dict[str, Any]) -> str:
    """SRCC / PLCC per cell; an asterisk marks sets that the model was trained on."""
    lines = ["| model | " + " | ".join(table["sets"]) + " |", "|---" * (len(table["sets"]) + 1) + "|"]
    for i, model in enumerate(table["models"]):
        cells = []
        for j in range(len(table["sets"])):
            pair = [table[m][i][j] for m in SHOWN]
            shown = " / ".join("-" if v is None else f"{v:.3f}" for v in pair)
            cells.append(shown + ("*" if table["own"][i][j] else ""))
        lines.append(f"| {model} | " + " | ".join(cells) + " |")
    return "\n".join(["SRCC / PLCC; * the model was trained on this set or another part of it.", "", *lines]) + "\n"


def _value(record: dict[str, Any] | None, metric: str) -> float | None:
    value = record.get(metric) if record else None
    return float(value) if value is not None and math.isfinite(value) else None

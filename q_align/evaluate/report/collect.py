"""Folders that `q-align evaluate` and `q-align train` wrote -> what the report draws. Knows files and columns only."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from q_align.errors import ConfigError
from q_align.evaluate.metrics import summary
from q_align.levels import LevelScheme

METRICS, SCORES, HISTORY = "metrics.json", "scores.parquet", "log_history.json"


@dataclass(slots=True)
class Evaluation:
    """One model on one data set: its record, its columns (arrays of N, NaN where a number is missing), its levels."""

    model: str
    data: str
    folder: Path
    metrics: dict[str, Any]
    columns: dict[str, np.ndarray]
    scheme: LevelScheme

    @property
    def known(self) -> np.ndarray:
        """(N,) bool: items with a score and an opinion."""
        return np.isfinite(self.columns["value"]) & np.isfinite(self.columns["mos"])


@dataclass(slots=True)
class Training:
    """A training run: its name and the trainer's log, one record per logged step."""

    name: str
    history: list[dict[str, Any]]


@dataclass(slots=True)
class Collected:
    evaluations: list[Evaluation] = field(default_factory=list)
    trainings: list[Training] = field(default_factory=list)

    @property
    def models(self) -> list[str]:
        return list(dict.fromkeys(e.model for e in self.evaluations))

    @property
    def sets(self) -> list[str]:
        return list(dict.fromkeys(e.data for e in self.evaluations))

    def cell(self, model: str, data: str) -> Evaluation | None:
        return next((e for e in self.evaluations if (e.model, e.data) == (model, data)), None)


def collect(folders: list[str | Path]) -> Collected:
    """Reads evaluation folders (also folders of such folders) and training runs.

    The training curve of an evaluated model is found where its folder holds one.

    Raises:
        ConfigError: when a folder holds neither, or a file in it is broken.
    """
    found = Collected()
    runs: dict[Path, Training] = {}
    for name in folders:
        folder = Path(name)
        if not folder.is_dir():
            raise ConfigError(f"{folder}: no such folder; give folders that q-align evaluate or train wrote")
        inside = sorted(path.parent for path in folder.rglob(METRICS) if (path.parent / SCORES).is_file())
        found.evaluations += [_evaluation(path) for path in inside]
        _training(folder, runs)
        if not inside and folder.resolve() not in runs:
            raise ConfigError(
                f"{folder}: neither {METRICS} with {SCORES} nor {HISTORY}; q-align evaluate or train writes them"
            )
    _tell_apart(found.evaluations)
    for evaluation in found.evaluations:
        model = Path(str(evaluation.metrics.get("model", "")))
        for candidate in (model, model.parent.parent if model.parent.name == "checkpoints" else model):
            _training(candidate, runs)
    found.trainings = list(runs.values())
    return found


def _evaluation(folder: Path) -> Evaluation:
    import pyarrow.parquet as pq

    try:
        metrics = json.loads((folder / METRICS).read_text(encoding="utf-8"))
        table = pq.read_table(folder / SCORES)
    except (json.JSONDecodeError, pa.ArrowException) as error:
        raise ConfigError(f"{folder}: cannot be read: {' '.join(str(error).split())}") from error
    scheme = LevelScheme(**metrics["levels_scheme"]) if "levels_scheme" in metrics else LevelScheme()
    columns: dict[str, np.ndarray] = {}
    for name in ("value", "mos"):
        columns[name] = numbers(table, name)
    for name in ("id", "media", "content", "task"):
        there = name in table.column_names
        columns[name] = np.array(table.column(name).to_pylist() if there else [None] * len(table), dtype=object)
    columns["probs"] = level_probs(table, len(scheme.words))
    metrics = _complete(metrics, columns, scheme, folder)
    return Evaluation(metrics["model_name"], metrics["data_name"], folder, metrics, columns, scheme)


def _complete(metrics: dict[str, Any], columns: dict[str, Any], scheme: LevelScheme, folder: Path) -> dict[str, Any]:
    """A record that was written by hand or by another program gets the measures and names that it lacks."""
    if "logistic4" not in metrics:
        content = None if all(c is None for c in columns["content"]) else columns["content"].astype(str)
        given = {"mos": columns["mos"], "score": columns["value"], "probs": columns["probs"], "content": content}
        found = json.loads(json.dumps(summary(**given, scheme=scheme)).replace("NaN", "null"))
        metrics = {**found, **metrics}
    here = folder.resolve()
    lacking: dict[str, Any] = {
        **{"model_name": here.parent.name, "data_name": here.name, "title": None, "trained_on": []},
        **{"model": here.parent.name, "data": here.name, "task": None, "split": None, "settings": {}, "errors": []},
        **{"mos_range": [scheme.low, scheme.high], "higher_is_better": True, "timing": None},
        "environment": {"machine": None, "versions": {}, "date": None},
    }
    return {**lacking, **metrics}


def _training(folder: Path, runs: dict[Path, Training]) -> None:
    path = folder / HISTORY
    if not path.is_file() or folder.resolve() in runs:
        return
    try:
        history = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}: not valid JSON ({error})") from error
    runs[folder.resolve()] = Training(folder.resolve().name, [row for row in history if "step" in row])


def _tell_apart(evaluations: list[Evaluation]) -> None:
    """Results of the same model name on the same set come from different folders: the folder joins the name."""
    seen: dict[tuple[str, str], list[Evaluation]] = {}
    for evaluation in evaluations:
        seen.setdefault((evaluation.model, evaluation.data), []).append(evaluation)
    for same in seen.values():
        if len(same) > 1:
            for evaluation, name in zip(same, short_names([str(e.folder.resolve()) for e in same])):
                evaluation.model = f"{evaluation.model} ({name})"


def short_names(names: Sequence[str | Path]) -> list[str]:
    """Short names that differ: the last parts of a path, as many as are needed, then numbers."""
    parts = [[p for p in Path(name).parts if p not in ("/", ".", "..")] or [name] for name in map(str, names)]
    for depth in range(1, max(map(len, parts)) + 1):
        short = ["-".join(p[-depth:]) for p in parts]
        if len(set(short)) == len(short):
            return short
    return [f"{name}-{number}" for number, name in enumerate(short, 1)]


def numbers(table: pa.Table, name: str) -> np.ndarray:
    """A column as float64, nulls as NaN."""
    return table.column(name).to_numpy().astype(np.float64)


def level_probs(table: pa.Table, k: int) -> np.ndarray:
    """(N, K) probabilities, NaN rows for failed items."""
    column = table.column("probs").combine_chunks()
    probs = np.full((table.num_rows, k), np.nan)
    there = np.flatnonzero(np.asarray(column.is_valid()))
    if len(there):
        probs[there] = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, k)
    return probs

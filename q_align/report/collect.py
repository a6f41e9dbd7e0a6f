"""Reads the folders that `q-align evaluate` and `q-align train` wrote."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from q_align.errors import ConfigError
from q_align.evaluation.record import Evaluation
from q_align.evaluation.results import METRICS_FILE, SCORES_FILE, distinct_names, json_ready, metric_inputs
from q_align.levels import LevelScheme
from q_align.metrics import compute_metrics

HISTORY = "log_history.json"


@dataclass(slots=True)
class TrainingLog:
    """A training run: its name and the trainer's log, one record per logged step."""

    name: str
    history: list[dict[str, Any]]


@dataclass(slots=True)
class ResultSet:
    """All results of a report; undefined metrics are None."""

    evaluations: list[Evaluation] = field(default_factory=list)
    trainings: list[TrainingLog] = field(default_factory=list)

    @property
    def models(self) -> list[str]:
        return list(dict.fromkeys(e.model for e in self.evaluations))

    @property
    def sets(self) -> list[str]:
        return list(dict.fromkeys(e.data for e in self.evaluations))

    def cell(self, model: str, data: str) -> Evaluation | None:
        return next((e for e in self.evaluations if (e.model, e.data) == (model, data)), None)


def collect_results(folders: list[str | Path]) -> ResultSet:
    """Reads evaluation folders (also folders of such folders) and training runs.

    The training curve of an evaluated model is found where its folder holds one.

    Raises:
        ConfigError: when a folder holds neither, or a file in it is broken.
    """
    found = ResultSet()
    runs: dict[Path, TrainingLog] = {}
    for name in folders:
        folder = Path(name)
        if not folder.is_dir():
            raise ConfigError(f"{folder}: no such folder; give folders that q-align evaluate or train wrote")
        inside = sorted(path.parent for path in folder.rglob(METRICS_FILE) if (path.parent / SCORES_FILE).is_file())
        found.evaluations += [_evaluation(path) for path in inside]
        _training(folder, runs)
        if not inside and folder.resolve() not in runs:
            raise ConfigError(
                f"{folder}: neither {METRICS_FILE} with {SCORES_FILE} nor {HISTORY}; "
                f"give folders that q-align evaluate or train wrote"
            )
    _distinguish(found.evaluations)
    for evaluation in found.evaluations:
        model = Path(str(evaluation.metrics.get("model", "")))
        for candidate in (model, model.parent.parent if model.parent.name == "checkpoints" else model):
            _training(candidate, runs)
    found.trainings = list(runs.values())
    return found


def _evaluation(folder: Path) -> Evaluation:
    import pyarrow.parquet as pq

    try:
        metrics = json.loads((folder / METRICS_FILE).read_text(encoding="utf-8"))
        table = pq.read_table(folder / SCORES_FILE)
    except (json.JSONDecodeError, pa.ArrowException) as error:
        raise ConfigError(f"{folder}: cannot be read: {' '.join(str(error).split())}") from error
    scheme = LevelScheme(**metrics["levels_scheme"]) if "levels_scheme" in metrics else LevelScheme()
    metrics = _complete(metrics, table, scheme, folder)
    return Evaluation("", metrics["model_name"], metrics["data_name"], metrics, table, scheme, folder)


def _complete(metrics: dict[str, Any], table: pa.Table, scheme: LevelScheme, folder: Path) -> dict[str, Any]:
    """A record that another program wrote gets the metrics and names that it lacks."""
    if "logistic4" not in metrics:
        if "content" not in table.column_names:
            table = table.append_column("content", pa.nulls(len(table), pa.string()))
        metrics = {**json_ready(compute_metrics(**metric_inputs(table, scheme), scheme=scheme)), **metrics}
    here = folder.resolve()
    lacking: dict[str, Any] = {
        **{"model_name": here.parent.name, "data_name": here.name, "title": None, "trained_on": []},
        **{"model": here.parent.name, "data": here.name, "task": None, "split": None, "settings": {}, "errors": []},
        **{"mos_range": [scheme.low, scheme.high], "mos_range_from": None, "higher_is_better": True, "timing": None},
        **{"training_rows": 0, "questions": 0, "mos_scale": None},
        "environment": {"machine": None, "versions": {}, "date": None},
    }
    return {**lacking, **metrics}


def _training(folder: Path, runs: dict[Path, TrainingLog]) -> None:
    path = folder / HISTORY
    if not path.is_file() or folder.resolve() in runs:
        return
    try:
        history = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}: not valid JSON ({error})") from error
    runs[folder.resolve()] = TrainingLog(folder.resolve().name, [row for row in history if "step" in row])


def _distinguish(evaluations: list[Evaluation]) -> None:
    """Results of the same model name on the same set come from different folders: the folder joins the name."""
    seen: dict[tuple[str, str], list[Evaluation]] = {}
    for evaluation in evaluations:
        seen.setdefault((evaluation.model, evaluation.data), []).append(evaluation)
    for same in seen.values():
        if len(same) > 1:
            for evaluation, name in zip(same, distinct_names([str((e.folder or Path()).resolve()) for e in same])):
                evaluation.model = f"{evaluation.model} ({name})"

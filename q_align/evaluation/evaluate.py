"""Evaluation from Python: `evaluate(model, data)["srcc"]`, and `compare` of two results."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from q_align.errors import ConfigError
from q_align.evaluation.evaluate_models import evaluate_models
from q_align.evaluation.record import Evaluation
from q_align.evaluation.settings import EvaluationSettings
from q_align.levels import LevelScheme
from q_align.metrics import compare_scores


def evaluate(
    model: Any,
    data: Any,
    *,
    split: str | None = None,
    task: str | None = None,
    mos_range: tuple[float, float] | None = None,
    higher_is_better: bool | None = None,
    media_root: str | Path | None = None,
    output: str | Path | None = None,
    scale: str | None = None,
    cache: str | bool | None = None,
    resamples: int = 1000,
    seed: int = 0,
    **loading: Any,
) -> Evaluation:
    """Scores rated images or videos and measures the agreement with their MOS.

        result = evaluate("runs/mine", df[df.split == "test"], media_root="photos", mos_range=(1, 5))
        result["srcc"], result["rmse_mos"], result.to_pandas()

    Args:
        model: a `Scorer`, a model folder, a run, or a name that `Scorer.from_pretrained` takes.
        data: a labels file, a data set card, `Labels`, a pandas DataFrame, a datasets.Dataset, or a list of dicts; the
            last three may hold PIL images (`q_align.data.from_objects.labels_from`).
        split: rows to take; None: "test" where there is such a split, else every row; "all": every row.
        task: task of labels that name none; None: the one that the model was trained for on this data set, else by the
            kind of file.
        mos_range, higher_is_better: the data set's own scale; None: see docs/evaluation.md.
        media_root: folder of relative paths; default: that of the labels file, or the working directory.
        output: folder for scores.parquet and metrics.json, which `q_align report` reads; None: nothing is written.
        scale: "mos:SOURCE" maps scores to that data set's units for `rmse_mos`; None: the evaluated data set's own.
        cache: folder of cached scores; None: the user's cache folder; False: no cache. A `Scorer` is never cached.
        resamples, seed: of the bootstrap.
        loading: options of `Scorer.from_pretrained` (device, dtype, batch_size, ...).

    Raises:
        ConfigError, LabelError, MediaError: for arguments, labels or items that cannot be used.
    """
    settings = EvaluationSettings(
        split=split,
        task=task,
        mos_range=mos_range,
        higher_is_better=higher_is_better,
        scale=scale,
        loading=loading,
        cache=cache,
        resamples=resamples,
        seed=seed,
    )
    if not isinstance(model, (str, Path)) and isinstance(model, os.PathLike):
        model = Path(model)  # what a training run returns
    roots = None if media_root is None else [media_root]
    (result,) = evaluate_models([model], [data], output, media_roots=roots, settings=settings)
    return result


def compare(first: Evaluation, second: Evaluation, *, resamples: int = 2000, seed: int = 0) -> dict[str, Any]:
    """Significance of the differences between two results on the same data set.

    Args:
        first, second: results of `evaluate`; items are matched by id, task and number of occurrence.
        resamples, seed: of the paired bootstrap.

    Returns:
        models, n, unit, and under "srcc", "plcc", "rmse_raw" and "level_accuracy" the two values, their difference, its
        95% interval and p-values, as `q_align.metrics.compare_scores` gives them.

    Raises:
        ConfigError: when the two were evaluated on different MOS.
    """
    names = [first.model, second.model] if first.model != second.model else ["first", "second"]
    sides = [comparison_columns(first), comparison_columns(second)]
    mos, scores, content, correct = align_results(dict(zip(names, sides)), [first.scheme, second.scheme])
    if not same_mos(sides):
        raise ConfigError(
            f"{first.data}: the two results have different MOS (ranges {first['mos_range']} and "
            f"{second['mos_range']}); evaluate both with one mos_range"
        )
    (record,) = compare_scores(mos, scores, content, correct=correct, resamples=resamples, seed=seed)
    return record


def align_results(
    results: Mapping[str, Mapping[str, np.ndarray]], schemes: Sequence[LevelScheme]
) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray | None, dict[str, np.ndarray] | None]:
    """MOS and content of the first result, and every model's scores in its order.

    Args:
        results: model -> columns id, task, value, mos, content, probs.
        schemes: the levels of each model.

    Returns:
        mos (N,), scores {model: (N,)} with NaN where an item is missing, content (N,) or None, and correct
        {model: (N,)}: whether the most probable level is that of the MOS; None where a model has no levels.
    """
    first = next(iter(results.values()))
    keys = _keys(first)
    place = {key: i for i, key in enumerate(keys)}
    scores, correct = {}, {}
    for (name, columns), scheme in zip(results.items(), schemes, strict=True):
        value, hit = np.full(len(keys), np.nan), np.zeros(len(keys))
        rows, spots = [], []
        for row, key in enumerate(_keys(columns)):
            if key in place:
                rows.append(row)
                spots.append(place[key])
        value[spots] = columns["value"][rows]
        probs = columns["probs"][rows]
        known = np.isfinite(probs).all(axis=1)
        level = np.where(known, np.argmax(np.where(known[:, None], probs, 0), axis=1), -1)
        hit[spots] = level == scheme.hard(np.nan_to_num(columns["mos"][rows], nan=scheme.low))
        scores[name], correct[name] = value, hit
    content = first["content"]
    contents = None if all(c is None for c in content) else content.astype(str)
    levels = all(np.isfinite(columns["probs"]).any() for columns in results.values())
    return first["mos"], scores, contents, correct if levels else None


def same_mos(results: Sequence[Mapping[str, np.ndarray]]) -> bool:
    """Whether all results give the items that they share the same MOS on the level scale."""
    first = dict(zip(_keys(results[0]), results[0]["mos"]))
    return all(
        abs(first.get(key, mos) - mos) <= 1e-9 * max(1.0, abs(mos))
        for columns in results[1:]
        for key, mos in zip(_keys(columns), columns["mos"])
        if np.isfinite(mos)
    )


def comparison_columns(result: Evaluation) -> dict[str, np.ndarray]:
    """The columns that `align_results` takes."""
    return {name: result.column(name) for name in ("id", "task", "value", "mos", "content", "probs")}


def _keys(columns: Mapping[str, np.ndarray]) -> list[tuple[str, str, int]]:
    seen: dict[tuple[str, str], int] = {}
    keys = []
    for name, task in zip(columns["id"], columns["task"]):
        count = seen[name, task] = seen.get((name, task), -1) + 1
        keys.append((name, task, count))
    return keys

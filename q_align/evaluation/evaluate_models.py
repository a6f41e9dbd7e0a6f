"""Evaluates several models on several test sets: scores, metrics and a cross-dataset matrix.

Each item is scored once per model, however many test sets it is in. An item that fails is a row with its error. All
models are judged on one ground truth per test set.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from q_align.data.dataset_card import SOURCES
from q_align.errors import CheckpointError, ConfigError
from q_align.evaluation.environment import environment
from q_align.evaluation.matrix import write_matrix
from q_align.evaluation.record import Evaluation
from q_align.evaluation.results import METRICS_FILE, distinct_names, level_targets, make_scores_table, metric_inputs
from q_align.evaluation.score_sets import open_cache, requests_of, score_sets
from q_align.evaluation.settings import EvaluationSettings
from q_align.evaluation.test_sets import GroundTruth, TestSet, ground_truth, on_levels, open_test_set, training_rows
from q_align.log import log
from q_align.metrics import compute_metrics
from q_align.metrics.correlation import finite_pairs, rmse
from q_align.models.card import ModelCard
from q_align.score.scale import LEVEL, Scale, find_scale, range_scale
from q_align.score.write_lock import locked_output


def evaluate_models(
    models: Sequence[Any] | Mapping[str, Any],
    data: Sequence[Any],
    output: str | Path | None = None,
    *,
    media_roots: Sequence[str | Path] | None = None,
    settings: EvaluationSettings | None = None,
) -> list[Evaluation]:
    """Scores every test set with every model.

    Args:
        models: model folders, names that `Scorer.from_pretrained` takes, or scorers; a mapping gives them short names.
        data: data set cards, labels files, "card=labels", or labels in memory (`labels_from`).
        output: folder of the results: its top for one pair, else one folder `model/set` per pair, and `matrix.*`. None:
            nothing is written.
        media_roots: none, one for all data sets, or one for each.
        settings: see `EvaluationSettings`.

    Returns:
        One result per pair, model by model.

    Raises:
        ConfigError: when arguments contradict each other, or `output` holds other results or is being written.
        LabelError, MediaError: when labels or all items of a set are missing; before anything is scored.
    """
    settings = settings or EvaluationSettings()
    if settings.scale not in (None, LEVEL) and not str(settings.scale).startswith("mos:"):
        raise ConfigError(f"--scale {settings.scale}: evaluate takes mos:SOURCE, or level to leave the MOS units out")
    named = dict(models) if isinstance(models, Mapping) else dict(zip(_model_names(models), models, strict=True))
    with locked_output(output):
        # cards and labels are opened before the first model loads: mistakes show at once
        cards = {name: _card_of(model, settings) for name, model in named.items()}
        tests = [open_test_set(entry, root, settings, cards) for entry, root in zip(data, _roots(data, media_roots))]
        set_names = distinct_names([test.labels.source for test in tests])
        folders = _folders(named, tests, set_names, output)
        truths = [ground_truth(test, cards, settings) for test in tests]
        scales = {
            name: [_scale(card, test, truth, settings) for test, truth in zip(tests, truths)]
            for name, card in cards.items()
        }
        results = []
        for name, model in named.items():
            began = time.perf_counter()
            scorer = _on_levels(model) if _is_scorer(model) else _load(model, settings)
            scheme = scorer.card.levels
            sets = [on_levels(test.labels, truth, scheme) for test, truth in zip(tests, truths)]
            scores, timing = score_sets(scorer, sets, open_cache(model, scorer, settings))
            timing["load_s"] = time.perf_counter() - began - timing["score_s"]
            about = {
                "model": _text(model, name),
                "model_name": name,
                "trained_on": [entry.get("source") for entry in scorer.card.trained_on],
                "levels_scheme": {"words": scheme.words, "values": scheme.values},
                "environment": environment(scorer),
                "settings": _settings(scorer, settings),
                "timing": timing,
            }
            for i, (test, truth, labels, rows) in enumerate(zip(tests, truths, sets, scores)):
                table = make_scores_table(labels, rows, scales[name][i])
                metrics = compute_metrics(
                    **metric_inputs(table, scheme),
                    target=level_targets(labels, scheme),
                    scheme=scheme,
                    resamples=settings.resamples,
                    seed=settings.seed,
                )
                shown = set_names[i] if len(named) == 1 else f"{name} on {set_names[i]}"
                result = Evaluation(shown, name, set_names[i], metrics, table, scheme)
                metrics |= about | _about_data(test, truth, result, settings)
                metrics |= _in_mos_units(result, scales[name][i], settings)
                metrics["training_rows"] = training_rows(test, scorer.card, settings)
                metrics["questions"] = len({request.question for request in requests_of(labels)} - {None})
                metrics["errors"] = [row["error"] for row in rows if row.get("error")][:20]
                if metrics["training_rows"]:
                    log.warning(
                        "%s: %s was trained on this data set; %d of %d rows are not a test of it",
                        labels.source,
                        name,
                        metrics["training_rows"],
                        len(labels),
                    )
                if folders:
                    result.save(folders[name, set_names[i]])
                results.append(result)
            del scorer  # its memory is the next model's
        if output is not None and len(results) > 1:
            write_matrix([result.metrics for result in results], Path(output))
        return results


def _scale(card: ModelCard, test: TestSet, truth: GroundTruth, settings: EvaluationSettings) -> Scale | None:
    """The map from the model's scores to the units of the test set's MOS."""
    source = test.labels.source
    if settings.scale == LEVEL:
        return None
    if settings.scale is not None:
        return find_scale(settings.scale, card)
    if source in card.calibration:
        return find_scale(f"mos:{source}", card)
    return range_scale(source, card, truth.mos_range, higher_is_better=truth.higher_is_better)


def _in_mos_units(result: Evaluation, scale: Scale | None, settings: EvaluationSettings) -> dict[str, Any]:
    """RMSE and mean absolute error in units of the data set's own MOS, and what the scores were mapped by."""
    if scale is None:
        return {}
    mos, value, _ = finite_pairs(result.column("raw_mos"), result.column("value_mos"))
    gap = float(abs(mos - value).mean()) if len(mos) else float("nan")
    fitted_on = scale.record.get("split") if scale.origin == "calibration" else None
    if fitted_on is not None and fitted_on in {*result.column("split"), *({"all"} if settings.split is None else ())}:
        log.warning("%s: %s was fitted on rows that are evaluated (split %s)", result.data, scale.name, fitted_on)
    about = {"name": scale.name, "origin": scale.origin, "kind": scale.record["kind"], "fitted_on": fitted_on}
    return {"rmse_mos": rmse(mos, value), "mae_mos": gap, "mos_scale": about}


def _about_data(test: TestSet, truth: GroundTruth, result: Evaluation, settings: EvaluationSettings) -> dict[str, Any]:
    labels, card = test.labels, test.card
    report = {key: value for key, value in labels.report.items() if not isinstance(value, (list, dict))}
    names = labels.column("media").tolist()
    about: dict[str, Any] = {
        "data": test.text,
        "data_name": result.data,
        "title": card.title if card else result.data,
        "split": settings.split,
        "task": truth.task or labels.task,
        "task_from": truth.task_from,
        "mos_range": truth.mos_range,
        "mos_range_from": truth.range_from,
        "higher_is_better": truth.higher_is_better,
        "labels_report": report,
        "duplicates": len(names) - len(set(names)),
    }
    if card is not None:
        part = card.part(settings.split or "test") if test.file is None else None
        rows = [row for row in card.published if part is None or row.split == part]
        about["card"] = {"cite": card.cite, "url": card.url, "part": part}
        about["published"] = [
            {"model": r.model, "trained_on": r.trained_on, "srcc": r.srcc, "plcc": r.plcc, "source": SOURCES[r.source]}
            for r in rows
        ]
    return about


def _settings(scorer: Any, settings: EvaluationSettings) -> dict[str, Any]:
    given = {key: value for key, value in settings.loading.items() if isinstance(value, (str, int, float, type(None)))}
    dtype = str(getattr(scorer, "dtype", "float32")).removeprefix("torch.")
    return {**given, "dtype": dtype, "seed": settings.seed}


def _model_names(models: Sequence[Any]) -> list[str]:
    return distinct_names([m.card.family if _is_scorer(m) else str(m) for m in models]) if models else []


def _text(model: Any, name: str) -> str:
    return name if _is_scorer(model) else str(model)


def _is_scorer(model: Any) -> bool:
    return hasattr(model, "stream") and hasattr(model, "card")


def _on_levels(scorer: Any) -> Any:
    """The scorer with scores on the level scale, on which it is compared with the MOS."""
    if getattr(scorer, "scale", None) is None or scorer.scale.identity:
        return scorer
    scorer = copy.copy(scorer)  # shares the model; the caller's keeps its scale
    scorer.scale = Scale(LEVEL)
    return scorer


def _load(model: Any, settings: EvaluationSettings) -> Any:
    from q_align.score.scorer import Scorer

    return Scorer.from_pretrained(model, **settings.loading)


def _card_of(model: Any, settings: EvaluationSettings) -> ModelCard:
    from q_align.models.backbone import read_card

    if _is_scorer(model):
        return model.card
    try:
        return read_card(model)
    except CheckpointError:  # not downloaded yet, or no model: loading downloads it or raises
        return _load(model, settings).card


def _folders(
    named: Mapping[str, Any], tests: Sequence[TestSet], set_names: Sequence[str], output: str | Path | None
) -> dict[tuple[str, str], Path]:
    """A folder for each pair; refuses those that hold the results of something else."""
    if output is None:
        return {}
    alone = len(named) == 1 and len(tests) == 1
    if not alone and (Path(output) / METRICS_FILE).is_file():
        raise ConfigError(f"{output}: holds the results of one model on one set; choose another --output for several")
    folders = {}
    for name, model in named.items():
        for test, set_name in zip(tests, set_names):
            folder = Path(output) if alone else Path(output) / name / set_name
            _check_folder(folder, {"model": _text(model, name), "data": test.text})
            folders[name, set_name] = folder
    return folders


def _check_folder(folder: Path, ours: dict[str, str]) -> None:
    path = folder / METRICS_FILE
    if not path.is_file():
        return
    try:
        theirs = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}: not valid JSON ({error}); choose another --output") from error
    for key, value in ours.items():
        if theirs.get(key) != value:
            raise ConfigError(
                f"{folder}: holds the results of {key} {theirs.get(key)}, not {value}; choose another --output"
            )


def _roots(data: Sequence[Any], roots: Sequence[str | Path] | None) -> list[str | Path | None]:
    if not roots:
        return [None] * len(data)
    if len(roots) == 1:
        return [roots[0]] * len(data)
    if len(roots) != len(data):
        raise ConfigError(f"--media-root takes one folder or one per data set; got {len(roots)} for {len(data)} sets")
    return list(roots)

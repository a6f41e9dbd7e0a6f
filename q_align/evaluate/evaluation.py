"""Evaluation, from models and data sets to scores, measures and a cross-dataset matrix on disk.

Every medium is scored once per model, however many data sets it is in; kept scores are not computed again. An item
that fails is a row with its error and counts as failed. Knows no plots and no command line.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from q_align.data.dataset_card import SOURCES
from q_align.data.labels import Labels, LevelLabels
from q_align.data.media_files import check_media
from q_align.data.mos_range import log_range
from q_align.data.open_dataset import open_for_test, parse_spec
from q_align.errors import ConfigError
from q_align.evaluate.environment import environment
from q_align.evaluate.matrix import write_matrix
from q_align.evaluate.metrics import summary
from q_align.evaluate.model_scores import Settings, load_scorer, open_cache, score_sets, taught_by
from q_align.evaluate.report.collect import short_names
from q_align.evaluate.results import arrays, make_table, targets, write_json, write_scores
from q_align.log import log
from q_align.models.card import ModelCard

if TYPE_CHECKING:
    from q_align.score.scorer import Scorer

METRICS = "metrics.json"


@dataclass(slots=True)
class Result:
    """One model on one data set: its name, its folder, and what metrics.json holds."""

    name: str
    folder: Path
    metrics: dict[str, Any]

    def line(self) -> str:
        m = self.metrics
        shown = [f"{key} {m[key]:.4f}" for key in ("srcc", "plcc", "plcc_logistic", "krcc", "rmse") if _known(m[key])]
        low, high = m["srcc_ci"]
        interval = f" (srcc 95%: {low:.4f} .. {high:.4f})" if _known(low) else ""
        return f"{self.name}: n {m['n']}, failed {m['failed']}, {', '.join(shown) or 'no measure'}{interval}"


def evaluate(
    models: Sequence[str],
    data: Sequence[str],
    output: str | Path,
    *,
    media_roots: Sequence[str] | None = None,
    settings: Settings | None = None,
    load: Callable[..., Scorer] | None = None,
) -> list[Result]:
    """Scores every data set with every model.

    Args:
        models: model folders, or names that `Backbone.from_pretrained` takes.
        data: dataset cards, labels files, or "card=labels".
        output: folder of the results: its top for one pair, else one folder `model/set` per pair, and `matrix.*`.
        media_roots: none, one for all data sets, or one for each.
        settings: see `Settings`.
        load: makes a scorer of a model name; default `Scorer.from_pretrained` (tests pass their own).

    Raises:
        ConfigError: when arguments contradict each other, or `output` holds the results of something else.
        LabelError, MediaError: when labels or all media of a set are missing; before anything is scored.
    """
    settings = settings or Settings()
    roots = _roots(data, media_roots)
    # every set is opened before the first model loads: mistakes show at once
    sets = [_open(name, root, settings) for name, root in zip(data, roots)]
    cards = [parse_spec(name).card for name in data]
    for labels, card in zip(sets, cards):
        if settings.split is None and set(labels.column("split")) == {"test"}:
            log.info("%s: taking the rows of split 'test' (--split all takes every row)", labels.source)
        check_media(labels, card)
    model_names, set_names = short_names(models), short_names([labels.source for labels in sets])
    alone = len(models) == 1 and len(data) == 1
    folders = {
        (m, d): Path(output) if alone else Path(output) / m / d for m in model_names for d in set_names
    }  # fmt: skip
    if not alone and (Path(output) / METRICS).is_file():
        raise ConfigError(f"{output}: holds the results of one model on one set; choose another --output for several")
    for (m, d), folder in folders.items():
        _claim(folder, {"model": str(models[model_names.index(m)]), "data": str(data[set_names.index(d)])})
    results = []
    for model, model_name in zip(models, model_names):
        began = time.perf_counter()
        scorer = load_scorer(model, settings, load)
        scheme = scorer.card.levels
        # each model's own: what the one before was taught is nothing to this one
        taught = [_as_taught(labels, scorer.card) for labels in sets]
        for labels, name in zip(taught, data):
            _warn_of_training_rows(labels, name, scorer.card, settings)
        kept = open_cache(model, scorer, settings)
        scores, timing = score_sets(scorer, taught, kept)
        timing["load_s"] = time.perf_counter() - began - timing["score_s"]
        about = {
            "model": str(model),
            "model_name": model_name,
            "trained_on": [entry.get("source") for entry in scorer.card.trained_on],
            "levels_scheme": {"words": scheme.words, "values": scheme.values},
            "environment": environment(scorer),
            "settings": {"dtype": "float32", **settings.loading, "seed": settings.seed},
            "timing": timing,
        }
        for labels, card, name, set_name, rows in zip(taught, cards, data, set_names, scores):
            folder = folders[model_name, set_name]
            table = make_table(labels, rows)
            metrics = summary(
                **arrays(table, scheme),
                target=targets(labels, scheme),
                scheme=scheme,
                resamples=settings.resamples,
                seed=settings.seed,
            )
            record = {**metrics, **about, **_about_data(labels, card, name, set_name, settings)}
            record["errors"] = [row["error"] for row in rows if row.get("error")][:20]
            folder.mkdir(parents=True, exist_ok=True)
            write_scores(table, folder)
            write_json(record, folder / METRICS)
            title = set_name if len(models) == 1 else f"{model_name} on {set_name}"
            results.append(Result(title, folder, record))
        del scorer  # its memory is the next model's
    if not alone:
        write_matrix([result.metrics for result in results], Path(output))
    return results


def _as_taught(labels: Labels, card: ModelCard) -> LevelLabels:
    """On the model's levels; a range and a direction that nobody declared are those of its training."""
    labels = labels.as_trained(taught_by(card).get(labels.source, {}))
    log_range(labels)
    return labels.on(card.levels)


def _warn_of_training_rows(labels: Labels, name: str, card: ModelCard, settings: Settings) -> None:
    if labels.source not in taught_by(card):
        return
    spec = parse_spec(name)
    if spec.labels is None and spec.card is not None:
        parts = {spec.card.part(settings.split or "test")}
    else:
        parts = {str(part) for part in labels.column("split")}
        if parts == {"None"} and "test" in re.split("[^a-z]+", Path(str(spec.labels)).stem.lower()):
            return  # koniq_test.csv beside koniq_train.csv
    if not all(part.startswith("test") for part in parts):
        log.warning("%s: the model was trained on rows of this set; this is not a test", labels.source)


def _open(name: str, root: str | None, settings: Settings) -> Labels:
    return open_for_test(
        name,
        split=settings.split,
        media_root=root,
        labels_root=settings.labels_root,
        mos_range=settings.mos_range,
        higher_is_better=settings.higher_is_better,
        task=settings.task,
    )


def _about_data(labels: Labels, card: Any, name: str, set_name: str, settings: Settings) -> dict[str, Any]:
    report = {key: value for key, value in labels.report.items() if not isinstance(value, (list, dict))}
    about: dict[str, Any] = {
        "data": str(name),
        "data_name": set_name,
        "title": card.title if card else set_name,
        "split": settings.split,
        "task": labels.task,
        "mos_range": labels.mos_range,
        "higher_is_better": labels.higher_is_better,
        "labels_report": report,
        "duplicates": len(labels) - len(set(labels.column("media").tolist())),
    }
    if card is not None:
        part = card.part(settings.split or "test") if parse_spec(name).labels is None else None
        rows = [row for row in card.published if part is None or row.split == part]
        about["card"] = {"cite": card.cite, "url": card.url, "part": part}
        about["published"] = [
            {"model": r.model, "trained_on": r.trained_on, "srcc": r.srcc, "plcc": r.plcc, "source": SOURCES[r.source]}
            for r in rows
        ]
    return about


def _roots(data: Sequence[str], roots: Sequence[str] | None) -> list[str | None]:
    if not roots:
        return [None] * len(data)
    if len(roots) == 1:
        return [roots[0]] * len(data)
    if len(roots) != len(data):
        raise ConfigError(f"--media-root takes one folder or one per data set; got {len(roots)} for {len(data)} sets")
    return list(roots)


def _claim(folder: Path, ours: dict[str, str]) -> None:
    path = folder / METRICS
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


def _known(value: Any) -> bool:
    return value is not None and math.isfinite(value)


__all__ = ["METRICS", "Result", "Settings", "evaluate", "write_json"]

"""Test sets: labels to evaluate on, and one ground truth (MOS range, direction, task) for all models of a call."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from q_align.data.dataset_card import DatasetCard
from q_align.data.from_objects import SOURCE, labels_from
from q_align.data.labels import TRAINING, Labels, LevelLabels
from q_align.data.media_files import check_media
from q_align.data.open_dataset import open_for_test, parse_spec
from q_align.errors import ConfigError
from q_align.evaluation.settings import EvaluationSettings
from q_align.levels import LevelScheme
from q_align.log import log
from q_align.models.card import ModelCard


@dataclass(frozen=True, slots=True)
class TestSet:
    """Labels with what `--data` named: the text, the data set card and whether a labels file was given."""

    __test__ = False  # not a test of pytest

    labels: Labels
    text: str
    card: DatasetCard | None = None
    file: Path | None = None


@dataclass(frozen=True, slots=True)
class GroundTruth:
    """What the MOS of a test set mean, and where each fact comes from."""

    mos_range: tuple[float, float]
    range_from: str
    higher_is_better: bool
    task: str | None  # None: as the labels have it
    task_from: str


def open_test_set(
    data: Any, media_root: str | Path | None, settings: EvaluationSettings, cards: Mapping[str, ModelCard]
) -> TestSet:
    """Opens labels of any kind: a card, a labels file, `Labels`, a DataFrame, a datasets.Dataset, a list of dicts.

    Raises:
        ConfigError, LabelError, MediaError: when it is none of them, or labels or all items are missing.
    """
    declared: dict[str, Any] = {
        "mos_range": settings.mos_range,
        "higher_is_better": settings.higher_is_better,
        "task": settings.task,
    }
    spec, text = None, "data"
    if isinstance(data, (str, Path)):
        text, spec = str(data), parse_spec(data)
        roots = {"media_root": media_root, "labels_root": settings.labels_root}
        # range and direction are decided and logged by `ground_truth`, for all models together
        labels = open_for_test(data, split=settings.split, **roots, **declared)
    else:
        if not isinstance(data, Labels):
            data = labels_from(data, media_root=media_root, **declared)
        labels, text = _rows(data, settings.split), data.source
    if settings.split is None and set(labels.column("split")) == {"test"}:
        log.info("%s: evaluating the rows of split 'test' (--split all takes every row)", labels.source)
    if not (settings.loading.get("limits") is not None and settings.loading["limits"].allow_urls):
        addresses = sum("://" in name for name in labels.column("media"))
        if addresses:
            raise ConfigError(f"{text}: {addresses} items are web addresses; --allow-urls fetches them")
    check_media(labels, spec.card if spec else None, urls=True)  # refused above unless they are allowed
    return TestSet(labels, text, spec.card if spec else None, spec.labels if spec else None)


def ground_truth(test: TestSet, cards: Mapping[str, ModelCard], settings: EvaluationSettings) -> GroundTruth:
    """One MOS range, one direction and one task for a test set, whatever the number of models.

    Each is what is declared (option, data set card, labels); else what the models were trained with on this data set;
    else what the labels suggest. Where trained ranges differ, the first model that has one decides, with a warning.

    Args:
        test: the test set.
        cards: model name -> card.
        settings: what is declared.

    Raises:
        ConfigError: when the models were trained with different tasks or directions, and none is declared.
    """
    trained = {name: records for name, card in cards.items() if (records := training_records(card, test.labels.source))}
    mos_range, range_from = _range(test, trained, settings)
    task, task_from = _task(test, trained, settings)
    better = _direction(test, trained, settings)
    source = test.labels.source
    if range_from not in ("declared", "the votes"):
        low, high = mos_range
        log.info("%s: MOS range %g to %g, taken from %s (--mos-range declares another)", source, low, high, range_from)
    if better != test.labels.higher_is_better or test.labels.report.get("direction_from", "declared") != "declared":
        word = "higher" if better else "lower"
        log.info("%s: %s is better (--lower-is-better or --no-lower-is-better declares it)", source, word)
    if task is not None:
        log.info("%s: task %s, taken from %s (--task declares another)", source, task, task_from)
    return GroundTruth(mos_range, range_from, better, task, task_from)


def training_records(card: ModelCard, source: str) -> list[dict[str, Any]]:
    """The card's records of the model's training on this data set, one per task."""
    return [entry for entry in card.trained_on if str(entry.get("source")) == source]


def training_rows(test: TestSet, card: ModelCard, settings: EvaluationSettings) -> int:
    """Number of rows that the model may have been trained or validated on: they are no test.

    A data set is known by its name. Its rows are no test unless their split, the card's part, or the name of the
    labels file says that they are.
    """
    labels = test.labels
    if not training_records(card, labels.source):
        return 0
    splits = labels.column("split")
    if labels.has("split"):
        return sum(not str(split).startswith("test") for split in splits)
    if test.card is not None and test.file is None:
        return 0 if test.card.part(settings.split or "test").startswith("test") else len(labels)
    if _is_unnamed(test):
        return 0  # a table without a name: another part of the same frame, most often
    named = test.file is not None and "test" in re.split("[^a-z]+", test.file.stem.lower())
    return 0 if named else len(labels)  # koniq_test.csv beside koniq_train.csv


def on_levels(labels: Labels, truth: GroundTruth, scheme: LevelScheme) -> LevelLabels:
    """The labels with MOS, std and votes on these levels, by this range, direction and task."""
    labels = replace(labels.with_range(truth.mos_range), higher_is_better=truth.higher_is_better)
    if truth.task is not None:
        tasks = pa.array([truth.task] * len(labels), pa.large_string())
        place = labels.table.column_names.index("task")
        labels = replace(labels, table=labels.table.set_column(place, "task", tasks))
    return labels.on(scheme)


def _range(
    test: TestSet, trained: Mapping[str, list[dict[str, Any]]], settings: EvaluationSettings
) -> tuple[tuple[float, float], str]:
    labels = test.labels
    origin = str(labels.report.get("range_from", "declared"))
    if settings.mos_range is not None:
        return labels.mos_range, "declared"
    if origin in ("declared", TRAINING):
        return labels.mos_range, f"the card of {test.card.name}" if test.card is not None else "declared"
    ranges = {
        name: (float(low), float(high))
        for name, records in trained.items()
        for low, high in [entry["mos_range"] for entry in records if entry.get("mos_range")][-1:]
    }
    if _is_unnamed(test):  # a table without a name: perhaps not the one that the models were trained on
        raw = labels.column("raw_mos")
        ranges = {name: ends for name, ends in ranges.items() if ends[0] <= raw.min() and raw.max() <= ends[1]}
    if not ranges:
        return labels.mos_range, "the votes" if origin == "votes" else f"the MOS of {origin}"
    first = next(iter(ranges))
    if len(set(ranges.values())) > 1:
        shown = ", ".join(f"{name} {low:g} to {high:g}" for name, (low, high) in ranges.items())
        log.warning(
            "%s: the models were trained with different MOS ranges (%s); all are evaluated with that of %s",
            labels.source,
            shown,
            first,
        )
    return ranges[first], f"the training of {first}"


def _direction(test: TestSet, trained: Mapping[str, list[dict[str, Any]]], settings: EvaluationSettings) -> bool:
    labels = test.labels
    if settings.higher_is_better is not None or test.card is not None:
        return labels.higher_is_better
    known = {
        name: entry["higher_is_better"] for name, r in trained.items() for entry in r if "higher_is_better" in entry
    }
    if len(set(known.values())) > 1:
        shown = ", ".join(f"{name}: {'higher' if better else 'lower'}" for name, better in known.items())
        raise ConfigError(
            f"{labels.source}: the models were trained with different directions of the MOS ({shown} is better); "
            f"declare it with --lower-is-better or --no-lower-is-better"
        )
    return next(iter(known.values()), labels.higher_is_better)


def _task(
    test: TestSet, trained: Mapping[str, list[dict[str, Any]]], settings: EvaluationSettings
) -> tuple[str | None, str]:
    """The task of a set whose labels name none: the one that the models were trained for."""
    labels = test.labels
    origin = str(labels.report.get("task_from", "column"))
    if settings.task is not None or origin != "kind of file":
        return None, origin if settings.task is None else "declared"
    tasks = {name: {str(e["task"]) for e in records if e.get("task")} for name, records in trained.items()}
    tasks = {name: found for name, found in tasks.items() if found}
    if not tasks or all(set(labels.tasks) <= found for found in tasks.values()):
        return None, origin
    every = set().union(*tasks.values())
    if len(every) > 1:
        shown = ", ".join(f"{name}: {' and '.join(sorted(found))}" for name, found in tasks.items())
        raise ConfigError(
            f"{labels.source}: the models were trained on it with different tasks ({shown}) and the labels name none; "
            f"choose one with --task, or add a column task to the labels"
        )
    return every.pop(), f"the training of {next(iter(tasks))}"


def _is_unnamed(test: TestSet) -> bool:
    """Whether the labels are a table in memory that nobody named."""
    return test.file is None and test.card is None and test.labels.source == SOURCE


def _rows(labels: Labels, split: str | None) -> Labels:
    if split is None:
        return labels.split("test") if "test" in set(labels.column("split")) else labels
    return labels if split == "all" else labels.split(split)

"""The card of the model that a run makes: what it is trained on, and from what it started."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from q_align.config.schema import RunConfig
from q_align.data.labels import Labels
from q_align.data.questions import question_kind
from q_align.models.backbone import locate
from q_align.models.card import ModelCard
from q_align.models.model_page import stated_licence

# What a fine-tuned model's card keeps of the remarks on its base.
LASTING = ("licence", "paper", "authors", "code")


def trained_card(card: ModelCard, sets: Sequence[Labels], config: RunConfig) -> ModelCard:
    """The base's card, with what this run trains on.

    Args:
        card: of the base, with what the configuration sets.
        sets: training rows.
        config: of the run.
    """
    fresh = config.model.init == "random"
    records: list[dict[str, Any]] = [
        {
            "source": labels.source,
            "task": str(task),
            "rows": int((labels.column("task") == task).sum()),
            "mos_range": list(labels.mos_range),
            "higher_is_better": labels.higher_is_better,
        }
        for labels in sets
        for task in np.unique(labels.column("task"))
    ]
    tasks = {record["task"] for record in records}
    about = {} if fresh else {key: value for key, value in card.about.items() if key in LASTING}
    stated = None if fresh or "licence" in about else stated_licence(locate(config.model.path))
    about |= {"licence": stated} if stated else {}
    sources = ", ".join(dict.fromkeys(record["source"] for record in records))
    questions = dict(card.questions)
    for labels in sets:
        questions |= question_kind(labels).of_task  # the one question of a task is asked when scoring, too
    return dataclasses.replace(
        card,
        questions=questions,
        tasks=tuple(sorted(tasks | set(() if fresh else card.tasks))),
        trained_on=[*([] if fresh else card.trained_on), *records],
        base=_home(config.model.path),
        validation={},
        calibration={},
        about=about | {"name": Path(config.train.output_dir).name, "data": f"trained with q_align on {sources}"},
    )


def _home(path: str) -> str:
    """Path of a base, for adapters that are loaded from another folder than the one they were trained in."""
    return str(Path(path).resolve()) if Path(path).is_dir() else path

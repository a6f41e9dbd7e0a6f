"""Fits a model's scores to a data set's own MOS on a validation split, and stores the fit in the model's card.

`--scale mos:SOURCE` applies the fit.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from q_align.errors import CheckpointError, LabelError, QAlignError
from q_align.evaluation.calibration import Kind, fit_calibration
from q_align.evaluation.score_sets import requests_of
from q_align.evaluation.settings import EvaluationSettings
from q_align.evaluation.test_sets import ground_truth, on_levels, open_test_set
from q_align.log import log
from q_align.models.card import ModelCard
from q_align.models.model_page import save_card
from q_align.score.scorer import Scorer
from q_align.types import Item


def calibrate_model(
    model: str | Path,
    data: Any,
    *,
    media_root: str | None = None,
    split: str = "val",
    kind: Kind = "logistic",
    mos_range: tuple[float, float] | None = None,
    higher_is_better: bool | None = None,
    task: str | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Scores the split, fits, and writes the fit into `q_align.json` under the data set's name.

    Args:
        model: a model folder that may be written to.
        data: a data set card, a labels file, or labels in memory (see `evaluate`).
        media_root: folder of relative paths.
        split: rows to fit on ("all": every row); not the ones that results are reported on.
        kind: see `q_align.evaluation.calibration.fit_calibration`.
        mos_range, higher_is_better, task: of the data set; default: as in an evaluation of this model.
        options: forwarded whole to `Scorer.from_pretrained` (device, batch_size, workers).

    Returns:
        The record, with `source`, `split`, `mos_range`, and `failed`, the number of items without a score.

    Raises:
        CheckpointError: when `model` is not a folder that can be written to.
        LabelError: when the split is empty.
        QAlignError: when there is nothing to fit.
    """
    folder = Path(model)
    if not folder.is_dir():
        raise CheckpointError(
            f"{model}: no model folder, and a calibration is stored in one; run `q-align export {model} --output "
            f"my_{folder.name}` and calibrate that"
        )
    card = ModelCard.load(folder)
    settings = EvaluationSettings(
        split=split, mos_range=mos_range, higher_is_better=higher_is_better, task=task, loading=options
    )
    try:
        test = open_test_set(data, media_root, settings, {folder.name: card})
    except LabelError as error:
        if "is empty; " not in str(error):
            raise
        raise LabelError(
            f"{error}; name another with --split (all: every row), not the rows that you report on"
        ) from error
    truth = ground_truth(test, {folder.name: card}, settings)
    labels = on_levels(test.labels, truth, card.levels)
    scorer = Scorer.from_pretrained(folder, **options)
    items = [Item(r.media, r.media, r.task, r.question) for r in requests_of(labels)]
    scores = list(scorer.stream(items))
    failed = [score for score in scores if score.error]
    if failed:
        log.warning("%d of %d items have no score (first: %s)", len(failed), len(scores), failed[0].error)
    value = np.array([np.nan if score.value is None else score.value for score in scores])
    try:
        record = fit_calibration(value, labels.column("raw_mos"), kind=kind, higher_is_better=labels.higher_is_better)
    except QAlignError as error:
        raise type(error)(f"{labels.source}, split {split}: {error}") from error
    card.calibration[labels.source] = record | {"split": split}
    save_card(card, folder)
    found = {"source": labels.source, "split": split, "failed": len(failed), "mos_range": labels.mos_range}
    return record | found

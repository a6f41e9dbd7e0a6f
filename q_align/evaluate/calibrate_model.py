"""Fits a model's scores to a data set's own MOS on a validation split, and stores the fit in the model's card.

Knows a model folder, labels and the fit (`q_align.evaluate.calibration`); the fit is what `--scale mos:SOURCE` applies.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from q_align.data.mos_range import log_range
from q_align.data.open_dataset import open_dataset
from q_align.errors import CheckpointError, LabelError, QAlignError
from q_align.evaluate.calibration import Kind, fit
from q_align.evaluate.model_scores import taught_by
from q_align.log import log
from q_align.models.card import ModelCard
from q_align.score.scorer import Scorer
from q_align.types import Item


def calibrate(
    model: str | Path,
    data: str,
    *,
    media_root: str | None = None,
    split: str = "val",
    kind: Kind = "logistic",
    mos_range: tuple[float, float] | None = None,
    higher_is_better: bool | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Scores the split, fits, and writes the fit into `q_align.json` under the data set's name.

    Args:
        model: a model folder that may be written to.
        data: a dataset card or a labels file.
        media_root: folder of the media.
        split: rows to fit on ("all": every row); not the ones that results are reported on.
        kind: see `q_align.evaluate.calibration.fit`.
        mos_range, higher_is_better: of the data set; default: as the model was taught, else as `read_labels` says.
        options: forwarded whole to `Scorer.from_pretrained` (device, batch_size, workers).

    Returns:
        The record, with `source`, `split`, and `failed`, the number of media without a score.

    Raises:
        CheckpointError: when `model` is not a folder that can be written to.
        LabelError: when the split is empty.
        QAlignError: when there is nothing to fit.
    """
    folder = Path(model)
    if not folder.is_dir():
        raise CheckpointError(f"{model}: not a model folder; a fit is stored in its q_align.json, so save a copy first")
    card = ModelCard.load(folder)
    labels = open_dataset(
        data,
        media_root=media_root,
        mos_range=mos_range,
        higher_is_better=higher_is_better,
    )
    labels = labels.as_trained(taught_by(card).get(labels.source, {}))
    log_range(labels)
    try:
        labels = labels if split == "all" else labels.split(split)
    except LabelError as error:
        raise LabelError(
            f"{error}; name another with --split (all: every row); not the rows that you report on"
        ) from error
    scorer = Scorer.from_pretrained(folder, **options)
    items = [Item(i, m, t) for i, m, t in zip(*(labels.column(name) for name in ("id", "media", "task")))]
    scores = list(scorer.stream(items))
    failed = [score for score in scores if score.error]
    if failed:
        log.warning("%d of %d media have no score (first: %s)", len(failed), len(scores), failed[0].error)
    value = np.array([np.nan if score.value is None else score.value for score in scores])
    try:
        record = fit(value, labels.column("raw_mos"), kind=kind, higher_is_better=labels.higher_is_better)
    except QAlignError as error:
        raise type(error)(f"{labels.source}, split {split}: {error}") from error
    card.calibration[labels.source] = record | {"split": split}
    card.save(folder)
    return record | {"source": labels.source, "split": split, "failed": len(failed)}

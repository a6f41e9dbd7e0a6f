"""Averages models, evaluates the mean beside its ingredients, and only then puts it in place."""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from q_align.data.labels import LevelLabels
from q_align.log import log
from q_align.models.card import ModelCard
from q_align.models.model_page import save_card
from q_align.train.averaging import average
from q_align.train.ingredients import Ingredient, mean_srcc


def publish_mean(
    ingredients: Sequence[Ingredient], output: Path, sets: Sequence[LevelLabels], *, score_all: bool, **loading: Any
) -> list[tuple[str, float | None]]:
    """Writes the mean of the ingredients to `output`.

    Args:
        ingredients: models of one kind.
        output: a new folder; it appears when the mean is complete and evaluated.
        sets: rows to evaluate on; without any, the mean is written unevaluated, with a warning.
        score_all: evaluate the ingredients as well, instead of taking what their training recorded.
        loading: of the scorer.

    Returns:
        Name and SRCC of every ingredient, then of the mean; None where it was not evaluated.
    """
    staged = output.with_name(f".{output.name}.partial")
    shutil.rmtree(staged, ignore_errors=True)
    try:
        average([one.folder for one in ingredients], staged)
        results: list[tuple[str, float | None]] = [
            (str(one.folder), mean_srcc(one.folder, sets, **loading) if score_all else one.srcc) for one in ingredients
        ]
        if sets:
            mean = mean_srcc(staged, sets, **loading)
            found: float | None = mean
            measured = {"n": float(sum(map(len, sets))), "srcc": mean} if math.isfinite(mean) else {}
            save_card(dataclasses.replace(ModelCard.load(staged), validation=measured), staged)
        else:
            found = None
            log.warning("the runs have no validation rows, so the mean is not evaluated; --data names rows")
        if output.is_dir():
            output.rmdir()
        staged.replace(output)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return [*results, (f"mean of {len(ingredients)}", found)]

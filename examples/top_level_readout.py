"""A readout of your own: level words as in Q-Align, but the score is the most probable level instead of the mean.

export PYTHONPATH=examples Q_ALIGN_PLUGINS=top_level_readout
q-align train --config nano --data.train labels.csv --train.output_dir runs/top --readout.kind top_level
q-align score --model runs/top photo.jpg
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from torch import Tensor

from q_align.readout import READOUTS, LevelWords
from q_align.types import Score


@READOUTS.register("top_level")
class TopLevel(LevelWords):
    """Trains as level words do; only what is made of the log-probabilities (N, K) differs."""

    kind = "top_level"

    def values(self, rows: np.ndarray) -> np.ndarray:
        return np.asarray(self.levels.values)[rows.argmax(-1)]  # (N,): for SRCC and PLCC while training

    def to_score(self, id: str, row: Tensor) -> Score:
        score = super().to_score(id, row)
        return score if score.error else replace(score, value=float(self.values(row.numpy()[None])[0]))

"""Another way to make one score of a video's frames: the median, which a few odd frames do not move.

    export PYTHONPATH=examples Q_ALIGN_PLUGINS=median_pool
    q-align train --config nano --data.train clips.csv --train.output_dir runs/median --media.pool median
    q-align score --model runs/median clip.mp4

The checkpoint remembers the pool. A model that was trained without it takes it from Python:

    scorer = Scorer.from_pretrained("nano", spec=MediaSpec(pool="median"))
"""

from __future__ import annotations

import numpy as np

from q_align.score.pooling import pooling


@pooling("median")
def median(values: np.ndarray) -> float:
    """(n,) scores of single frames, on the level scale -> the score of the video."""
    return float(np.median(values))

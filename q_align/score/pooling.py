"""How the scores of a video's frames become one score (`media.pool`): mean, min, p10, or one that was registered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean

import numpy as np

from q_align.levels import LevelScheme
from q_align.registry import Registry
from q_align.types import Score

Pool = Callable[[np.ndarray], float]  # (n,) values of frames -> one value; higher is better
POOLS: Registry[Pool] = Registry("pool", "q_align.pools", key="media.pool")


@POOLS.register("mean")
def mean(values: np.ndarray) -> float:
    """The arithmetic mean."""
    return float(values.mean())


@POOLS.register("min")
def minimum(values: np.ndarray) -> float:
    """The worst frame."""
    return float(values.min())


@POOLS.register("p10")
def lowest_tenth(values: np.ndarray) -> float:
    """The 10th percentile: bad moments weigh more than good ones, a single bad frame does not decide."""
    return float(np.percentile(values, 10))


def pool_frames(scores: Sequence[Score], name: str, levels: LevelScheme) -> Score:
    """One score of the scores of a video's frames.

    Args:
        scores: one per frame; a frame without a score makes the video one without.
        name: of the pool. "mean" keeps the mean level distribution; others have a value only.
        levels: names the level of the value.

    Raises:
        ConfigError: for an unknown pool.
    """
    pool = POOLS[name]
    failed = next((score for score in scores if score.value is None), None)
    if failed is not None:
        return Score(failed.id, error=failed.error)
    value = pool(np.array([score.value for score in scores]))
    masses = [score.mass for score in scores if score.mass is not None]
    mass = fmean(masses) if masses else None
    probs = [score.probs for score in scores if score.probs is not None]
    if name == "mean" and len(probs) == len(scores):
        shares = np.mean(probs, axis=0)
        word, spread = levels.words[int(shares.argmax())], float(levels.std(shares))
        return Score(scores[0].id, value, word, tuple(float(share) for share in shares), spread, mass)
    return Score(scores[0].id, value, levels.words[int(levels.hard(value))], mass=mass)

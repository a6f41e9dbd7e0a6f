"""Pooling: how the scores of single frames become the score of a video (`MediaSpec.pool`, --pool).

"model" is no function: the model sees all frames together, as in Q-Align. The others score each frame by itself.
A function of your own is registered as in `q_align.registry`: @pooling("median"), or an entry point of `q_align.pools`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean

import numpy as np

from q_align.errors import ConfigError
from q_align.levels import LevelScheme
from q_align.registry import Registry
from q_align.types import Score

MODEL = "model"
Pooling = Callable[[np.ndarray], float]  # (n,) float64 values of the frames, in order, n >= 1 -> one value

POOLINGS: Registry[Pooling] = Registry("pooling", "q_align.pools", key="media.pool, --pool")
pooling = POOLINGS.register


def pool(values: np.ndarray, name: str) -> float:
    """One value for the frames of a video.

    Args:
        values: (n,) scores of the frames, in order, n >= 1.
        name: of a registered pooling.

    Raises:
        ConfigError: for an unknown name, or "model", which pools no scores.
    """
    check_pooling(name)
    if name == MODEL:
        raise ConfigError("pooling 'model' has no frame scores to pool: the model sees all frames together")
    return float(POOLINGS[name](np.asarray(values, dtype=np.float64)))


def check_pooling(name: str) -> None:
    """Raises:
    ConfigError: when there is no pooling of that name.
    """
    if name != MODEL and name not in POOLINGS:
        raise POOLINGS.unknown(name, also=(MODEL,))


@pooling("mean")
def mean_pooling(values: np.ndarray) -> float:
    return float(values.mean())


@pooling("min")
def min_pooling(values: np.ndarray) -> float:
    return float(values.min())


@pooling("p10")
def p10_pooling(values: np.ndarray) -> float:
    """The 10th percentile, linearly interpolated: the worst moments without the single worst frame."""
    return float(np.percentile(values, 10))


def pool_frames(scores: Sequence[Score], name: str, levels: LevelScheme) -> Score:
    """One score of the scores of a video's frames.

    Args:
        scores: one per frame; a frame without a score makes the video one without.
        name: of the pooling. "mean" keeps the mean level distribution; the others give a value only.
        levels: names the level of the value.

    Raises:
        ConfigError: for an unknown pooling.
    """
    failed = next((score for score in scores if score.value is None), None)
    if failed is not None:
        return Score(failed.id, error=failed.error)
    value = pool(np.array([score.value for score in scores]), name)
    masses = [score.mass for score in scores if score.mass is not None]
    mass = fmean(masses) if masses else None
    probs = [score.probs for score in scores if score.probs is not None]
    if name == "mean" and len(probs) == len(scores):
        shares = np.mean(probs, axis=0)
        word, std = levels.words[int(shares.argmax())], float(levels.std(shares))
        return Score(scores[0].id, value, word, tuple(float(share) for share in shares), std, mass)
    return Score(scores[0].id, value, levels.words[int(levels.hard(value))], mass=mass)

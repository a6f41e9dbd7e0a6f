"""Text levels: how MOS become level words, and how probabilities of level words become scores. numpy only.

Sources: Q-Align (Wu et al., ICML 2024), sections 3.2 (conversion) and 3.4 (inference); DeQA-Score (You et al.,
CVPR 2025; soft labels).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from q_align.errors import ConfigError

WORDS = ("excellent", "good", "fair", "poor", "bad")
VALUES = (5.0, 4.0, 3.0, 2.0, 1.0)
# DeQA-Score's bounds on a scale 1..5: below this std, or beyond this error of the mean, two levels are better.
MIN_STD, MAX_SHIFT = 0.2, 0.1
# Steps from the lowest to the highest number of a number answer: 1.0, 1.1, ... 5.0.
STEPS = 40


@dataclass(frozen=True, slots=True)
class LevelScheme:
    """K level words with their values, best first.

    The level scale runs from min(values) to max(values); MOS are mapped onto it (`to_scale`) before anything else.

    Raises:
        ConfigError: for fewer than two levels, repeated words, or values that do not strictly fall.
    """

    words: tuple[str, ...] = WORDS
    values: tuple[float, ...] = VALUES

    def __post_init__(self) -> None:
        # Lists come from JSON and YAML; tuples keep the scheme hashable.
        object.__setattr__(self, "words", tuple(self.words))
        object.__setattr__(self, "values", tuple(float(v) for v in self.values))
        if len(self.words) < 2 or len(self.words) != len(self.values):
            raise ConfigError(
                f"levels need at least two words and one value each, got {len(self.words)} words and "
                f"{len(self.values)} values (readout.words, readout.values)"
            )
        if len(set(self.words)) != len(self.words):
            raise ConfigError(f"level words must differ, got {self.words} (readout.words)")
        if not all(a > b for a, b in zip(self.values, self.values[1:])):
            raise ConfigError(f"level values must strictly fall, best level first, got {self.values} (readout.values)")

    @property
    def low(self) -> float:
        return self.values[-1]

    @property
    def high(self) -> float:
        return self.values[0]

    def to_scale(self, mos: Any, mos_range: tuple[float, float], *, higher_is_better: bool = True) -> np.ndarray:
        """MOS of a data set with range (min, max) -> the level scale, affinely; DMOS are reversed here."""
        low, high = mos_range
        share = (np.asarray(mos, dtype=np.float64) - low) / (high - low)
        if not higher_is_better:
            share = 1.0 - share
        return self.low + share * (self.high - self.low)

    @property
    def even(self) -> bool:
        """Whether neighbouring values are equally far apart."""
        gaps = -np.diff(self.values)
        return bool(np.allclose(gaps, gaps.mean(), rtol=1e-9, atol=0))

    def hard(self, mos: Any) -> Any:
        """Index (0 = best) of the level of each MOS; a MOS on a border belongs to the lower level.

        Even values: K equal intervals over the scale (Q-Align). Uneven values: the nearest value, so that the label
        agrees with the expected value as which a score is read.

        Args:
            mos: scalar or array on the level scale; values beyond its ends count as the end levels.
        """
        k = len(self.words)
        share = (np.asarray(mos, dtype=np.float64) - self.low) / (self.high - self.low)
        # ceil - 1 puts a MOS that sits on a border into the lower level, as L(s) = l_i for m_{i-1} < s <= m_i does.
        # 1e-9: range arithmetic leaves borders like 2.6 a rounding error above themselves.
        if self.even:
            step = np.clip(np.ceil(share * k - 1e-9).astype(int) - 1, 0, k - 1)
        else:
            values = np.asarray(self.values[::-1])
            borders = ((values[:-1] + values[1:]) / 2 - self.low) / (self.high - self.low)
            step = np.searchsorted(borders, share - 1e-9, side="left")
        return k - 1 - step

    def linear(self, mos: Any) -> np.ndarray:
        """Two-level label (..., K): the two neighbours of a MOS share it linearly, so that the mean is the MOS."""
        values = np.asarray(self.values)
        mos = np.clip(np.asarray(mos, dtype=np.float64), self.low, self.high)[..., None]
        # Each level is a hat function over its neighbours; at the ends only one side exists.
        gaps = -np.diff(values)
        up = np.concatenate([[np.inf], gaps])
        down = np.concatenate([gaps, [np.inf]])
        return np.clip(np.minimum(1 - (mos - values) / up, 1 + (mos - values) / down), 0.0, 1.0)

    def soft(self, mos: Any, std: Any = None) -> np.ndarray:
        """Soft label (..., K) of a MOS and the standard deviation of its opinions, by the method of DeQA-Score.

        A Gaussian is read at the level values, p becomes alpha p + beta so that it sums to 1 and keeps the MOS as its
        mean, and is clipped at 0. The two-level label is returned where the std is unknown (None, NaN) or small, and
        where clipping moved the mean too far.

        Args:
            mos: scalar or array on the level scale; clipped to its ends.
            std: the same shape, on the level scale.

        Raises:
            ConfigError: for a negative std.
        """
        values = np.asarray(self.values)
        mos = np.clip(np.asarray(mos, dtype=np.float64), self.low, self.high)
        std = np.broadcast_to(np.asarray(np.nan if std is None else std, dtype=np.float64), mos.shape)
        if (std < 0).any():
            raise ConfigError(f"std of opinions must be >= 0, got {std.min():g}")
        unit = (self.high - self.low) / 4
        usable = std >= MIN_STD * unit  # False for NaN
        sigma = np.where(usable, std, unit)[..., None]
        # alpha + K beta = 1 and alpha m + beta sum(v) = mos, with m the mean of raw and c the mean of the values. A MOS
        # of exactly c makes both the same equation; the limit is taken just beside it.
        centre = values.mean()
        beside = np.where(np.abs(mos - centre) < 1e-7 * unit, centre + 1e-7 * unit, mos)
        raw = _density(values, beside[..., None], sigma)
        raw = raw / raw.sum(-1, keepdims=True)
        with np.errstate(divide="ignore", invalid="ignore"):
            alpha = (beside - centre) / (raw @ values - centre)
        # Uneven values can ask for the Gaussian upside down; the two-level label is better there.
        usable = usable & np.isfinite(alpha) & (alpha > 0)
        alpha = np.where(usable, alpha, 1.0)[..., None]
        probs = np.maximum(alpha * raw + (1 - alpha) / len(values), 0.0)
        probs = probs / probs.sum(-1, keepdims=True)
        # 1e-9: 1.9 and 4.1 are both 0.1 off, whatever their last digit
        usable = usable & (np.abs(probs @ values - mos) <= (MAX_SHIFT + 1e-9) * unit)
        return np.where(usable[..., None], probs, self.linear(mos))

    def from_votes(self, votes: Any) -> np.ndarray:
        """Vote histograms (..., bins), lowest mark first -> shares per level (..., K), best level first.

        The marks are spread evenly over the level scale and each one's votes go to its two neighbouring levels
        (`linear`), so the mean opinion is kept exactly for any number of bins; K bins are kept as they are.

        Raises:
            ConfigError: for fewer than two bins, a negative or infinite count, or a histogram without votes.
        """
        votes = np.asarray(votes, dtype=np.float64)
        if votes.ndim == 0 or votes.shape[-1] < 2:
            raise ConfigError(f"a vote histogram has at least two bins, got shape {votes.shape}")
        total = votes.sum(-1, keepdims=True)
        if (votes < 0).any() or not np.isfinite(votes).all() or (total <= 0).any():
            raise ConfigError("vote counts must be finite, >= 0, and not all zero in a row")
        return (votes / total) @ self.linear(np.linspace(self.low, self.high, votes.shape[-1]))

    def expect(self, probs: Any) -> Any:
        """Expected value sum_k p_k v_k of level probabilities (..., K) -> (...), on the level scale."""
        return np.asarray(probs, dtype=np.float64) @ np.asarray(self.values)

    def std(self, probs: Any) -> Any:
        """Standard deviation of the level distribution (..., K) -> (...), on the level scale."""
        probs = np.asarray(probs, dtype=np.float64)
        values = np.asarray(self.values)
        variance = probs @ values**2 - (probs @ values) ** 2
        return np.sqrt(np.maximum(variance, 0.0))

    def number_texts(self) -> list[str]:
        """The numbers that a model can answer in place of a level word: STEPS + 1 of one format, lowest first."""
        step = (self.high - self.low) / STEPS
        digits = next((d for d in range(8) if round(step, d) == round(step, 8)), 8)
        return [f"{self.low + i * step:.{digits}f}" for i in range(STEPS + 1)]

    def format_number(self, mos: float) -> str:
        """The nearest of `number_texts` for a MOS on the level scale."""
        share = (min(max(float(mos), self.low), self.high) - self.low) / (self.high - self.low)
        return self.number_texts()[round(share * STEPS)]


def _density(values: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    z = (values - mean) / std
    # Relative to the largest: far from every value all densities would underflow together.
    return np.exp(-0.5 * (z**2 - (z**2).min(-1, keepdims=True)))

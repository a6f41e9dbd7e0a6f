"""Text levels: how opinion scores become words, and how probabilities of words become scores.

Knows numbers and words; no tokenizer, no model, no data set. numpy only.
Source: Q-Align (Wu et al., ICML 2024), sections 3.2 (conversion) and 3.4 (inference).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from q_align.errors import ConfigError

WORDS = ("excellent", "good", "fair", "poor", "bad")
VALUES = (5.0, 4.0, 3.0, 2.0, 1.0)


@dataclass(frozen=True, slots=True)
class LevelScheme:
    """K level words with their values, best first.

    The level scale runs from min(values) to max(values); MOS are brought onto it (`to_scale`) before anything else.

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
                f"{len(self.values)} values (levels.words, levels.values)"
            )
        if len(set(self.words)) != len(self.words):
            raise ConfigError(f"level words must differ, got {self.words} (levels.words)")
        if not all(a > b for a, b in zip(self.values, self.values[1:])):
            raise ConfigError(f"level values must strictly fall, best level first, got {self.values} (levels.values)")

    @property
    def low(self) -> float:
        return self.values[-1]

    @property
    def high(self) -> float:
        return self.values[0]

    def to_scale(self, mos: Any, mos_range: tuple[float, float], *, higher_is_better: bool = True) -> np.ndarray:
        """MOS of a data set with range (min, max) -> the level scale, affinely; DMOS are turned round here, once."""
        low, high = mos_range
        share = (np.asarray(mos, dtype=np.float64) - low) / (high - low)
        if not higher_is_better:
            share = 1.0 - share
        return self.low + share * (self.high - self.low)

    def hard(self, mos: Any) -> Any:
        """Index (0 = best) of the level of each MOS: K equal intervals over the scale, upper bounds included.

        Args:
            mos: scalar or array on the level scale; values beyond its ends count as the end levels.
        """
        k = len(self.words)
        share = (np.asarray(mos, dtype=np.float64) - self.low) / (self.high - self.low)
        # ceil - 1 puts a MOS that sits on a border into the lower level, as L(s) = l_i for m_{i-1} < s <= m_i does.
        # 1e-9: range arithmetic leaves borders like 2.6 a rounding error above themselves.
        step = np.clip(np.ceil(share * k - 1e-9).astype(int) - 1, 0, k - 1)
        return k - 1 - step

    def expect(self, probs: Any) -> Any:
        """Expected value sum_k p_k v_k of level probabilities (..., K) -> (...), on the level scale."""
        return np.asarray(probs, dtype=np.float64) @ np.asarray(self.values)

    def spread(self, probs: Any) -> Any:
        """Standard deviation of the level distribution (..., K) -> (...), on the level scale."""
        probs = np.asarray(probs, dtype=np.float64)
        values = np.asarray(self.values)
        variance = probs @ values**2 - (probs @ values) ** 2
        return np.sqrt(np.maximum(variance, 0.0))

"""Simulated people: a latent quality becomes the votes of a panel, their mean and their spread.

Everyone has a bias, a strictness and an unsteady hand, and votes with whole levels, as in a laboratory. Knows numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Panel:
    """Attributes:
    bias: (R,) each rater's offset in levels.
    stretch: (R,) how much of the scale each uses.
    unsteady: standard deviation of a single vote in levels.
    """

    bias: np.ndarray
    stretch: np.ndarray
    unsteady: float = 0.5

    @classmethod
    def draw(cls, seed: int, raters: int = 24, *, unsteady: float = 0.5) -> Panel:
        rng = np.random.default_rng((seed, 77))
        bias = rng.normal(0, 0.3, raters)
        # a panel is unbiased on the whole, so that two panels agree
        return cls(bias - bias.mean(), rng.normal(1.0, 0.12, raters), unsteady)

    def vote(self, quality: float, rng: np.random.Generator) -> tuple[float, float]:
        """Opinions on one picture.

        Args:
            quality: 0 (ruined) .. 1 (flawless).
            rng: of the unsteady hands.

        Returns:
            Mean opinion score and standard deviation of whole votes, 1 (bad) .. 5 (excellent).
        """
        middle = 3 + 4 * (quality - 0.5) * self.stretch + self.bias
        votes = np.clip(np.round(middle + rng.normal(0, self.unsteady, len(self.bias))), 1, 5)
        return float(votes.mean()), float(votes.std(ddof=1))

"""Simulated raters: a latent quality becomes the votes of a panel, their mean and standard deviation.

Each rater has a bias, a stretch of the scale and noise, and votes in whole levels, as in a laboratory.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Panel:
    """Attributes:
    bias: (R,) each rater's offset in levels.
    stretch: (R,) how much of the scale each rater uses.
    vote_noise: standard deviation of a single vote in levels.
    """

    bias: np.ndarray
    stretch: np.ndarray
    vote_noise: float = 0.5

    @classmethod
    def draw(cls, seed: int, raters: int = 24, *, vote_noise: float = 0.5) -> Panel:
        rng = np.random.default_rng((seed, 77))
        bias = rng.normal(0, 0.3, raters)
        # a panel is unbiased on the whole, so that two panels agree
        return cls(bias - bias.mean(), rng.normal(1.0, 0.12, raters), vote_noise)

    def vote(self, quality: float, rng: np.random.Generator) -> tuple[float, float]:
        """The ratings of one image.

        Args:
            quality: 0 (ruined) .. 1 (flawless).
            rng: of the noise.

        Returns:
            Mean opinion score and standard deviation of whole votes, 1 (bad) .. 5 (excellent).
        """
        middle = 3 + 4 * (quality - 0.5) * self.stretch + self.bias
        votes = np.clip(np.round(middle + rng.normal(0, self.vote_noise, len(self.bias))), 1, 5)
        return float(votes.mean()), float(votes.std(ddof=1))

"""What a loss is: a pure function from a prediction and its targets to named scalars."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(slots=True)
class Prediction:
    """What a readout read about a batch of B items; fields that it does not offer are None.

    Attributes:
        value: (B,) float32 predicted value on the level scale; higher is better.
        level_logp: (B, K) float32 log-probability of each level word under the full vocabulary, at the position
            where the level word belongs, best level first. `level_logp.softmax(-1)` is the level distribution;
            `level_logp.exp().sum(-1)` is the mass that the vocabulary gives to the levels.
        nll: (B,) float32 negative log-likelihood of each supervised answer, summed over its tokens; None when
            nothing is supervised (scoring).
        tokens: (B,) number of supervised tokens of each answer.
    """

    value: Tensor | None = None
    level_logp: Tensor | None = None
    nll: Tensor | None = None
    tokens: Tensor | None = None

    @property
    def probs(self) -> Tensor:
        assert self.level_logp is not None, "this readout has no level distribution"
        return self.level_logp.softmax(-1)  # (B, K)


@dataclass(slots=True)
class Targets:
    """The ratings of a batch of B items.

    Attributes:
        level: (B,) long, index of the hard level, best level first.
        probs: (B, K) float32, soft label over the levels.
        mos: (B,) float32 on the level scale.
        std: (B,) float32 on the level scale; NaN where it is unknown.
        source: (B,) long; ratings are compared within one source only.
        values: (K,) float32, value of each level, best first.
    """

    level: Tensor
    probs: Tensor
    mos: Tensor
    std: Tensor
    source: Tensor
    values: Tensor


# Scalars by name; the trainer adds them up and logs each one.
Loss = Callable[[Prediction, Targets], dict[str, Tensor]]

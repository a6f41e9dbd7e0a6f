"""What a loss is: a pure function from what the model predicted and what people said to named losses.

Knows tensors only: no tokenizer, no data set, no model, no trainer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(slots=True)
class Prediction:
    """What the model says about a batch of B media.

    Attributes:
        level_logp: (B, K) float32 log-probability of each level word under the full vocabulary, at the position
            where the level word belongs, best level first. `level_logp.softmax(-1)` is the level distribution;
            `level_logp.exp().sum(-1)` is the mass that the vocabulary gives to the levels.
        nll: (B,) float32 negative log-likelihood of each supervised answer, summed over its tokens; None when
            nothing is supervised (scoring).
        tokens: (B,) number of supervised tokens of each answer.
    """

    level_logp: Tensor
    nll: Tensor | None = None
    tokens: Tensor | None = None

    @property
    def probs(self) -> Tensor:
        return self.level_logp.softmax(-1)  # (B, K)


@dataclass(slots=True)
class Targets:
    """What people said about a batch of B media.

    Attributes:
        level: (B,) long, index of the hard level, best level first.
        probs: (B, K) float32, soft label over the levels.
        mos: (B,) float32 on the level scale.
        std: (B,) float32 on the level scale; NaN where it is unknown.
        source: (B,) long; opinions are compared within one source only.
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

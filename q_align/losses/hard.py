"""Hard losses: the answer as the paper teaches it, the level word alone, and neighbours with a small share.

Knows tensors only: no tokenizer, no data set, no trainer.
"""

from __future__ import annotations

import torch
from torch import Tensor

from q_align.losses.base import Prediction, Targets


def hard(prediction: Prediction, targets: Targets) -> dict[str, Tensor]:
    """Next-token loss over the whole answer: mean over all supervised tokens of the batch (Q-Align)."""
    assert prediction.nll is not None and prediction.tokens is not None, "training batches carry an answer"
    return {"hard": prediction.nll.sum() / prediction.tokens.sum()}


def level_only(prediction: Prediction, targets: Targets) -> dict[str, Tensor]:
    """Cross-entropy of the level word alone, against the full vocabulary, so that the mass on levels is taught too."""
    return {"level_only": -prediction.level_logp.gather(1, targets.level[:, None]).mean()}


def ordinal(prediction: Prediction, targets: Targets, *, smooth: float = 0.1) -> dict[str, Tensor]:
    """Cross-entropy with `smooth` of the hard level's share moved to its neighbours, half to each.

    At the ends of the scale the missing neighbour's half stays with the level itself.
    """
    label = smoothed(targets.level, prediction.level_logp.shape[1], smooth, prediction.level_logp.dtype)
    return {"ordinal": -(label * prediction.level_logp).sum(1).mean()}


def smoothed(level: Tensor, levels: int, smooth: float, dtype: torch.dtype) -> Tensor:
    """(B,) hard levels -> (B, K) labels; rows sum to 1."""
    distance = (torch.arange(levels, device=level.device) - level[:, None]).abs()  # (B, K)
    label = (distance == 1).to(dtype) * (smooth / 2)
    return label + (distance == 0) * (1 - label.sum(1, keepdim=True))

"""Losses of the soft label: the model's level distribution against that of the raters (KL), or its cumulation (EMD)."""

from __future__ import annotations

import torch
from torch import Tensor

from q_align.losses.base import Prediction, Targets, level_logp_of, loss


@loss("soft", needs=("level_logp",))
def soft_loss(prediction: Prediction, targets: Targets) -> dict[str, Tensor]:
    """KL divergence of the raters' distribution from the model's, over the full vocabulary (DeQA-Score).

    The label is 0 outside the level words, so the loss is the KL among the levels plus -log(mass on the levels): a
    one-hot label gives exactly `level_only`. DeQA-Score renormalises over the levels instead and adds a small
    next-token loss; here one term does both.
    """
    # xlogy(0, 0) = 0, so levels without a share count nothing
    entropy = torch.xlogy(targets.probs, targets.probs).sum(1)  # (B,)
    return {"soft": (entropy - (targets.probs * level_logp_of(prediction)).sum(1)).mean()}


@loss("emd", needs=("level_logp",))
def emd_loss(prediction: Prediction, targets: Targets, *, eps: float = 1e-8) -> dict[str, Tensor]:
    """Root of the mean squared difference of the cumulative distributions over the levels (NIMA, equation 1, r = 2)."""
    gap = (prediction.probs - targets.probs).cumsum(1)  # (B, K)
    # + eps: sqrt has an infinite gradient at 0
    return {"emd": (gap.square().mean(1) + eps).sqrt().mean()}
